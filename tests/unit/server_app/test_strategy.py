"""The coordinator's loop, over hospitals that are honest, broken, hostile or silent."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict

from fedfm import arrays, wire
from fedfm.errors import EngineError, FedFMError
from fedfm.metrics.counts import LOSS_CAP
from server_app.app import _is_news, main
from server_app.report import events, explanations
from server_app.simulate import InProcessGrid
from tests.unit.server_app.federation import (
    LAYOUT,
    PARAMETERS,
    Hospital,
    changed,
    client_app,
    federate,
    left_out,
)

FOUR = ("a1", "b1", "c1", "d1")


def four(**special: Hospital) -> dict[str, Hospital]:
    return {name: special.get(name, Hospital()) for name in FOUR}


def test_every_round_adds_the_weighted_mean_of_the_updates(tmp_path: Path) -> None:
    hospitals = {"a1": Hospital(patients=100, shift=1.0), "b1": Hospital(patients=300, shift=2.0)}
    outcome = federate(hospitals, tmp_path, "rounds=3")
    assert outcome.error is None
    assert outcome.parameters is not None
    for name, start in PARAMETERS.items():
        np.testing.assert_allclose(outcome.parameters[name], start + 3 * 1.75)
    assert [event.weights for event in outcome.of(events.RoundCombined)] == [{"a1": 0.25, "b1": 0.75}] * 3
    trained = [request for request in hospitals["a1"].asked if request.round == 2 and request.parameters]
    np.testing.assert_allclose(trained[0].parameters["head.bias"], 1 + 1.75)  # round 2 starts from round 1's model


def test_one_site_is_followed_as_it_is(tmp_path: Path) -> None:
    outcome = federate({"a1": Hospital(shift=0.125)}, tmp_path, "rounds=1", "min_sites=1")
    assert outcome.parameters is not None
    np.testing.assert_array_equal(outcome.parameters["head.weight"], PARAMETERS["head.weight"] + np.float32(0.125))


def nan_update(reply: wire.TrainReply) -> Any:
    broken = {name: array.copy() for name, array in reply.update.items()}
    broken["head.bias"][1] = np.nan
    return changed(update=broken)(reply)


FAULTS = {
    "not finite": (nan_update, "ROUND-E013"),
    "another shape": (
        lambda reply: changed(update={**reply.update, "head.bias": np.zeros(3, np.float32)})(reply),
        "WIRE-E011",
    ),
    "another name": (lambda reply: changed(update={"head.weight": reply.update["head.weight"]})(reply), "WIRE-E010"),
    "another layout": (changed(layout="0" * 64), "ROUND-E011"),
    "another round": (changed(round=7), "ROUND-E010"),
    "another site's name": (changed(site="a1"), "ROUND-E017"),
    "an empty cohort": (changed(declared_patients=0), "ROUND-E012"),
    "a cohort that grew after joining": (changed(declared_patients=10**9), "ROUND-E012"),
    "another release": (lambda _: RecordDict({"text": ConfigRecord({"wire_version": 99})}), "WIRE-E001"),
    "an empty message": (lambda _: RecordDict(), "WIRE-E001"),
    "a refusal": (lambda _: Error(1000, "SITE-E101 epsilon beyond the policy — fix: ask for less"), "SITE-E101"),
    "offline": (lambda _: Error(5, "Node offline"), "FLOWER-E005"),
    "a stranger's text": (lambda _: Error(2, "ValueError: Jane Doe, MRN 12345"), "FLOWER-E002"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_update_is_left_out_by_name_and_the_run_goes_on(fault: str, tmp_path: Path) -> None:
    change, code = FAULTS[fault]
    outcome = federate(four(c1=Hospital(shift=50.0, train=change)), tmp_path, "rounds=2")
    assert outcome.error is None
    assert left_out(outcome) == [("c1", 1, "training", code), ("c1", 2, "training", code)]
    assert all(set(event.weights) == {"a1", "b1", "d1"} for event in outcome.of(events.RoundCombined))
    assert outcome.parameters is not None
    np.testing.assert_allclose(outcome.parameters["head.weight"], PARAMETERS["head.weight"] + 2)
    assert "Jane Doe" not in (tmp_path / "events.jsonl").read_text()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (changed(cells=np.full((2, 10), np.inf)), "ROUND-E015"),
        (changed(cells=np.ones((2, 3))), "ROUND-E014"),
        (changed(cells_sd=-1.0), "ROUND-E015"),
        (changed(round=0), "ROUND-E010"),
        (lambda _: RecordDict(), "WIRE-E001"),
    ],
)
def test_bad_counts_are_left_out_by_name(change: Any, code: str, tmp_path: Path) -> None:
    outcome = federate(four(b1=Hospital(evaluate=change)), tmp_path, "rounds=1")
    assert left_out(outcome) == [("b1", 1, "evaluation", code)]
    (together,) = outcome.of(events.ModelEvaluated)
    assert together.sites == ("a1", "c1", "d1")
    assert together.performance.patients.value == 3 * 60


def test_too_few_good_updates_end_the_run_as_failed(tmp_path: Path) -> None:
    broken = {name: Hospital(train=nan_update) for name in ("a1", "b1", "c1")}
    outcome = federate(four(**broken), tmp_path, "rounds=2")
    assert isinstance(outcome.error, EngineError)
    assert outcome.error.code == "ROUND-E020"
    assert "1 whose answer can be used; a1: ROUND-E013, b1: ROUND-E013, c1: ROUND-E013" in str(outcome.error)
    assert not outcome.of(events.RoundCombined)


@pytest.mark.parametrize(
    ("overrides", "waited_for"),
    [
        ((), ""),
        (("min_sites=3",), "more sites: 0 of at least 3 take part; not for a1, b1, who refused"),
        (("sites=[a1,b1]",), ""),
        (("sites=[a1,b1,z9]",), "z9; not for a1, b1, who refused"),
    ],
)
def test_nobody_is_waited_for_who_has_refused(
    overrides: tuple[str, ...], waited_for: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in the first run of a study that no hospital has approved."""
    refusing = Hospital(describe=lambda _: Error(1000, "SITE-E220 not approved"))
    patience = "start_minutes=0.005" if waited_for else "start_minutes=100"  # the test has a time limit of its own
    with caplog.at_level("INFO", "server_app"):
        outcome = federate({"a1": refusing, "b1": refusing}, tmp_path, *overrides, patience)
    told = [record.getMessage() for record in caplog.records if "Waiting up to" in record.getMessage()]
    assert [text.partition(" for ")[2] for text in told] == ([waited_for] if waited_for else [])
    assert isinstance(outcome.error, EngineError)
    said = str(outcome.error)
    assert "ROUND-E020 too few sites at the start" in said
    assert "0 whose answer can be used; a1: SITE-E220, b1: SITE-E220" in said


def test_flower_does_not_tell_again_with_a_trace_what_the_run_has_told() -> None:
    logger, lines = logging.getLogger("flwr"), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        with pytest.raises(FedFMError):
            main(InProcessGrid(client_app({}), {}), Context(1, 0, {}, RecordDict(), {"overrides": "'"}))
        for problem in (EngineError("ROUND-E020", "too few sites"), ValueError("unforeseen")):
            logger.error("%s raised an exception", type(problem).__name__, exc_info=problem)
    finally:
        logger.removeHandler(handler)
        logger.removeFilter(_is_news)
    assert lines == ["ValueError raised an exception"]


def test_sites_that_refuse_at_the_start_are_not_asked_again(tmp_path: Path) -> None:
    refusing = Hospital(describe=lambda _: Error(1000, "SITE-E140 model without pinned weights"))
    other = Hospital(describe=changed(layout="other"))
    stranger = Hospital(describe=changed(site="z9"))
    outcome = federate(four(b1=refusing, c1=other, d1=stranger), tmp_path, "rounds=2", "min_sites=1")
    assert set(left_out(outcome)) == {
        ("b1", 0, "start", "SITE-E140"),
        ("c1", 0, "start", "ROUND-E011"),
        ("d1", 0, "start", "ROUND-E017"),
    }
    assert all(len(hospital.asked) == 1 for hospital in (refusing, other, stranger))
    assert all(set(event.weights) == {"a1"} for event in outcome.of(events.RoundCombined))


def test_a_site_that_never_comes_is_named(tmp_path: Path) -> None:
    outcome = federate({"a1": Hospital(), "b1": Hospital()}, tmp_path, "rounds=1", "sites=[a1,b1,z9]")
    assert outcome.error is None
    assert left_out(outcome) == [("z9", 0, "start", "ROUND-E001")]


def test_only_the_studys_sites_are_asked(tmp_path: Path) -> None:
    hospitals = four()
    federate(hospitals, tmp_path, "rounds=1", "sites=[a1,b1]")
    assert not hospitals["c1"].asked
    assert len(hospitals["a1"].asked) == 3  # description, training, evaluation


class Offline(InProcessGrid):
    """Node 3 is offline while the others train; the SuperLink says so, under its own number, 1."""

    def pull_messages(self, message_ids: Any) -> Any:
        for reply in super().pull_messages(message_ids):
            metadata = reply.metadata
            if metadata.src_node_id == 3 and metadata.message_type == "train":
                metadata.__dict__["_src_node_id"] = 1
                yield Message(error=Error(5, "Node offline"), metadata=metadata)  # type: ignore[call-overload]
            else:
                yield reply


def test_a_site_for_which_the_superlink_answers_is_named(tmp_path: Path) -> None:
    hospitals = four()
    grid = Offline(client_app(hospitals), {name: Path(f"/{name}.yaml") for name in hospitals})
    outcome = federate(hospitals, tmp_path, "rounds=1", grid=grid)
    assert outcome.error is None
    assert left_out(outcome) == [("b1", 1, "training", "FLOWER-E005")]


class SilentGrid(InProcessGrid):
    """One site takes requests and never answers, from a round on."""

    def pull_messages(self, message_ids: Any) -> Any:
        return super().pull_messages(
            [
                message_id
                for message_id in message_ids
                if self._names[self._sent[message_id].metadata.dst_node_id] != "b1"
                or self._sent[message_id].metadata.message_type == "query.describe"
            ]
        )


def test_a_site_that_falls_silent_is_named_and_the_round_ends(tmp_path: Path) -> None:
    hospitals = four()
    grid = SilentGrid(client_app(hospitals), {name: Path(f"/{name}.yaml") for name in hospitals})
    outcome = federate(hospitals, tmp_path, "rounds=1", grid=grid)
    assert outcome.error is None
    assert left_out(outcome) == [("b1", 1, "training", "ROUND-E002"), ("b1", 1, "evaluation", "ROUND-E002")]


class LateGrid(InProcessGrid):
    """One site connects after the start."""

    polls = 0

    def get_nodes(self) -> Any:
        self.polls += 1
        return [node for node in super().get_nodes() if node.name != "b1" or self.polls > 2]


def test_a_late_site_joins_a_later_round(tmp_path: Path) -> None:
    hospitals = four()
    grid = LateGrid(client_app(hospitals), {name: Path(f"/{name}.yaml") for name in hospitals})
    outcome = federate(hospitals, tmp_path, "rounds=3", grid=grid)
    assert [len(event.weights) for event in outcome.of(events.RoundCombined)] == [3, 4, 4]
    assert [event.round for event in outcome.of(events.SiteJoined) if event.site == "b1"] == [2]


def test_nobody_at_all_is_a_clear_failure(tmp_path: Path) -> None:
    outcome = federate({}, tmp_path, "rounds=1")
    assert isinstance(outcome.error, EngineError)
    assert "too few sites at the start" in str(outcome.error)


def test_evaluation_keeps_its_rhythm_and_always_ends_the_run(tmp_path: Path) -> None:
    outcome = federate(four(), tmp_path, "rounds=5", "evaluation.every=2")
    assert [event.round for event in outcome.of(events.ModelEvaluated)] == [2, 4, 5]
    assert outcome.of(events.ModelEvaluated)[-1].performance.auroc is not None
    explained = outcome.of(explanations.ModelExplained)[-1]
    assert explained.documents == 32
    assert explained.means["comprehensiveness"].value == pytest.approx(0.5)


def test_groups_are_added_over_the_sites_that_name_them_with_the_noise_of_each(tmp_path: Path) -> None:
    """Two hospitals know the sex of 30 patients a group each, two know none; each number has noise 0.5."""
    silent = Hospital(evaluate=changed(groups={}, groups_sd=0.0, losses={}, losses_sd=0.0))
    outcome = federate(four(c1=silent, d1=silent), tmp_path, "rounds=2")
    (grouped,) = outcome.of(events.GroupsEvaluated)  # after the last round
    female = grouped.groups["sex=female"]
    assert grouped.round == 2
    assert female.patients.value == 60
    assert female.patients.high - 60 == pytest.approx(1.96 * 0.5 * np.sqrt(2 * 4))
    assert female.accuracy.value == pytest.approx(24 / 30)
    assert female.sensitivity.value == pytest.approx(12 / 14)
    assert female.selection.value == pytest.approx(16 / 30)
    lost = outcome.of(events.LossMeasured)
    assert [event.round for event in lost] == [1, 2]
    assert set(lost[0].sites) == {"a1", "b1"}
    assert lost[0].together.value == pytest.approx(LOSS_CAP * 0.4)
    assert lost[0].together.low < lost[0].sites["a1"].value < lost[0].together.high
    assert lost[0].sites["a1"].low < lost[0].together.low  # fewer patients say less


def test_a_site_of_which_nothing_is_known_says_so(tmp_path: Path) -> None:
    """A hospital without audit patients sends noise, and one with few patients drowns in it."""
    empty = Hospital(
        evaluate=changed(losses={"loss": 0.4, "patients": -0.7}, groups={"age_band=under 40": np.full((2, 2), 2.0)})
    )
    outcome = federate(four(b1=empty), tmp_path, "rounds=1")
    assert not outcome.of(events.SiteLeftOut)
    assert outcome.of(events.LossMeasured)[0].sites["b1"] is None
    assert outcome.of(events.GroupsEvaluated)[0].groups["age_band=under 40"] is None


def test_the_checkpoint_is_the_global_model_of_its_round(tmp_path: Path) -> None:
    outcome = federate(four(), tmp_path, "rounds=3")
    described = json.loads((tmp_path / "checkpoint.json").read_text())
    kept = arrays.from_bytes((tmp_path / described["file"]).read_bytes())
    assert described["round"] == 3
    assert described["layout"] == LAYOUT
    assert outcome.parameters is not None
    assert all(np.array_equal(kept[name], outcome.parameters[name]) for name in kept)
    assert len(list(tmp_path.glob("checkpoint-*.safetensors"))) == 1
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-0003.json", *described["files"]}


def test_half_of_the_sites_take_part_when_asked(tmp_path: Path) -> None:
    outcome = federate(four(), tmp_path, "rounds=6", "selection=fraction")
    chosen = [event.sites for event in outcome.of(events.RoundStarted)]
    assert all(len(sites) == 2 for sites in chosen)
    assert len(set(chosen)) > 1


def test_the_lines_of_algorithm_1_stand_once_in_order() -> None:
    root = Path(__file__).parents[3]
    server = re.findall(r"# Algorithm 1, line (\d+)", (root / "server_app" / "strategy.py").read_text())
    assert sorted(map(int, server)) == [3, 4, 5, 6, 12, 13, 15]
