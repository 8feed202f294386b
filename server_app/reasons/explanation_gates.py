"""Limits on the reasons of a round's models, on public examples: pure, over figures by document.

Each is judged by an interval, so that what few documents cannot tell raises no alarm; where several sites are judged
at once, their chances are adjusted together (Holm 1979). Intervals are of the documents (``fedfm.metrics.bootstrap``).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedfm.metrics import bootstrap
from fedfm.metrics.bootstrap import Figures
from fedfm.metrics.performance import Estimate

LOST = 0.05
"""How much comprehensiveness may fall, or sufficiency rise, before reasons may be lost; probabilities."""

EARLIER = 3
"""Rounds of which the best is what a round is held against."""

LEAST_LEVELS = 4
"""Fewest earlier rounds that say how much rounds usually move."""

LEAST_DRIFTS = 5
"""Fewest earlier drifts that say what is usual."""

LEAST_DRIFT = 0.05
"""Drift that is no news, however quiet the rounds before were."""

LEAST_SITES = 5
"""Fewest sites of which one can be unlike the others."""

MOST_PREDICTABLE = 0.7
"""Largest AUROC of telling a site from the reasons of its model."""

MOST_OF_ONE_MODALITY = 0.95
"""Largest share of all credit that may fall on one kind of input."""

CHANCE = 0.025
"""Chance of a false alarm of all comparisons together: what lies beyond one end of a 95 % interval."""


@dataclass(frozen=True)
class Gate:
    """What one limit says; the fields of the event ``GateJudged``.

    Attributes:
        gate: Its name.
        subject: The site that it is about; empty for the global model.
        passed: None where it cannot be judged.
        estimate: The figure with its 95 % interval; None where there is none.
        limit: What it is held against.
        reason: The same in plain words.
    """

    gate: str
    subject: str
    passed: bool | None
    estimate: Estimate | None
    limit: float
    reason: str


def unjudged(gate: Gate, reason: str) -> Gate:
    """Return the gate with its figure, and without a judgement for this reason."""
    return Gate(gate.gate, gate.subject, None, gate.estimate, gate.limit, reason)


def faithfulness(comprehensiveness: Figures, random_order: Figures, rng: np.random.Generator) -> Gate:
    """S1: credited words must matter more than words in random order: the lower end of the difference is above 0.

    Args:
        comprehensiveness: float64[N].
        random_order: float64[N] of the same documents.
        rng: Draws documents.
    """
    found = bootstrap.mean(comprehensiveness - random_order, rng)
    passed = found.low > 0
    reason = "the words that are credited matter more than words in random order"
    if not passed:
        reason = "it cannot be told that the words that are credited matter more than words in random order"
    return Gate("faithfulness", "", passed, found, 0.0, reason)


def faithfulness_of_sites(figures: Mapping[str, tuple[Figures, Figures]], rng: np.random.Generator) -> list[Gate]:
    """S1 of each site's own model: fails where words in random order matter as much for certain (Holm over sites).

    Args:
        figures: Site to comprehensiveness and random order, float64[N] each.
        rng: Draws documents.
    """
    differences = {site: deleted - random for site, (deleted, random) in figures.items()}
    means = {site: bootstrap.means(of, rng) for site, of in differences.items()}
    chances = [bootstrap.chance(drawn > 0) for drawn in means.values()]
    found = []
    for (site, of), chance in zip(differences.items(), adjusted(chances), strict=True):
        passed = chance >= CHANCE or bool(of.mean() > 0)
        estimate = bootstrap.percentiles(float(of.mean()), means[site])
        reason = "nothing says that the words that its model credits matter less than words in random order"
        if not passed:
            reason = "the words that its model credits matter no more than words in random order"
        found.append(Gate("faithfulness", site, passed, estimate, 0.0, reason))
    return found


@dataclass(frozen=True)
class Seen:
    """What is remembered of a round's global model.

    Attributes:
        round: Its number.
        figures: ``comprehensiveness`` and ``sufficiency``, float64[N] of the same documents in each round.
        breached: Those in which it fell behind an earlier round.
    """

    round: int
    figures: Mapping[str, Figures]
    breached: frozenset[str] = frozenset()


LOSSES: Mapping[str, Callable[[Figures, Figures], Figures]] = {
    "comprehensiveness": lambda before, now: before - now,
    "sufficiency": lambda before, now: now - before,
}
"""Figure to how much of it is lost, document by document."""


def regression(figure: str, now: Figures, seen: Sequence[Seen], rng: np.random.Generator) -> Gate:
    """S2 in one round: the loss against the best of the last rounds is not above its limit for certain.

    The limit is ``LOST``, or twice the usual movement where rounds move more: the mean distance of neighbouring rounds
    over 1.128 is their deviation, and hardly grows with a trend (Shewhart's moving range, Montgomery 2013, ch. 6.4).
    The best of several rounds, in one of two figures, looks better than it is: the chance that the loss is below
    that limit counts as often as there are comparisons (Bonferroni). Rounds that fell behind themselves are no measure,
    so that a loss that lasts does not become what is usual.

    Args:
        figure: A key of ``LOSSES``.
        now: float64[N].
        seen: Earlier rounds, in order; the last ``EARLIER`` of those without a breach are looked at.
        rng: Draws documents.
    """
    name, lost = f"regression:{figure}", LOSSES[figure]
    measures = [one for one in seen if figure not in one.breached]
    if not measures:
        return Gate(name, "", None, None, LOST, "there is no earlier round to hold it against")
    limit = max(LOST, 2 * _movement([float(one.figures[figure].mean()) for one in measures]))
    best = max(measures[-EARLIER:], key=lambda one: float(lost(one.figures[figure], now).mean()))
    losses = lost(best.figures[figure], now)
    chance = len(LOSSES) * EARLIER * bootstrap.chance(bootstrap.means(losses, rng) <= limit)
    passed = chance >= CHANCE
    reason = f"{figure} is not worse than in round {best.round}, for all that can be told"
    if not passed:
        reason = f"{figure} is worse than in round {best.round} by {losses.mean():.2f}"
    return Gate(name, "", passed, bootstrap.mean(losses, rng), limit, reason)


def drift(now: float | None, earlier: Sequence[float]) -> Gate:
    """S3: credits change no more from the round before than is usual: mean and 3 deviations of earlier drifts.

    The limit is that of one more draw of as many as there are: ``3 sqrt(1 + 1/n)`` deviations.

    Args:
        now: In [0, 2]; None where it is not defined.
        earlier: Of the rounds before, after the warm-up.
    """
    if now is None:
        return Gate("drift", "", None, None, 2.0, "too few terms are credited in both rounds")
    estimate, count = Estimate(now, now, now), len(earlier)
    if count < LEAST_DRIFTS:
        return Gate("drift", "", None, estimate, 2.0, f"fewer than {LEAST_DRIFTS} earlier rounds say what is usual")
    usual, deviation = float(np.mean(earlier)), float(np.std(earlier, ddof=1))
    limit = max(usual + 3 * deviation * math.sqrt(1 + 1 / count), LEAST_DRIFT)
    passed = now <= limit
    reason = f"the order of the credited terms has changed {'as usual' if passed else 'more than is usual'}"
    return Gate("drift", "", passed, estimate, limit, reason)


def outliers(overlaps: Mapping[str, Figures]) -> list[Gate]:
    """S4: no site credits other terms than the sites usually do: its overlap with their median is above the fence.

    The fence lies 1.5 interquartile ranges below the first quartile (Tukey 1977); of few sites one lies beyond it by
    chance too often, so that a site must do so for certain as well, over documents (Holm over sites).

    Args:
        overlaps: Site to float64[1 + R]: its overlap, then that of R >= 2 resamples of the documents.
    """
    if len(overlaps) < LEAST_SITES:
        reason = f"fewer than {LEAST_SITES} sites"
        return [
            Gate("outlier", site, None, Estimate(*[float(of[0])] * 3), 0.0, reason) for site, of in overlaps.items()
        ]
    first, third = np.quantile([of[0] for of in overlaps.values()], [0.25, 0.75])
    fence = float(first - 1.5 * (third - first))
    chances = [_chance_above(of, fence) for of in overlaps.values()]
    found = []
    for (site, of), chance in zip(overlaps.items(), adjusted(chances), strict=True):
        value, half = float(of[0]), 1.96 * float(np.std(of[1:], ddof=1))
        passed = value >= fence or chance >= CHANCE
        reason = "its model credits the terms that the others' do"
        if not passed:
            reason = "its model credits other terms than those of the other sites"
        found.append(
            Gate("outlier", site, passed, Estimate(value, max(0, value - half), min(1, value + half)), fence, reason)
        )
    return found


def predictability(found: Estimate | None, *, is_private: bool) -> Gate:
    """S5: the reasons of a model do not tell whose it is: the lower end of the AUROC is at most 0.7.

    Not judged in a study with a privacy mechanism: each site's noise gives its model reasons of their own on all
    documents, so that the figure is high whatever the patients are.
    """
    if found is None:
        reason = "too few sites or documents, or no terms, to tell a site by"
        return Gate("site_predictability", "", None, None, MOST_PREDICTABLE, reason)
    passed = found.low <= MOST_PREDICTABLE
    reason = f"the reasons of a model {'hardly tell' if passed else 'tell'} from which site it comes"
    gate = Gate("site_predictability", "", passed, found, MOST_PREDICTABLE, reason)
    if is_private:
        return unjudged(gate, "the noise of differential privacy alone tells the sites' models apart")
    return gate


def modality(shares: Mapping[str, Figures], rng: np.random.Generator) -> list[Gate]:
    """S6: no kind of input takes all credit: the lower end of its share is at most ``MOST_OF_ONE_MODALITY``.

    Args:
        shares: Kind of input to float64[N], its share of each document's credit.
        rng: Draws documents.
    """
    if len(shares) < 2:
        return [Gate("modality", "", None, None, MOST_OF_ONE_MODALITY, "the model reads one kind of input only")]
    found = {name: bootstrap.mean(of, rng) for name, of in shares.items()}
    largest = max(found, key=lambda name: found[name].value)
    passed = found[largest].low <= MOST_OF_ONE_MODALITY
    reason = "every kind of input is credited" if passed else f"almost all credit falls on {largest}"
    return [Gate("modality", "", passed, found[largest], MOST_OF_ONE_MODALITY, reason)]


def adjusted(chances: Sequence[float]) -> list[float]:
    """Return the chances adjusted for being several, in their order (Holm 1979)."""
    count, largest = len(chances), 0.0
    found = [0.0] * count
    for rank, place in enumerate(sorted(range(count), key=lambda index: chances[index])):
        largest = max(largest, min(1.0, (count - rank) * chances[place]))
        found[place] = largest
    return found


def _movement(levels: Sequence[float]) -> float:
    """Return the deviation of a round's level; 0 of fewer than ``LEAST_LEVELS``, which do not tell it."""
    return float(np.abs(np.diff(levels)).mean()) / 1.128 if len(levels) >= LEAST_LEVELS else 0.0


def _chance_above(of: Figures, fence: float) -> float:
    """Return the chance that the overlap is above the fence, normal about its value with the resamples' deviation."""
    deviation = float(np.std(of[1:], ddof=1))
    if deviation == 0:
        return 0.0 if of[0] < fence else 1.0
    return 0.5 * math.erfc((fence - float(of[0])) / (deviation * math.sqrt(2)))
