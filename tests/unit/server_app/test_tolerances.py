"""Limits are judged by the lower end of the interval, by attribute; what is not known is beyond none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedfm.config.coherence import fairness
from fedfm.config.compose import compose_study
from fedfm.config.study import Fairness
from fedfm.errors import ConfigErrors, EngineError
from fedfm.metrics import gaps
from fedfm.metrics.performance import Estimate
from fedfm.wire import EvaluateReply
from server_app.report import events
from server_app.report.judgements import ToleranceExceeded
from server_app.tolerances import exceeded, stop_if_asked
from tests.unit.server_app.federation import Hospital, Outcome, federate

AT, BEYOND = Estimate(0.2, 0.1, 0.3), Estimate(0.2, 0.11, 0.3)
LIMITS = {"equal_opportunity": 0.1, "worst_site": 0.1}


def test_a_difference_is_beyond_where_its_whole_interval_is() -> None:
    found = exceeded(
        Fairness(LIMITS, "stop"),
        {"sex": {"equal_opportunity": BEYOND, "accuracy": BEYOND}, "age_band": {"equal_opportunity": AT}},
        BEYOND,
        number=3,
    )
    assert found == [
        ToleranceExceeded(3, "equal_opportunity", "sex", BEYOND, 0.1, "stop"),
        ToleranceExceeded(3, "worst_site", "", BEYOND, 0.1, "stop"),
    ]
    with pytest.raises(EngineError, match=r"ROUND-E023.*equal_opportunity of sex.*and 1 more"):
        stop_if_asked(found)
    stop_if_asked([replace(one, action="report") for one in found])
    stop_if_asked([])


def test_what_is_not_known_is_beyond_no_limit() -> None:
    assert exceeded(Fairness(LIMITS), {"sex": {"equal_opportunity": None}}, None, number=1) == []
    assert exceeded(Fairness({}), {"sex": {"equal_opportunity": BEYOND}}, BEYOND, number=1) == []


def uneven(reply: EvaluateReply) -> EvaluateReply:
    """Twenty patients of each sex and label; the model finds the men, and misses the women."""
    found, missed = np.array([[20.0, 0.0], [0.0, 20.0]]), np.array([[20.0, 0.0], [20.0, 0.0]])
    return replace(reply, groups={"sex=female": missed, "sex=male": found}, groups_sd=0.5)


def unfair(folder: Path, action: str) -> Outcome:
    hospitals = {name: Hospital(evaluate=uneven) for name in ("a1", "b1")}
    limit = ["task.groups=[sex]", "fairness.limits={equal_opportunity: 0.3}", f"fairness.action={action}"]
    return federate(hospitals, folder, "rounds=3", "evaluation.groups_every=1", *limit)


def test_a_report_goes_on_and_a_stop_ends_the_run_after_the_evaluation_that_shows_it(tmp_path: Path) -> None:
    for action in ("report", "stop"):
        (tmp_path / action).mkdir()
    reported = unfair(tmp_path / "report", "report")
    assert reported.error is None
    told = reported.of(ToleranceExceeded)
    assert [(one.round, one.what, one.attribute, one.action) for one in told] == [
        (number, "equal_opportunity", "sex", "report") for number in (1, 2, 3)
    ]
    assert all(one.limit == 0.3 < one.estimate.low <= one.estimate.value == 1.0 for one in told)
    stopped = unfair(tmp_path / "stop", "stop")
    assert isinstance(stopped.error, EngineError)
    assert stopped.error.code == "ROUND-E023"
    assert [event.round for event in stopped.of(events.ModelEvaluated)] == [1]
    assert (tmp_path / "stop" / "checkpoint-0001.safetensors").is_file()


def test_the_names_of_limits_are_those_of_the_gaps() -> None:
    assert fairness.GROUP_GAPS == gaps.GAPS


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ("{equal_oportunity: 0.1}", "did you mean equal_opportunity"),
        ("{worst_site: 1.5}", "STUDY-E008"),
        ("{worst_site: -0.1}", "STUDY-E008"),
    ],
)
def test_limits_that_judge_nothing_are_refused(limits: str, message: str) -> None:
    with pytest.raises(ConfigErrors, match=message):
        compose_study([f"fairness.limits={limits}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.groups=[]", "task.groups is empty"),
        ("evaluation.groups=false", "evaluation.groups is off"),
        ("task.labels=[a,b,c]", "3 classes"),
    ],
)
def test_limits_of_groups_that_nobody_counts_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigErrors, match=message):
        compose_study(["fairness.limits={equal_opportunity: 0.1}", "task.positive=''", override])
