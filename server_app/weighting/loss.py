"""Rules that look at the loss of each site's audit patients under the model that the site has received."""

from collections.abc import Callable, Mapping

import numpy as np

from server_app.weighting.bounds import nearest
from server_app.weighting.guards import guarded, kept, remembered, shares
from server_app.weighting.heard import Heard, Weighed, Weights
from server_app.weighting.precision import Values, shrunk, told


def power(heard: Heard, *, q: float) -> Weighed:
    """Weigh by share times loss^q: the direction of q-FFL (Li et al. 2020, arXiv:1905.10497, equation 2).

    The published step (its algorithm 2) divides by an estimate of curvature that makes it vanish after Adam or for
    adapters; here the direction is kept, and the step is that of an average.

    Args:
        heard: Losses.
        q: At least 0; 0 is ``cohort``, 1 suits cross-entropies, more follows the worst site.
    """
    found = losses(heard)
    return guarded(heard, np.isfinite(found), lambda share, known: powered(share, found[known], q=q))


def powered(share: Weights, found: Values, *, q: float) -> Weights:
    """Return share times (loss / largest loss)^q."""
    largest = found.max()
    raw: Weights = share * (found / largest if largest > 0 else np.ones_like(found)) ** q
    return raw


def tilt(heard: Heard, *, t: float) -> Weighed:
    """Weigh by share times e^(t loss) (TERM, Li et al. 2021, arXiv:2007.01162, lemma 1).

    Args:
        heard: Losses.
        t: At least 0; 0 is ``cohort``.
    """
    found = losses(heard)
    return guarded(heard, np.isfinite(found), lambda share, known: tilted(share, found[known], t=t))


def tilted(share: Weights, found: Values, *, t: float) -> Weights:
    """Return share times e^(t (loss - largest loss))."""
    raw: Weights = share * np.exp(t * (found - found.max()))
    return raw


def propfair(heard: Heard, *, ceiling: float) -> Weighed:
    """Weigh by share / (ceiling - loss), the gradient of proportional fairness (Zhang et al. 2022, arXiv:2202.01666).

    Args:
        heard: Losses.
        ceiling: The loss at which a site would count without end; above every loss that can be told.
    """
    found = losses(heard)
    return guarded(heard, np.isfinite(found), lambda share, known: share / (ceiling - found[known]))


def dro(heard: Heard, *, gamma: float, form: str) -> Weighed:
    """Move the weights of the last round towards the sites that lose more, for the worst mixture of sites.

    Args:
        heard: Losses, and the weights of the last round.
        gamma: Step per nat; 0 is ``cohort``.
        form: ``exponentiated`` or ``projected``.

    Source:
        Agnostic federated learning (Mohri, Sivek and Suresh 2019, arXiv:1902.00146, algorithm 1), ``projected``;
        with the exponential step of Sagawa et al. (2020, arXiv:1911.08731, algorithm 1), ``exponentiated``.
    """
    found, move = losses(heard), MOVES[form]
    is_heard = np.isfinite(found)
    weighed = guarded(
        heard, is_heard, lambda start, known: move(start, found[known], gamma=gamma), start=remembered(heard)
    )
    return Weighed(weighed.weights, kept(heard, weighed.weights, is_heard), weighed.fallen_back)


def exponentiated(start: Weights, found: Values, *, gamma: float) -> Weights:
    """Return weight times e^(gamma loss), in any scale; never 0."""
    return tilted(start, found, t=gamma)


def projected(start: Weights, found: Values, *, gamma: float) -> Weights:
    """Return weight plus gamma times loss, projected to the weights that are non-negative and sum as before."""
    total = float(start.sum())
    moved = start + gamma * (found - found.mean())  # the projection does not see the mean
    return nearest(moved, np.zeros_like(start), np.full_like(start, total), total=total)


MOVES: Mapping[str, Callable[..., Weights]] = {"exponentiated": exponentiated, "projected": projected}


def losses(heard: Heard) -> Values:
    """Return float64[S], each site's loss as far as it can be believed; not-a-number where it was not told."""
    values, deviations = told([report.loss for report in heard.reports])
    known = np.isfinite(values)
    if known.any():
        centre = float(np.average(values[known], weights=shares(heard.reports)[known]))
        values[known] = shrunk(values[known], deviations[known], centre=centre)
    return values
