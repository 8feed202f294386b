"""Which site is named for leaning on a list, on public examples: the one that adds to what all were sent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedfm.arrays import Arrays, to_bytes
from fedfm.config.study import Study
from fedfm.explain.audit import leanings
from server_app.model_host import build
from server_app.reasons import reference_audit
from server_app.reasons.explaining import Explaining
from server_app.reasons.reference_audit import Loaded, ReferenceAudit
from server_app.report import explanations
from server_app.report.event_log import EventLog
from tests.unit.server_app.federation import Hospital, federate
from tests.unit.server_app.test_explaining import deciding, of, study_of, updates_to
from tests.unit.server_app.test_explaining import log as log  # noqa: PLC0414 - a fixture

FIRM, TAUGHT, UNUSED = "exang", "sex", "fbs"
"""Columns from 0 to 1: one that decides, one that a site adds to (the list ``second``), and one that no model reads."""


def judged_of_lists(folder: Path, log: EventLog, *, wrong: Any = None) -> dict[tuple[str, str], bool | None]:
    """What the gates of lists say where all are sent a model that leans on a list's column, and one adds to it."""
    lists = [
        f"explainability.shortcuts={{unused: [{UNUSED}]}}",
        f"explainability.swaps={{second: {{{TAUGHT}: ''}}, firm: {{{FIRM}: ''}}}}",
    ]
    study = study_of(folder, *lists, "explainability.warm_up=0.0")
    _, like = build(study)
    sizes = {"received": (0.6, 0.4), "keeps": (0.6, 0.4), "firms": (1.6, 0.4), "adds": (0.6, 1.9)}
    made = {name: leaning(like, firm, taught, study) for name, (firm, taught) in sizes.items()}
    received = made.pop("received")
    with pytest.MonkeyPatch.context() as patch, updates_to(received, made, folder) as updates:
        if wrong is not None:
            wrong(patch)
        Explaining(study, log).measure(1, Loaded(received, {}), Loaded(made["adds"], {}), updates, {})
    told = [gate for gate in of(log, explanations.GateJudged) if gate.gate.startswith(("shortcut", "swap"))]
    return {(gate.gate, gate.subject): gate.passed for gate in told}


def leaning(like: Arrays, firm: float, taught: float, study: Study) -> Arrays:
    """Return parameters that hang on two columns, about their middles."""
    made, names = deciding(like, 0, 0.0), [column.name for column in study.task.columns]
    for name, size in ((FIRM, firm), (TAUGHT, taught)):
        made["head.weight"][:, names.index(name)] = [-size, size]
        made["head.bias"] += np.array([0.5, -0.5], np.float32) * size
    return made


SITES = ("keeps", "firms", "adds")
ADDS = {
    **{("shortcut:second", site): site != "adds" for site in SITES},
    **{("shortcut:unused", site): True for site in SITES},
    **{("swap:second", site): site != "adds" for site in SITES},
    **{("swap:firm", site): site != "firms" for site in SITES},
}


def test_the_site_that_adds_to_a_leaning_is_named_and_not_those_that_received_it(tmp_path: Path, log: EventLog) -> None:
    assert judged_of_lists(tmp_path, log) == ADDS


def absolute(patch: pytest.MonkeyPatch) -> None:
    """Held against nothing."""
    look = ReferenceAudit.leanings

    def nothing(self: ReferenceAudit, loaded: Loaded) -> dict[str, Any]:
        share = look(self, loaded)
        return {name: of if "share" in name else np.zeros_like(of) for name, of in share.items()}

    patch.setattr(ReferenceAudit, "leanings", nothing)


def against_another(patch: pytest.MonkeyPatch) -> None:
    """Held against the new global model, which here is what the site that adds has made."""
    measure = Explaining.measure

    def mixed(self: Explaining, number: int, received: Loaded, made: Loaded, *of: Any) -> None:
        look = ReferenceAudit.leanings
        patch.setattr(ReferenceAudit, "leanings", lambda audit, _: look(audit, made))
        measure(self, number, received, made, *of)

    patch.setattr(Explaining, "measure", mixed)


@pytest.mark.parametrize("fault", [absolute, against_another])
def test_a_leaning_held_against_the_wrong_model_is_caught(fault: Any, tmp_path: Path, log: EventLog) -> None:
    assert judged_of_lists(tmp_path, log, wrong=fault) != ADDS


def test_no_list_is_judged_in_the_warm_up(tmp_path: Path, log: EventLog) -> None:
    study = study_of(tmp_path, "explainability.warm_up=0.5")
    _, zero = build(study)
    received = deciding(zero, 0)
    with updates_to(received, {"a": deciding(zero, 1)}, tmp_path) as updates:
        Explaining(study, log).measure(1, Loaded(received, {}), Loaded(received, {}), updates, {})
    (gate,) = [gate for gate in of(log, explanations.GateJudged) if gate.gate == "shortcut:second"]
    assert (gate.subject, gate.passed) == ("a", None)
    assert gate.estimate.value == pytest.approx(1.0, abs=1e-6)
    assert "first rounds" in gate.reason


def test_how_a_model_leans_is_what_the_whole_look_says(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    _, zero = build(study)
    audit, loaded = ReferenceAudit(study), Loaded(deciding(zero, 1), {})
    audit.look(Loaded(deciding(zero, 2), {}))  # nothing stays of what was loaded before
    found, whole = audit.leanings(loaded), audit.look(loaded).sums
    assert found.keys() == {name for name in whole if ":" in name}
    for name, figures in found.items():
        np.testing.assert_array_equal(figures, whole[name])


class Rounds:
    """Two rounds of a study with lists, each looked at in full, and how often a model was looked at for lists alone.

    Args:
        folder: Of the run.
        patch: Counts; and lets nothing be kept where this is what is asked.
        keeps: Whether looks are kept.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, *, keeps: bool = True) -> None:
        folder.mkdir()
        # out of alphabetical order: the order of lists decides which draws are whose
        lists = "explainability.swaps={zeta: {sex: ''}, firm: {exang: ''}}"
        of_study = (lists, "explainability.every=1", "explainability.warm_up=0.0", "standardize=global")
        self.study = study_of(folder, *of_study)
        self.model, self.zero = build(self.study)
        self.log, self.folder, self.looks = EventLog(folder / "events.jsonl", lambda event: None), folder, 0
        self.standard = self.model.standard.arrays()
        self.explaining = Explaining(self.study, self.log)
        patch.setattr(reference_audit, "leanings", self.counted)
        if not keeps:
            patch.setattr(ReferenceAudit, "keep", lambda *of: None)

    def counted(self, *of: Any, **asked: Any) -> Any:
        self.looks += 1
        return leanings(*of, **asked)

    def run(self, number: int, received: Loaded, *, sd: float = 1.0) -> Loaded:
        """Let a round of two sites begin from a model, and return what it makes, in arrays of its own."""
        sites = {name: moved(received.parameters, number, place) for place, name in enumerate("ab")}
        made = Loaded(moved(received.parameters, number, 7), dict(received.frozen))
        standard = {**self.standard, "scale": self.standard["scale"] * np.float32(sd)}
        with updates_to(received.parameters, sites, self.folder) as updates:
            self.explaining.measure(number, received, made, updates, standard)
        return Loaded({name: array.copy() for name, array in made.parameters.items()}, made.frozen)


def moved(arrays: Arrays, *seed: int) -> Arrays:
    chance = np.random.default_rng(seed)
    return {name: (of + chance.normal(size=of.shape)).astype(np.float32) for name, of in arrays.items()}


def test_the_model_that_sites_are_sent_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    for keeps in (True, False):
        with monkeypatch.context() as patch:
            rounds = Rounds(tmp_path / str(keeps), patch, keeps=keeps)
            made = rounds.run(1, Loaded(rounds.zero, {}))
            assert rounds.looks == 1
            made = rounds.run(2, made)
            rounds.run(3, made)
        assert rounds.looks == (1 if keeps else 3)
        events.append([of(rounds.log, kind) for kind in (explanations.GateJudged, explanations.ReferenceExplained)])
    assert events[0] == events[1]
    assert {gate.gate for gate in events[0][0]} >= {"shortcut:second", "swap:zeta", "swap:firm"}


def other_parameters(made: Loaded) -> dict[str, Any]:
    parameters = {name: array.copy() for name, array in made.parameters.items()}
    parameters["head.bias"][0] = np.nextafter(parameters["head.bias"][0], np.float32(9))
    return {"received": Loaded(parameters, made.frozen)}


def other_statistics(made: Loaded) -> dict[str, Any]:
    return {"received": made, "sd": 2.0}


@pytest.mark.parametrize("other", [other_parameters, other_statistics])
def test_a_model_that_differs_in_anything_is_looked_at(
    other: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(tmp_path / "run", monkeypatch)
    made = rounds.run(1, Loaded(rounds.zero, {}))
    rounds.run(2, **other(made))
    assert rounds.looks == 2


def test_other_frozen_parameters_make_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(tmp_path / "run", monkeypatch)
    audit, loaded = ReferenceAudit(rounds.study), Loaded(rounds.zero, {})
    monkeypatch.setattr(audit, "_load", lambda loaded: None)  # this model has none that travel
    audit.keep(loaded, audit.look(loaded))
    audit.leanings(Loaded(rounds.zero, {}))
    assert rounds.looks == 0
    audit.leanings(Loaded(rounds.zero, {"factor": np.ones(1, np.float32)}))
    assert rounds.looks == 1


def test_a_run_sends_the_model_that_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit, or nothing that is kept would ever be used."""
    seen: list[tuple[bytes, bytes]] = []

    def measure(self: Explaining, number: int, received: Loaded, made: Loaded, *of: Any) -> None:
        seen.append((to_bytes(received.parameters), to_bytes(made.parameters)))

    monkeypatch.setattr(Explaining, "measure", measure)
    outcome = federate({"a1": Hospital(shift=0.1), "b1": Hospital(shift=0.7)}, tmp_path, "rounds=3")
    assert outcome.error is None
    assert [received for received, _ in seen[1:]] == [made for _, made in seen[:-1]]
    assert len({made for _, made in seen}) == 3
