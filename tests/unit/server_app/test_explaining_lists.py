"""Which site is named for leaning on a list, on public examples: the one that adds to what all were sent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedfm.arrays import Arrays
from fedfm.config.study import Study
from server_app.model_host import build
from server_app.reasons.explaining import Explaining
from server_app.reasons.reference_audit import Loaded, ReferenceAudit
from server_app.report import explanations
from server_app.report.events import EventLog
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
