"""The worst group's shortfall is of the groups that are large enough, and compares models on the same patients."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scripts.benchmarks.by_group import compare, joined, members, reported, weighted_auroc
from scripts.benchmarks.scoring import Scores

SEX = np.array(["female"] * 150 + ["male"] * 240 + ["unknown"] * 9 + [""])
LABELS = np.tile([0, 1], 200)
PATIENTS = [f"p{number:03}" for number in range(400)]


def scored(*, signal: dict[str, float]) -> Scores:
    """Scores that tell the groups' outcomes apart as well as ``signal`` says."""
    strength = np.array([signal.get(sex, 0.0) for sex in SEX])
    noise = np.random.default_rng(3).normal(size=400)
    return Scores(LABELS, noise + strength * LABELS, PATIENTS, {"sex": SEX})


def test_groups_of_few_patients_or_without_a_name_are_not_looked_at() -> None:
    found = scored(signal={})
    assert {name: int(inside.sum()) for name, inside in members(found).items()} == {"sex=female": 150, "sex=male": 240}
    assert set(members(found, least=9)) == {"sex=female", "sex=male", "sex=unknown"}
    of_one = Scores(LABELS, found.scores, ["same"] * 400, found.groups)  # patients count, not their stays
    assert members(of_one) == {}


def test_weighted_auroc_is_scikit_learns() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        scores, labels, weights = rng.integers(0, 6, 50), rng.integers(0, 2, 50), rng.integers(0, 4, 50).astype(float)
        _, places = np.unique(scores, return_inverse=True)
        expected = roc_auc_score(labels, scores, sample_weight=weights)
        assert weighted_auroc(places, labels == 1, weights) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(weighted_auroc(places, labels == 1, weights * (labels == 1)))


def test_a_model_that_fails_one_group_lies_further_below_its_mean() -> None:
    even, uneven = scored(signal={"female": 1.5, "male": 1.5}), scored(signal={"female": 0.2, "male": 1.5})

    def shortfall(found: Scores) -> float:
        worst = min(roc_auc_score(LABELS[sex == SEX], found.scores[sex == SEX]) for sex in ("female", "male"))
        return float(roc_auc_score(LABELS, found.scores) - worst)

    compared = compare([uneven], even)
    assert compared.points == pytest.approx(100 * (shortfall(uneven) - shortfall(even)))
    assert 0 < compared.low < compared.points < compared.high
    assert compare([even], even).points == 0
    both = compare([uneven, even], even)
    assert both.points == pytest.approx(compared.points / 2)


def test_only_the_same_examples_are_compared() -> None:
    one = scored(signal={})
    with pytest.raises(ValueError, match="same examples"):
        compare([Scores(1 - LABELS, one.scores, PATIENTS, one.groups)], one)
    with pytest.raises(ValueError, match="same examples"):
        compare([Scores(LABELS, one.scores, PATIENTS[::-1], one.groups)], one)


def test_joined_parts_are_in_one_order_however_they_were_divided() -> None:
    whole = scored(signal={"male": 1.0})
    cuts = [np.arange(400) % 3 == part for part in (2, 0, 1)]
    parts = [
        Scores(
            whole.labels[cut],
            whole.scores[cut],
            [patient for patient, inside in zip(PATIENTS, cut, strict=True) if inside],
            {"sex": SEX[cut], **({"ward": SEX[cut]} if number else {})},
        )
        for number, cut in enumerate(cuts)
    ]
    found = joined(parts)
    assert list(found.patients) == PATIENTS
    assert np.array_equal(found.scores, whole.scores)
    assert np.array_equal(found.groups["sex"], SEX)
    assert set(found.groups) == {"sex"}  # what only some parts know is left out
    twice = joined([Scores(np.array([0, 1]), np.array([0.1, 0.2]), ["b", "b"]), Scores(LABELS[:1], LABELS[:1], ["a"])])
    assert twice.scores.tolist() == [0, 0.1, 0.2]  # one patient's stays keep their order


def test_figures_are_of_the_first_model_and_the_grid_of_all() -> None:
    even, uneven = scored(signal={"female": 1.5, "male": 1.5}), scored(signal={"female": 0.2, "male": 1.5})
    found = reported({"federated": [uneven], "epsilon3": [even]}, even)
    assert found.figures["epsilon3_worst_subgroup_points"] == 0
    assert found.figures["worst_subgroup_points"] > 5
    assert found.grid.columns == ("patients", "federated", "epsilon3", "pooled")
    assert found.grid.rows["sex=female"][0] == 150
    assert found.grid.rows["sex=female"][1] == pytest.approx(
        roc_auc_score(LABELS[SEX == "female"], uneven.scores[SEX == "female"])
    )
    assert found.grid.rows["all"][3] == pytest.approx(roc_auc_score(LABELS, even.scores))
