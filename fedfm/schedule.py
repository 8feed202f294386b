"""After which rounds something is measured: the coordinator asks by it, and a site plans its noise by it."""

import math

from fedfm.config.study import Study

_FULL_EVERY = 5
"""Rounds between looks that cost more, where the study does not say."""


def closing_round(study: Study) -> int:
    """Return the number that the last evaluation bears: of the last round, or one more.

    One more where the final model is chosen among all rounds, so that the last round's own is judged before.
    """
    return study.rounds + (study.fairness.final == "best")


def evaluation_rounds(study: Study) -> list[int]:
    """Return the rounds after which test patients are counted; the last and the closing one are always among them."""
    return sorted({*_each(study.evaluation.every, study), study.rounds, closing_round(study)})


def is_evaluated_with_training(study: Study, number: int) -> bool:
    """Tell whether the model of a round is evaluated in one exchange with the training of the next round."""
    together = study.evaluation.exchange == "with_training"
    return together and 1 <= number < study.rounds and number in evaluation_rounds(study)


def group_rounds(study: Study) -> list[int]:
    """Return the evaluations that count by groups; the closing one always; none where the study has no groups."""
    every, closing = study.evaluation.groups_every, closing_round(study)
    if not (study.evaluation.groups and study.task.groups):
        return []
    return [r for r in evaluation_rounds(study) if r == closing or (every and r % every == 0)]


def audit_group_rounds(study: Study) -> list[int]:
    """Return the evaluations that count audit patients by group where a rule asks: those before a training."""
    return [r for r in evaluation_rounds(study) if r < study.rounds]


def explanation_rounds(study: Study) -> list[int]:
    """Return the rounds after which audit patients' explanations are summed; the closing one always."""
    return sorted({*_each(study.explainability.every, study), closing_round(study)})


def check_rounds(study: Study) -> list[int]:
    """Return the rounds of training after which the figures of the sites' own checks leave; the last one always."""
    return sorted({*_each(study.explainability.check_every, study), study.rounds})


def full_check_rounds(study: Study) -> list[int]:
    """Return the rounds in which a site looks at parameters drawn anew, beside those whose figures leave."""
    return sorted({1, *_each(_FULL_EVERY, study), study.rounds})


def update_rounds(study: Study) -> list[int]:
    """Return the rounds in which each site's update is looked at by itself, on public examples."""
    return sorted({1, *_each(study.explainability.every or _FULL_EVERY, study), study.rounds})


def warm_up_rounds(study: Study) -> int:
    """Return how many rounds, the first ones, have no gate that counts."""
    share = study.explainability.warm_up * study.rounds
    return math.ceil(round(share, 9))  # 0.2 of 15 is 3, whatever floating point says


def _each(every: int, study: Study) -> range:
    """Return every so many rounds, from the first of them on; none for 0."""
    return range(every, study.rounds + 1, every) if every else range(0)
