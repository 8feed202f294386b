"""The rule that looks at the gap between groups of patients."""

import numpy as np

from server_app.weighting.guards import guarded, kept, remembered
from server_app.weighting.heard import Heard, Weighed, Weights
from server_app.weighting.precision import Values, shrunk, told


def fairfed(heard: Heard, *, attribute: str, beta: float, form: str) -> Weighed:
    """Weigh down the sites whose gap between groups is far from that of all patients together.

    It rewards a site for being like the others; where most are unfair, it keeps them so. What lowers the gap itself is
    reweighting at the site.

    Args:
        heard: Gaps of the sites and of all, and the weights of the last round.
        attribute: The protected attribute whose groups are compared; what the sites are asked to count.
        beta: How strongly; 0 is ``cohort``.
        form: ``exponential``: share times e^(-beta distance), in each round anew. ``clipped``: the weights of the last
            round minus beta (distance - mean distance), within the guards; without them it runs away.

    Source:
        FairFed (Ezzeldin et al. 2023, arXiv:2110.00857, equation 6) is ``clipped``; its first version ``exponential``.
    """
    values, deviations = told([report.gap for report in heard.reports])
    together, _ = told([heard.gap])
    is_heard = np.isfinite(values) & np.isfinite(together)
    centre = float(together[0])
    if form == "exponential":
        return guarded(
            heard,
            is_heard,
            lambda share, known: faded(share, distances(values[known], deviations[known], centre), beta=beta),
        )
    weighed = guarded(
        heard,
        is_heard,
        lambda start, known: moved(start, distances(values[known], deviations[known], centre), beta=beta),
        start=remembered(heard),
    )
    return Weighed(weighed.weights, kept(heard, weighed.weights, is_heard), weighed.fallen_back)


def distances(values: Values, deviations: Values, centre: float) -> Values:
    """Return how far each gap is from that of all patients, as far as its noise lets it be believed."""
    away: Values = np.abs(shrunk(values, deviations, centre=centre) - centre)
    return away


def faded(share: Weights, away: Values, *, beta: float) -> Weights:
    """Return share times e^(-beta (distance - least distance))."""
    raw: Weights = share * np.exp(-beta * (away - away.min()))
    return raw


def moved(start: Weights, away: Values, *, beta: float) -> Weights:
    """Return start minus beta (distance - mean distance); it may be below 0."""
    raw: Weights = start - beta * (away - away.mean())
    return raw
