"""Evaluation and the next training in one message: the same run in half the exchanges."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfm import wire_records
from fedfm.config.coherence.study import SELECTED_BY_LOSS
from fedfm.config.compose import compose_study
from fedfm.errors import ConfigError, WireError
from fedfm.signals import SELECTION_NEEDS
from server_app.report import events
from server_app.requests import BOTH
from server_app.simulate import InProcessGrid
from tests.unit.server_app.federation import Hospital, changed, client_app, federate, left_out
from tests.unit.server_app.test_resume import NAMES, drifting
from tests.unit.server_app.test_strategy import four, nan_update

TOGETHER = "evaluation.exchange=with_training"


class Counting(InProcessGrid):
    """Notes the kind of every message that is sent."""

    kinds: list[str]

    def push_messages(self, messages: Any) -> Any:
        asked = list(messages)
        self.kinds = [*getattr(self, "kinds", []), *(message.metadata.message_type for message in asked)]
        return super().push_messages(asked)


def run(folder: Path, *overrides: str) -> tuple[Any, list[str]]:
    hospitals = {name: drifting(site) for site, name in enumerate(NAMES)}
    grid = Counting(client_app(hospitals), {name: Path(f"/{name}.yaml") for name in NAMES})
    folder.mkdir()
    return federate(hospitals, folder, *overrides, grid=grid), grid.kinds


@pytest.mark.parametrize(
    "rules", [("weighting=power",), ("weighting=fairfed", "optimizing=adam"), ("selection=fraction",)]
)
def test_it_is_the_same_run(rules: tuple[str, ...], tmp_path: Path) -> None:
    own, _ = run(tmp_path / "own", "rounds=4", *rules)
    together, kinds = run(tmp_path / "together", "rounds=4", TOGETHER, *rules)
    assert own.error is together.error is None
    for name, array in own.parameters.items():
        np.testing.assert_array_equal(together.parameters[name], array)
    for kind in (events.SiteTrained, events.SiteEvaluated, events.ModelEvaluated, events.RoundCombined):
        for one, other in zip(own.of(kind), together.of(kind), strict=True):
            told = [
                {name: value for name, value in vars(event).items() if name not in ("seconds", "update_norm")}
                for event in (one, other)
            ]
            assert told[0] == told[1]
    asked = [kind for kind in kinds if not kind.startswith("query")]
    assert BOTH in asked
    assert asked[-4:] == ["evaluate"] * 4  # the last model's


def test_a_round_is_one_exchange(tmp_path: Path) -> None:
    _, kinds = run(tmp_path / "run", "rounds=3", TOGETHER)
    assert kinds[4:] == ["train"] * 4 + [BOTH] * 8 + ["evaluate"] * 4


def test_what_is_seldom_evaluated_stays_so(tmp_path: Path) -> None:
    _, kinds = run(tmp_path / "run", "rounds=4", "evaluation.every=2", TOGETHER)
    assert kinds[4:] == ["train"] * 4 + ["train"] * 4 + [BOTH] * 4 + ["train"] * 4 + ["evaluate"] * 4


def test_a_refusal_of_one_question_leaves_the_other_answer(tmp_path: Path) -> None:
    refusing = Hospital(evaluate=lambda reply: Error(1000, "SITE-E104 no budget") if reply.round == 1 else reply)
    broken = Hospital(train=lambda reply: nan_update(reply) if reply.round == 2 else reply)
    outcome = federate(four(b1=refusing, c1=broken), tmp_path, "rounds=2", TOGETHER)
    assert outcome.error is None
    assert sorted(left_out(outcome)) == [("b1", 1, "evaluation", "SITE-E104"), ("c1", 2, "training", "ROUND-E013")]
    assert [set(event.sites) for event in outcome.of(events.ModelEvaluated)] == [{"a1", "c1", "d1"}, set(NAMES)]
    assert [set(event.weights) for event in outcome.of(events.RoundCombined)] == [set(NAMES), {"a1", "b1", "d1"}]


def test_counts_for_another_round_are_left_out(tmp_path: Path) -> None:
    liar = Hospital(evaluate=lambda reply: changed(round=2)(reply) if reply.round == 1 else reply)
    outcome = federate(four(b1=liar), tmp_path, "rounds=2", TOGETHER)
    assert left_out(outcome) == [("b1", 1, "evaluation", "ROUND-E010")]


@pytest.mark.parametrize("other", ["fairness.action=stop", "selection=power_of_choice"])
def test_who_decides_by_an_evaluation_does_not_get_it_late(other: str) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.exchange"):
        compose_study(["model=tiny", TOGETHER, other])


def test_every_rule_that_selects_by_an_evaluation_is_known() -> None:
    assert {rule for rule, needs in SELECTION_NEEDS.items() if needs} == set(SELECTED_BY_LOSS)


PART = st.one_of(st.text(min_size=1, max_size=20), st.just(RecordDict({"numbers": ConfigRecord({"a": 1})})))


@given(st.dictionaries(st.sampled_from(["training", "evaluation"]), PART))
@settings(deadline=None)  # of a busy machine, not of the property
def test_parts_come_out_as_they_went_in(parts: dict[str, Any]) -> None:
    assert wire_records.both_from_records(wire_records.both_to_records(parts)) == parts


@pytest.mark.parametrize("key", ["training", "training.refusal"])
def test_what_is_no_part_is_refused(key: str) -> None:
    with pytest.raises(WireError):
        wire_records.both_from_records(RecordDict({key: ConfigRecord({"text": 5})}))
