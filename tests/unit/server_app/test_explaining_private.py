"""What the coordinator does not judge in a private study, because noise alone would decide it."""

from pathlib import Path

import numpy as np

from server_app.model_host import build
from server_app.reasons.explaining import Explaining
from server_app.reasons.reference_audit import Loaded
from server_app.report import explanations
from server_app.report.event_log import EventLog
from tests.unit.server_app.test_explaining import deciding, of, study_of, updates_to
from tests.unit.server_app.test_explaining import log as log  # noqa: PLC0414 - a fixture


def test_noise_alone_makes_sites_predictable_and_says_nothing_about_patients(tmp_path: Path, log: EventLog) -> None:
    """Equal sites, each with noise of its own: in a private study the figure is told, and nothing made of it."""
    study, chance = study_of(tmp_path, "explainability.warm_up=0.0"), np.random.default_rng(5)
    _, zero = build(study)
    made = {}
    for site in "abcd":
        made[site] = {name: of + chance.normal(size=of.shape) for name, of in deciding(zero, 0).items()}
    with updates_to(zero, made, tmp_path) as updates:
        Explaining(study, log).measure(1, Loaded(zero, {}), Loaded(deciding(zero, 0), {}), updates, {})
    (gate,) = [gate for gate in of(log, explanations.GateJudged) if gate.gate == "site_predictability"]
    assert gate.estimate.low > gate.limit
    assert gate.passed is None
    assert "noise of differential privacy" in gate.reason
