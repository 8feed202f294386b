"""What keeps a rule whose weights are non-negative and sum to 1 from dropping a site, or from following one alone.

Every such rule passes here. A site that did not say what the rule asks for counts with its cohort, exactly: one that
protects its patients must not lose by it. The others share the rest as the rule says, each within ``least`` and
``most`` of its cohort's share: whoever reports a large loss, rightly or not, cannot take the study over.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from server_app.weighting.bounds import scaled
from server_app.weighting.heard import Heard, SiteReport, State, Weighed, Weights

Mask = NDArray[np.bool_]
Change = Callable[[Weights, Mask], Weights]
"""From where H of S sites are, and bool[S] which they are, to float64[H] in any scale; below 0 counts as 0."""

_MULTIPLES = "multiples"


def shares(reports: Sequence[SiteReport]) -> Weights:
    """Return float64[S], each site's share of the declared patients of all; they sum to 1."""
    return normalised(np.array([report.declared_patients for report in reports], dtype=np.float64))


def normalised(sizes: Weights) -> Weights:
    """Return sizes over their sum."""
    weights: Weights = sizes / sizes.sum()
    return weights


def least(share: Weights) -> Weights:
    """Return the least weight of each site: a fifth of its share."""
    return 0.2 * share


def most(share: Weights) -> Weights:
    """Return the largest weight of each site: 3 times its share, and no majority but 1.5 times its share.

    The last keeps a rule alive in a study of two sites, where one of them always has a half or more.
    """
    limit: Weights = np.minimum(np.minimum(3 * share, np.maximum(0.5, 1.5 * share)), 1.0)
    return limit


def guarded(heard: Heard, is_heard: Mask, change: Change, *, start: Weights | None = None) -> Weighed:
    """Return the weights that a rule makes of where the sites start, within the guards.

    Args:
        heard: What the rule was told.
        is_heard: bool[S], the sites that said what it needs.
        change: The rule.
        start: float64[S] where it starts from; the shares where it keeps nothing between rounds.

    Returns:
        Weights and the sites that have fallen back; no state.

    Guarantees:
        Weights are finite, non-negative and sum to 1, whatever the rule makes of one site. A rule that changes
        nothing gives the shares, bit by bit.
    """
    prior = shares(heard.reports)
    weights = prior.copy()
    if is_heard.any():
        mass = prior[is_heard].sum()
        raw = np.maximum(change((prior if start is None else start)[is_heard], is_heard), 0.0)
        if not np.isfinite(raw).all():  # what no weight can be made of was not said
            usable = is_heard.copy()
            usable[is_heard] = np.isfinite(raw)
            return guarded(heard, usable, change, start=start)
        weights[is_heard] = scaled(raw * (mass / raw.sum()), least(prior[is_heard]), most(prior[is_heard]))
    missing = tuple(report.site for report, known in zip(heard.reports, is_heard, strict=True) if not known)
    return Weighed(weights, fallen_back=missing)


def remembered(heard: Heard) -> Weights:
    """Return float64[S], what ``kept`` kept; a site that is new starts with its share."""
    multiples = heard.state.get(_MULTIPLES, {})
    start: Weights = shares(heard.reports) * np.array([multiples.get(report.site, 1.0) for report in heard.reports])
    return start


def is_remembered(heard: Heard) -> Mask:
    """Return bool[S], the sites of which something was kept."""
    multiples = heard.state.get(_MULTIPLES, {})
    return np.array([report.site in multiples for report in heard.reports], dtype=bool)


def kept(heard: Heard, weights: Weights, is_heard: Mask) -> State:
    """Return the state that holds these weights, as multiples of the shares, so that sites may come and go.

    A site that is absent, or was not heard, keeps what it had.
    """
    multiples = dict(heard.state.get(_MULTIPLES, {}))
    prior = shares(heard.reports)
    for report, weight, share, known in zip(heard.reports, weights, prior, is_heard, strict=True):
        if known:
            multiples[report.site] = float(weight / share)
    return {_MULTIPLES: multiples}
