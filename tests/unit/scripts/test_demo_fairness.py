"""The gap that reweighting is to close is counted by patient, and signed so that chance does not add up."""

from pathlib import Path

import numpy as np
import pytest

from client_app.data.catalog import load_splits
from fedfm.config.compose import compose_study, load_site
from scripts.benchmarks import demo_fairness
from scripts.benchmarks.demo_fairness import (
    REWEIGHTED,
    STUDIES,
    Answers,
    Pair,
    accuracy,
    answers_of,
    figures_of,
    gap,
    intervals,
)
from scripts.benchmarks.scoring import Scores
from server_app.simulate import find_sites

ONCE = np.ones(6)


def answers(*called: float) -> Answers:
    """Two men and two women who deteriorate, one woman of them recorded as recovered; and one of each who recovers."""
    female = np.array([False, False, True, True, False, True])
    reviewed = np.array([True, True, True, True, False, False])
    recorded = np.array([True, True, True, False, False, False])
    return Answers(female, {"recorded": recorded, "reviewed": reviewed}, np.array(called))


def test_gap_and_accuracy_count_patients() -> None:
    found = answers(1, 0.5, 0.25, 0, 0, 1)
    assert gap(found, "recorded", ONCE) == pytest.approx(75 - 25)
    assert gap(found, "reviewed", ONCE) == pytest.approx(75 - 12.5)
    assert accuracy(found, "recorded", ONCE) == pytest.approx(100 * (1 + 0.5 + 0.25 + 1 + 1 + 0) / 6)
    assert accuracy(found, "reviewed", ONCE) == pytest.approx(100 * (1 + 0.5 + 0.25 + 0 + 1 + 0) / 6)
    twice = np.array([1, 0, 1, 1, 1, 1])
    assert gap(found, "recorded", twice) == pytest.approx(100 - 25)


def test_notes_of_a_patient_count_together() -> None:
    site = Scores(
        np.array([1, 1, 0, 1]),
        np.array([0.9, 0.4, 0.5, 0.1]),
        ["A1", "A1", "A2", "A3"],
        {"sex": np.array(["male", "male", "female", "female"])},
    )
    found = answers_of([site], {"A1": True, "A2": True, "A3": True})
    assert found.called.tolist() == [0.5, 1.0, 0.0]
    assert found.female.tolist() == [False, True, True]
    assert found.outcomes["recorded"].tolist() == [True, False, True]
    assert found.outcomes["reviewed"].tolist() == [True, True, True]


def test_gaps_of_opposite_sign_cancel_over_seeds() -> None:
    wide, narrow = answers(1, 1, 0, 0, 0, 0), answers(0.5, 0.5, 1, 1, 0, 0)
    one = figures_of([Pair(wide, wide)], "recorded")
    assert one == {"gap_without": 100, "gap_with": 100, "gap_ratio": 1, "accuracy_loss_points": 0}
    two = figures_of([Pair(wide, wide), Pair(wide, narrow)], "recorded")
    assert two["gap_with"] == pytest.approx((100 - 50) / 2)
    assert two["gap_ratio"] == pytest.approx(0.25)
    assert two["accuracy_loss_points"] == pytest.approx(100 * (5 / 6 - 4 / 6) / 2)
    over = figures_of([Pair(wide, narrow)], "recorded")
    assert over["gap_ratio"] == pytest.approx(0.5)  # turned round is a gap, too


def test_intervals_hold_the_truth_of_many_patients() -> None:
    rng = np.random.default_rng(2)
    female, recorded = rng.random(4000) < 0.5, rng.random(4000) < 0.4

    def drawn(women: float) -> Answers:
        called = (rng.random(4000) < np.where(female, women, 0.7)).astype(float)
        return Answers(female, {"recorded": recorded, "reviewed": recorded}, called)

    pairs = [Pair(drawn(0.4), drawn(0.6)) for _ in range(5)]
    told = intervals("open", pairs)
    low, high = (float(part) for part in told.split("gap ratio ")[1].split(";")[0].split(" to "))
    assert low < 1 / 3 < high
    assert high - low < 0.3


def test_hospitals_are_halved_by_patient_and_studies_compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_fairness, "PATIENTS", 40)
    sites = find_sites(demo_fairness._hospitals(tmp_path, 3), site_file="site.yaml")
    assert len(sites) == demo_fairness.SITES
    for study in STUDIES.values():
        composed = compose_study([*study, *REWEIGHTED]).value
        assert composed.reweighting.params["attribute"] == "sex"
        splits = load_splits(load_site(sites["hospital-a"]), composed.task)
        train, test = ({example.patient for example in part} for part in (splits.train, splits.test))
        assert len(train) == len(test) == 20
        assert not train & test
    reviewed = demo_fairness._reviewed(sites)
    assert len(reviewed) == 4 * 40
    assert compose_study(STUDIES["open"]).value.privacy.mechanism == "none"
