"""After which rounds something is measured, held against the sentence that says so, round by round."""

from collections.abc import Callable, Iterable

import pytest

from fedfm import schedule
from fedfm.config.compose import compose_study
from fedfm.config.study import Study

Is = Callable[[Study, int], bool]

ASKED: dict[str, tuple[Callable[[Study], Iterable[int]], Is]] = {
    "evaluation": (
        schedule.evaluation_rounds,
        lambda study, r: r % study.evaluation.every == 0 or r in (study.rounds, schedule.closing_round(study)),
    ),
    "explanation": (
        schedule.explanation_rounds,
        lambda study, r: (
            bool(study.explainability.every and r % study.explainability.every == 0)
            or r == schedule.closing_round(study)
        ),
    ),
    "check": (
        schedule.check_rounds,
        lambda study, r: (
            bool(study.explainability.check_every and r % study.explainability.check_every == 0) or r == study.rounds
        ),
    ),
    "full check": (schedule.full_check_rounds, lambda study, r: r in (1, study.rounds) or r % 5 == 0),
    "update": (
        schedule.update_rounds,
        lambda study, r: r in (1, study.rounds) or r % (study.explainability.every or 5) == 0,
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_rounds_are_those_that_their_sentence_names(name: str) -> None:
    rounds_of, is_asked = ASKED[name]
    study = compose_study([]).value
    for rounds in (1, 4, 12):
        for every in (0, 1, 3, 20):
            study.rounds, study.evaluation.every = rounds, every or 1
            study.explainability.every = study.explainability.check_every = every
            wanted = [r for r in range(1, rounds + 1) if is_asked(study, r)]
            assert list(rounds_of(study)) == wanted


def test_a_chosen_model_is_evaluated_once_more() -> None:
    study = compose_study(["rounds=4", "evaluation.every=3", "fairness.final=best"]).value
    assert schedule.evaluation_rounds(study) == [3, 4, 5]
    assert schedule.explanation_rounds(study) == [5]
    assert schedule.check_rounds(study) == [4]
