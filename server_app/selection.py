"""Which sites take part in a round (Algorithm 1, line 5, is the call of one of these).

To add a rule: write a function with the signature of ``everyone``, add it to ``SELECTIONS``, say in ``fedfm.signals``
what it needs, and add ``conf/selection/<name>.yaml``. Further keyword-only arguments are the rule's parameters; their
ranges stand in ``fedfm.config.coherence.selection``.

Every rule answers the same for the same sites, round, seed and candidates, whatever the order of the sites; none picks
fewer than ``min_sites`` while there are so many; and with each, a site that stays is asked again and again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from server_app.weighting.heard import Signal

_PATIENCE = 4
"""A site is due after as many rounds as it takes to ask all sites so many times."""


@dataclass(frozen=True)
class Candidate:
    """What is known of a site before a round: public, or told by the site under its own noise.

    Attributes:
        declared_patients: Public, rounded cohort size.
        loss: As in ``server_app.weighting.heard.SiteReport``.
        spent: Share of the planned epsilon that training patients have spent in this run, as last told; 0 without.
        waited: Rounds since it was last asked to train, or since it joined.
        failures: Rounds in a row that brought no answer that could be used.
        since_failure: Rounds since the last of these; 1 is the round before.
    """

    declared_patients: int
    loss: Signal | None = None
    spent: float = 0.0
    waited: int = 1
    failures: int = 0
    since_failure: int = 0


@dataclass(frozen=True)
class Draw:
    """What a selection may look at besides the names of the sites.

    Attributes:
        round: 1-based number of the round.
        seed: The study's public seed.
        min_sites: Fewest sites that a round needs.
        candidates: Each site and what is known of it; only the rules that say so look at it.
    """

    round: int
    seed: int
    min_sites: int
    candidates: Mapping[str, Candidate] = field(default_factory=dict)


Selection = Callable[[Sequence[str], Draw], tuple[str, ...]]


def everyone(sites: Sequence[str], draw: Draw) -> tuple[str, ...]:
    """Select all sites."""
    return tuple(sorted(sites))


def fraction(sites: Sequence[str], draw: Draw, *, fraction: float) -> tuple[str, ...]:
    """Select a share of the sites at random, anew in each round (McMahan et al. 2017, arXiv:1602.05629, C).

    Args:
        sites: S names.
        draw: Round, seed and the fewest sites.
        fraction: Share in (0, 1]; rounded up.
    """
    ordered = sorted(sites)
    chosen = _chance(draw).choice(len(ordered), size=_size(ordered, draw, fraction), replace=False)
    return tuple(sorted(ordered[index] for index in chosen))


def power_of_choice(sites: Sequence[str], draw: Draw, *, fraction: float, candidates: int) -> tuple[str, ...]:
    """Draw some sites in proportion to their cohorts, and select those of them that fare worst.

    A site whose loss is not known stands at a place drawn at random among those whose loss is: withholding neither
    keeps a hospital out nor brings it in. A site that has not been asked for long is selected first, whatever its loss.

    Args:
        sites: S names.
        draw: Its candidates hold the losses.
        fraction: Share in (0, 1]; rounded up.
        candidates: How many are drawn, d; at least as many as are selected.

    Source: Cho, Wang and Joshi 2020, arXiv:2010.01243, section 4 (pi_pow-d).
    """
    ordered, chance = sorted(sites), _chance(draw)
    size = _size(ordered, draw, fraction)
    due = _due(ordered, draw, size)[:size]
    others = [site for site in ordered if site not in due]
    room = size - len(due)
    drawn = _in_proportion(others, draw, max(room, candidates - len(due)), chance) if room else []
    return tuple(sorted([*due, *_worst_first(drawn, draw, chance)[:room]]))


def budget_aware(sites: Sequence[str], draw: Draw, *, fraction: float, longest_rest: int) -> tuple[str, ...]:
    """Select the sites that have spent the smallest share of their planned epsilon, and that answer.

    After f rounds in a row without a usable answer a site rests for 2^(f - 1) rounds, and is asked earlier only where
    ``min_sites`` could not be reached without it. Equal shares, as in a study without privacy, are drawn at random.

    Args:
        sites: S names.
        draw: Its candidates hold shares and failures.
        fraction: Share in (0, 1]; rounded up.
        longest_rest: Most rounds that a site rests.
    """
    ordered = sorted(sites)
    size = _size(ordered, draw, fraction)
    coins = dict(zip(ordered, _chance(draw).random(len(ordered)).tolist(), strict=True))
    rest = {site: _rest(draw.candidates[site], longest_rest) for site in ordered}
    due = _due(ordered, draw, size)
    awake = sorted(
        (site for site in ordered if rest[site] <= 0),
        key=lambda site: (site not in due, draw.candidates[site].spent, coins[site]),
    )
    resting = sorted((site for site in ordered if rest[site] > 0), key=lambda site: (rest[site], coins[site]))
    missing = max(0, draw.min_sites - len(awake))
    return tuple(sorted([*awake[:size], *resting[:missing]]))


def _chance(draw: Draw) -> Generator:
    return np.random.default_rng((draw.seed, draw.round))


def _size(ordered: Sequence[str], draw: Draw, share: float) -> int:
    """Return how many a share is, never fewer than ``min_sites`` while there are so many."""
    return min(len(ordered), max(draw.min_sites, math.ceil(share * len(ordered))))


def _due(ordered: Sequence[str], draw: Draw, size: int) -> list[str]:
    """Return the sites that have waited too long, the longest waiting first."""
    patience = _PATIENCE * math.ceil(len(ordered) / max(1, size))
    due = [site for site in ordered if draw.candidates[site].waited >= patience]
    return sorted(due, key=lambda site: -draw.candidates[site].waited)


def _in_proportion(sites: Sequence[str], draw: Draw, count: int, chance: Generator) -> list[str]:
    cohorts = np.array([draw.candidates[site].declared_patients for site in sites], dtype=np.float64)
    drawn = chance.choice(len(sites), size=min(count, len(sites)), replace=False, p=cohorts / cohorts.sum())
    return [sites[index] for index in drawn]


def _worst_first(drawn: Sequence[str], draw: Draw, chance: Generator) -> list[str]:
    losses = {site: loss.value for site in drawn if (loss := draw.candidates[site].loss) is not None}
    known = sorted(losses, key=lambda site: (-losses[site], site))
    places = {site: (place + 0.5) / len(known) for place, site in enumerate(known)}
    for site in sorted(drawn):
        if site not in places:
            places[site] = chance.random()
    return sorted(places, key=lambda site: (places[site], site))


def _rest(candidate: Candidate, longest: int) -> int:
    """Return how many rounds, this one among them, a site still rests; 0 or less: it is awake."""
    if not candidate.failures:
        return 0
    doubled: int = 2 ** min(candidate.failures - 1, 30)  # longest is far below
    return min(doubled, longest) - candidate.since_failure + 1


SELECTIONS: Mapping[str, Callable[..., tuple[str, ...]]] = {
    "all": everyone,
    "fraction": fraction,
    "power_of_choice": power_of_choice,
    "budget_aware": budget_aware,
}
