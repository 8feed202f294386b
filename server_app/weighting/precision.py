"""How far a noisy signal is believed: as far as the sites differ by more than their noise."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from server_app.weighting.heard import Signal

Values = NDArray[np.float64]

_EXACT = 1e-9  # a deviation below it is that of rounding: losses and gaps are of order 1
_LEAST_SHARE = 1e-6  # of the largest variance; what is below it counts as exact, or one site would speak for all


def told(signals: Sequence[Signal | None]) -> tuple[Values, Values]:
    """Return float64[S] values and the deviations of their noise; not-a-number where a site said nothing usable."""
    pairs = [(np.nan, np.nan) if signal is None else (signal.value, signal.sd) for signal in signals]
    values, deviations = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    is_usable = np.isfinite(values) & np.isfinite(deviations) & (deviations >= 0)
    return np.where(is_usable, values, np.nan), np.where(is_usable, deviations, np.nan)


def between_sites(values: Values, deviations: Values) -> float:
    """Estimate the variance between sites, without that of their noise, by moments.

    Source:
        DerSimonian and Kacker (2007), equation 6, whose weights may be any: 1 / (deviation^2 + v), v the smallest
        noise there is, which is near DerSimonian and Laird (1986) and stays finite for exact values, and for those
        that are as good as exact beside the others.

    Args:
        values: float64[S].
        deviations: float64[S] of the noise; not all 0.

    Guarantees:
        Finite and not negative, whatever noise a site states.
    """
    if len(values) < 2:
        return 0.0
    noise = _variances(deviations)
    trust = 1 / (noise + noise[noise >= _LEAST_SHARE * noise.max()].min())
    mean = (trust * values).sum() / trust.sum()
    expected = (trust * noise).sum() - (trust**2 * noise).sum() / trust.sum()
    scale = trust.sum() - (trust**2).sum() / trust.sum()
    return max(0.0, float(((trust * (values - mean) ** 2).sum() - expected) / scale))


def shrunk(values: Values, deviations: Values, *, centre: float) -> Values:
    """Return k value + (1 - k) centre, k = t^2 / (t^2 + deviation^2), t^2 the variance between sites.

    Args:
        values: float64[S] of the sites that said something.
        deviations: float64[S] of their noise.
        centre: What a site is taken to have of which nothing is known.

    Guarantees:
        Exact values, of deviation 0, come back as they are.
    """
    if not (_variances(deviations) > 0).any():
        return values
    return believed(values, deviations, centre=centre, between=between_sites(values, deviations))


def believed(values: Values, deviations: Values, *, centre: float, between: float) -> Values:
    """Return ``shrunk`` for a known variance between sites."""
    noise = _variances(deviations)
    trust = np.where(noise > 0, between / np.where(noise > 0, between + noise, 1.0), 1.0)
    drawn: Values = np.where(noise > 0, trust * values + (1 - trust) * centre, values)
    return drawn


def _variances(deviations: Values) -> Values:
    """Return the squares; 0 for what is no more than rounding, whose square might be lost."""
    squares: Values = np.where(deviations < _EXACT, 0.0, deviations) ** 2
    return squares
