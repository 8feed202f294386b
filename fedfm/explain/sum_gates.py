"""Gates of what leaves: judged by the noised sums of a check alone, so that they tell nothing that these do not.

The site acts by them, and the coordinator judges anew what it receives: no verdict travels that the sums could
contradict. Both ends must have the same limits; another limit is another ``fedfm.wire.WIRE_VERSION``. Free of torch.

A gate fails only where its whole interval lies beyond the limit. The interval holds the noise, and the most that
values in their ranges can vary: who acts on a failed gate is to be certain of it, and what few documents or much noise
cannot tell has not failed. The site's own gates (``client_app.reasons.gates``) see more.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fedfm.config.study import Study
from fedfm.explanations import COMPLETENESS_MOST, HEAD_MOST, SHIFT_RISE_MOST, ranges
from fedfm.metrics.performance import LEAST_PATIENTS, Estimate
from fedfm.schedule import warm_up_rounds

_Z = 1.96  # 95 % of a normal distribution


@dataclass(frozen=True)
class _Rule:
    """Weights of the means in the figure, and whether its interval lies beyond the limit."""

    weights: Mapping[str, float]
    fails: Callable[[Estimate], bool]


def counted(study: Study, number: int, sums: Mapping[str, float], *, sd: float) -> tuple[str, ...]:
    """Return the names of the gates that have failed and count: none in the study's first rounds.

    Args:
        study: The study.
        number: The round.
        sums: As in ``TrainReply.check``.
        sd: As in ``TrainReply.check_sd``.
    """
    return () if number <= warm_up_rounds(study) else failed(sums, sd=sd)


def of_model(gates: Iterable[str]) -> tuple[str, ...]:
    """Return the gates that say something of the model: credits that do not add up say it of the explanation alone."""
    return tuple(gate for gate in gates if gate != "completeness")


def failed(sums: Mapping[str, float], *, sd: float) -> tuple[str, ...]:
    """Return the names of the gates that the sums do not pass for certain.

    Args:
        sums: As in ``TrainReply.check``; empty where it was withheld, and then nothing has failed.
        sd: Standard deviation of the noise in each.
    """
    judged = ((gate, rule, combined(sums, rule.weights, sd=sd)) for gate, rule in _rules(sums).items())
    return tuple(gate for gate, rule, found in judged if found is not None and rule.fails(found))


def combined(sums: Mapping[str, float], weights: Mapping[str, float], *, sd: float) -> Estimate | None:
    """Estimate a weighted sum of means over documents.

    The standard deviation of a sum is at most the sum of standard deviations, and that of values in [low, high] at
    most sqrt((high - m) (m - low)) (Bhatia and Davis 2000, equation 1); noise is added by the delta method, as in
    ``fedfm.metrics.performance.mean_of``, which this equals for one mean.

    Returns:
        None where there are not ``LEAST_PATIENTS`` documents for certain.
    """
    documents = sums["documents"]
    if documents - _Z * sd < LEAST_PATIENTS:
        return None
    spans, value, spread = ranges(tuple(weights)), 0.0, 0.0
    for name, weight in weights.items():
        low, high = spans[name]
        mean = min(high, max(low, sums[name] / documents))
        value += weight * mean
        spread += abs(weight) * float(np.sqrt((high - mean) * (mean - low)))
    noise = (sd / documents) ** 2 * (sum(weight**2 for weight in weights.values()) + value**2)
    half = _Z * float(np.sqrt(spread**2 / documents + noise))
    return Estimate(value, value - half, value + half)


def _rules(sums: Mapping[str, float]) -> dict[str, _Rule]:
    """Return gate to its rule: of the figures and named lists that the sums are of."""
    if not sums:
        return {}
    rules = {
        "faithfulness": _Rule({"comprehensiveness": 1.0, "random_order": -1.0}, lambda found: found.high <= 0),
        "completeness": _Rule({"completeness_error": 1.0}, lambda found: found.low > COMPLETENESS_MOST),
        "randomisation": _Rule({"randomised_head": 1.0}, lambda found: found.low >= HEAD_MOST),
    }
    for name in sums:
        figure, _, words = name.partition(":")
        if figure == "mass_rise":
            rules[f"shortcut:{words}"] = _Rule({name: 1.0}, lambda found: found.low > 0)
        elif figure == "swap_rise":
            rules[f"swap:{words}"] = _Rule({name: 1.0}, lambda found: found.low > SHIFT_RISE_MOST)
    return rules
