"""References and folds that stand beside the federation are what they say they are."""

import numpy as np
import pytest

from fedfm.examples import Example
from scripts.benchmarks import flamby, heart_disease, icu_notes, icu_tables
from scripts.benchmarks.flamby import Centre, fedavg_accuracy
from scripts.benchmarks.heart_disease import mean_site_accuracy, patients_half_width
from scripts.benchmarks.icu_notes import FOLDS, Fold, Region, baselines_of, folds_of
from scripts.benchmarks.registry import BENCHMARKS
from scripts.benchmarks.scoring import Scores, auroc


def centre(seed: int, *, scale: float = 1.0, shift: float = 0.0) -> Centre:
    """A centre whose first column decides."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(120, 13))
    y = (x[:, 0] > 0).astype(np.float64)
    x = scale * x + shift
    return Centre((x[:80], y[:80]), (x[80:], y[80:]))


def test_flambys_reference_learns_and_is_repeatable() -> None:
    centres = [centre(seed) for seed in range(4)]
    found = [fedavg_accuracy(centres, seed=seed) for seed in flamby.SEEDS]
    assert np.mean(found) > 0.65  # short steps leave it half way
    assert fedavg_accuracy(centres, seed=42) == found[0]
    flipped = [Centre((each.train[0], 1 - each.train[1]), each.test) for each in centres]
    assert np.mean([fedavg_accuracy(flipped, seed=seed) for seed in flamby.SEEDS]) < 0.35


def test_flambys_reference_cannot_see_a_centres_own_unit() -> None:
    plain = [centre(seed) for seed in range(4)]
    other_units = [centre(seed, scale=10.0 * (seed + 1), shift=3.0) for seed in range(4)]
    assert fedavg_accuracy(plain, seed=1) == pytest.approx(fedavg_accuracy(other_units, seed=1))


def test_every_site_counts_the_same() -> None:
    right, wrong = Scores(np.ones(90, dtype=np.int64), np.ones(90)), Scores(np.ones(10, dtype=np.int64), np.zeros(10))
    assert mean_site_accuracy({"large": right, "small": wrong}) == 0.5
    half = Scores(np.array([1, 0] * 50), np.ones(100))
    # two sites of 100 patients, half of them right: 1.96 * sqrt(2 * 0.25 / 100) / 2
    assert patients_half_width({"a": half, "b": half}) == pytest.approx(0.0693, abs=1e-4)


def region(name: str, *, seed: int) -> Region:
    """Stays whose word tells the outcome, and whose state tells nothing; patients with one to three stays."""
    rng = np.random.default_rng(seed)
    examples = []
    for patient in range(120):
        label = int(patient % 6 == 0)
        for stay in range(1 + patient % 3):
            word = "grave" if label else "well"
            examples.append(Example(f"{name}-{patient}", label, text=f"{word} patient in bed {stay}"))
    return Region(examples, rng.normal(size=(len(examples), 8)).astype(np.float32))


def test_folds_hold_each_patient_once_and_deaths_everywhere() -> None:
    regions = {name: region(name, seed=1) for name in ("east", "west")}
    fold_of = folds_of(regions)
    assert set(fold_of) == {example.patient for each in regions.values() for example in each.examples}
    for each in regions.values():
        died = {example.patient for example in each.examples if example.label}
        assert {fold_of[patient] for patient in died} == set(range(FOLDS))
        assert max(np.bincount([fold_of[patient] for patient in died])) == 4  # 20 deaths in five folds


def test_a_patient_of_two_regions_is_tested_once() -> None:
    here, there = region("both", seed=1), region("both", seed=2)
    assert len(folds_of({"here": here, "there": there})) == 120


def test_baselines_read_what_they_are_given() -> None:
    regions = {name: region(name, seed=seed) for seed, name in enumerate(("east", "west"))}
    fold_of = folds_of(regions)
    tested = {patient for patient, fold in fold_of.items() if fold == 0}
    fold = baselines_of(regions, tested)
    found = fold.aurocs
    assert set(found) == {f"{name} {kind}" for name in ("pooled", "east", "west") for kind in ("tfidf", "frozen")}
    assert found["pooled tfidf"] == found["east tfidf"] == 1.0
    assert 0.2 < found["pooled frozen"] < 0.8
    pooled = fold.scores["pooled frozen"]
    assert set(pooled.patients) == tested
    assert auroc([pooled]) == pytest.approx(found["pooled frozen"])


def group_scores(fold: int) -> dict[str, Scores]:
    """A federation that ranks men the wrong way round, and two models that do not."""
    labels, sex = np.array([0, 1] * 30), np.array(["female"] * 30 + ["male"] * 30)
    patients = [f"{fold}-{number:02}" for number in range(60)]
    right = labels + np.random.default_rng(fold).normal(0, 0.8, 60)
    turned = np.where(sex == "male", 1 - labels, right)
    return {
        name: Scores(labels, scores, patients, {"sex": sex})
        for name, scores in {"federated": turned, "epsilon3": right, "pooled frozen": right}.items()
    }


def test_every_figure_of_a_fold_reaches_the_result() -> None:
    names = ["federated", "epsilon3", "federated east", "federated west"]
    names += [f"{name} {kind}" for name in ("pooled", "east", "west") for kind in ("tfidf", "frozen")]
    fold = dict(zip(names, [0.8, 0.75, 0.7, 0.6, 0.81, 0.79, 0.55, 0.65, 0.5, 0.72], strict=True))
    fold |= {"epsilon1": 0.6, "epsilon8": 0.78}
    folds = [Fold(fold, group_scores(number)) for number in range(FOLDS)]
    result = icu_notes._result(folds, ["east", "west"])
    figures = result.figures
    assert [figures[f"epsilon{e}_loss_points"] for e in (1, 3, 8)] == pytest.approx([20, 5, 2])
    assert figures["local_best_auroc"] == pytest.approx(0.72)
    assert figures["points_above_local_best"] == pytest.approx(8)
    assert figures["regions_better_than_alone"] == 1  # east, not west
    assert set(icu_notes.BENCHMARK.targets) <= set(figures)
    assert figures["worst_subgroup_points"] > 10  # the federation fails the men, of all folds together
    assert figures["epsilon3_worst_subgroup_points"] == 0
    assert result.grids[0].rows["sex=male"][0] == FOLDS * 30  # fewer than a hundred in each fold


def test_the_public_benchmarks_are_registered() -> None:
    for module in (heart_disease, icu_notes, icu_tables):
        assert BENCHMARKS[module.BENCHMARK.name] == (module.BENCHMARK, module.measure)
