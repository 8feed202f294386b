"""Membership inference on the final model: who took part, judged by how well the model knows them.

The likelihood-ratio attack (Carlini et al. 2022, arXiv:2112.03570) with a handful of shadow models,
each trained on its own random half of the patients. Every model is attacked once, with the others as
shadows. Made from real patients without noise: its figures stay at the hospital.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedfm.gaussian import best_hits

Scores = NDArray[np.float64]
Members = NDArray[np.bool_]

_FALSE_ALARMS = (0.01, 0.05, 0.1)
_DOUBT = 0.0027  # two-sided chance of 3 standard errors
_RESAMPLES = 400


@dataclass(frozen=True)
class Hits:
    """How many members the attack finds at one rate of false alarms.

    Attributes:
        false_alarms: Share of non-members that are called members.
        share: Share of members that are.
        low: Lower end of the 95 % interval of ``share`` (Clopper and Pearson 1934).
        high: Upper end.
        allowed: The largest share that epsilon, delta (and mu, where exact) allow.
        is_beyond: Whether ``share`` is above it by more than 3 standard errors.
    """

    false_alarms: float
    share: float
    low: float
    high: float
    allowed: float
    is_beyond: bool


@dataclass(frozen=True)
class MembershipResult:
    """What the attack found.

    Attributes:
        models: Models trained and attacked.
        area: Area under the ROC curve; 0.5 is chance.
        area_low: Lower end of its 95 % interval, by bootstrap over patients.
        area_high: Upper end.
        hits: At few false alarms, where membership hurts.
        epsilon_low: Largest epsilon that the hits prove, at 95 %; 0 where they prove none.
    """

    models: int
    area: float
    area_low: float
    area_high: float
    hits: tuple[Hits, ...]
    epsilon_low: float

    @property
    def status(self) -> str:
        """``violated`` where the attack does what the claim rules out; else ``consistent``."""
        return "violated" if any(hit.is_beyond for hit in self.hits) else "consistent"


@dataclass(frozen=True)
class Claim:
    """What is claimed of a model: (epsilon, delta), and mu where it is exact."""

    epsilon: float
    delta: float
    mu: float | None

    def hits(self, false_alarms: float) -> float:
        """Return the largest share of members that any attack may find."""
        if math.isinf(self.epsilon):
            return 1.0
        least = math.exp(-self.epsilon)
        by_epsilon = min(false_alarms / least + self.delta, 1 - least * (1 - self.delta - false_alarms), 1.0)
        return by_epsilon if self.mu is None else min(by_epsilon, best_hits(self.mu, false_alarms))


def attack(
    confidences: Callable[[Members], Scores], *, patients: int, models: int, coins: Callable[[int], Scores]
) -> tuple[Scores, Members]:
    """Train models on random halves; return each patient's score under each, and who was in.

    Args:
        confidences: Trains on the members, bool[P], and returns float64[P], how sure the model is of each patient.
        patients: P.
        models: K, at least 4.
        coins: Source of the halves, uniform on (0, 1].

    Returns:
        float64[K, P] log likelihood ratios, high for members; bool[K, P] members.
    """
    members = np.stack([coins(patients) <= 0.5 for _ in range(models)])
    sure = np.stack([confidences(row) for row in members])
    return np.stack([_ratios(sure, members, target) for target in range(models)]), members


def judge(scores: Scores, members: Members, claim: Claim, *, rng: np.random.Generator) -> MembershipResult:
    """Return how well the scores tell members, beside what the claim allows; ``rng`` only resamples."""
    area, low, high = _area(scores, members, rng)
    hits, proven = zip(*(_hits(scores, members, claim, share) for share in _FALSE_ALARMS), strict=True)
    return MembershipResult(len(scores), area, low, high, hits, max(0.0, *proven))


def clopper_pearson(hits: int, trials: int, *, doubt: float) -> tuple[float, float]:
    """Return the exact two-sided interval of a share at confidence 1 - ``doubt`` (Clopper and Pearson 1934)."""
    low = 0.0 if hits == 0 else _bisect(lambda p: 1 - _at_most(hits - 1, trials, p), doubt / 2)
    high = 1.0 if hits == trials else _bisect(lambda p: 1 - _at_most(hits, trials, p), 1 - doubt / 2)
    return low, high


def _ratios(sure: Scores, members: Members, target: int) -> Scores:
    """Log ratio of two normal densities whose means are each patient's own and whose spreads are everybody's."""
    others = np.arange(len(sure)) != target
    means, spreads = [], []
    for chosen in (members[others], ~members[others]):
        counts = chosen.sum(axis=0)
        mean = (sure[others] * chosen).sum(axis=0) / np.maximum(counts, 1)
        freedom = max(int(np.maximum(counts - 1, 0).sum()), 1)
        spreads.append(math.sqrt(float((chosen * (sure[others] - mean) ** 2).sum()) / freedom) + 1e-12)
        means.append(np.where(counts > 0, mean, np.nan))
    within, without = (
        -(((sure[target] - mean) / spread) ** 2) / 2 - math.log(spread)
        for mean, spread in zip(means, spreads, strict=True)
    )
    ratios: Scores = np.nan_to_num(within - without)  # of whom no shadow knows one side, nothing is said
    return ratios


def _area(scores: Scores, members: Members, rng: np.random.Generator) -> tuple[float, float, float]:
    """Area under the ROC curve, and its interval by resampling patients with all their scores."""
    models, patients = scores.shape
    order = np.argsort(scores, axis=None, kind="stable")
    is_in, owner = members.ravel()[order], np.tile(np.arange(patients), models)[order]

    def area(weights: Scores) -> float:
        inside, outside = weights * is_in, weights * ~is_in
        return float((inside * (np.cumsum(outside) - outside / 2)).sum() / (inside.sum() * outside.sum()))

    chances = np.full(patients, 1 / patients)
    drawn = [area(rng.multinomial(patients, chances)[owner].astype(float)) for _ in range(_RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return area(np.ones(len(order))), float(low), float(high)


def _hits(scores: Scores, members: Members, claim: Claim, false_alarms: float) -> tuple[Hits, float]:
    inside, outside = scores[members], scores[~members]
    threshold = np.quantile(outside, 1 - false_alarms)
    found, wrong = int((inside > threshold).sum()), int((outside > threshold).sum())
    low, high = clopper_pearson(found, len(inside), doubt=0.05)
    surely, at_worst = (
        clopper_pearson(found, len(inside), doubt=_DOUBT)[0],
        clopper_pearson(wrong, len(outside), doubt=_DOUBT)[1],
    )
    hit = Hits(
        false_alarms=wrong / len(outside),
        share=found / len(inside),
        low=low,
        high=high,
        allowed=claim.hits(wrong / len(outside)) if wrong else claim.hits(1 / len(outside)),
        is_beyond=surely > claim.hits(at_worst),
    )
    return hit, _proven(found, len(inside), wrong, len(outside), claim.delta)


def _proven(found: int, inside: int, wrong: int, outside: int, delta: float) -> float:
    """The largest epsilon that is ruled out from below, one threshold of several (Bonferroni), at 95 %."""
    doubt = 0.05 / len(_FALSE_ALARMS)
    surely, at_worst = clopper_pearson(found, inside, doubt=doubt)[0], clopper_pearson(wrong, outside, doubt=doubt)[1]
    return math.log((surely - delta) / at_worst) if surely > delta else 0.0


def _at_most(hits: int, trials: int, share: float) -> float:
    """Chance of at most ``hits`` of ``trials``."""
    numbers = np.arange(hits + 1)
    logs = _log_choose(trials, numbers) + numbers * math.log(share) + (trials - numbers) * math.log1p(-share)
    return min(float(np.exp(logs).sum()), 1.0)


def _log_choose(trials: int, numbers: NDArray[np.int_]) -> Scores:
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    chosen: Scores = logs[trials] - logs[numbers] - logs[trials - numbers]
    return chosen


def _bisect(rising: Callable[[float], float], wanted: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2


def halves(units: Sequence[NDArray[np.intp]], members: Members) -> list[NDArray[np.intp]]:
    """Return the units of the members."""
    return [unit for unit, is_in in zip(units, members, strict=True) if is_in]
