"""The table of rules is chosen from on training patients, and says what its columns' names say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from client_app.data.catalog import load_splits
from fedfm.config.compose import compose_study, load_site
from scripts.benchmarks.flamby import Centre
from scripts.benchmarks.heart_disease_rules import (
    FOLDS,
    STANDARDS,
    STUDY,
    Cell,
    alone,
    chosen,
    columns_of,
    divided,
    grid,
    held_out,
    measure_cell,
    validated,
)
from scripts.benchmarks.scoring import Scores
from scripts.public_data.heart_disease import _NUMBERS as HEART
from scripts.public_data.site_folders import PublicSite, write_sites
from server_app.weighting.rules import RULES

NAMES = {"north", "south", "east", "west"}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    """Four hospitals where ST depression decides; every third patient is a published test patient."""
    columns = [column.name for column in compose_study(STUDY).value.task.columns]
    sites = []
    for number, name in enumerate(sorted(NAMES)):
        rng = np.random.default_rng(number)
        table = pd.DataFrame({column: rng.integers(0, 2, 90) for column in columns})
        table["oldpeak"] = rng.uniform(0, 2, 90).round(1)
        table["disease"] = (table["oldpeak"] + rng.normal(0, 0.3, 90) > 1).astype(int)
        table["patient"] = [f"{name}-{patient}" for patient in range(90)]
        table["split"] = ["test" if patient % 3 == 0 else "train" for patient in range(90)]
        sites.append(PublicSite(name, name, table, HEART))
    write_sites(sites, tmp_path / "hospitals")
    return tmp_path / "hospitals"


def published(patient: str) -> bool:
    return int(patient.split("-")[1]) % 3 == 0


def test_published_test_patients_are_never_held_out_trained_on_or_audited(hospitals: Path) -> None:
    folds = [held_out(hospitals, fold) for fold in range(FOLDS)]
    together = [patient for fold in folds for patient in fold]
    assert len(together) == len(set(together)) == 240
    assert not any(map(published, together))
    for held in folds:
        assert {patient.split("-")[0] for patient in held} == NAMES
        parts = divided(hospitals, held)
        assert {parts[patient] for patient in held} == {"test"}
        assert all((part == "test") == (published(patient) or patient in held) for patient, part in parts.items())
    parts = divided(hospitals)
    assert all((part == "test") == published(patient) for patient, part in parts.items())
    assert 0.1 < list(parts.values()).count("audit") / 240 < 0.3


def test_validation_looks_at_nobody_but_those_held_out() -> None:
    run = {
        "a": Scores(np.array([1, 0, 1]), np.array([0.9, 0.9, 0.1]), ["a-0", "a-1", "a-2"]),
        "b": Scores(np.array([1, 0]), np.array([0.9, 0.1]), ["b-1", "b-3"]),
    }
    assert validated(run, {"a-1", "a-2", "b-1"}) == pytest.approx(0.5)


@pytest.mark.slow
def test_a_rule_is_heard_and_all_hospitals_take_part(hospitals: Path, tmp_path: Path) -> None:
    power = measure_cell(hospitals, tmp_path / "power", ("site", "power"), (1,))
    cohort = measure_cell(hospitals, tmp_path / "cohort", ("site", "cohort"), (1,))
    assert set(power.tested[0]) == NAMES
    assert all(published(patient) for found in power.tested[0].values() for patient in found.patients)
    assert len(power.validated) == FOLDS
    assert min(power.validated) > 0.7
    # Audit losses reach the rule, else it would be cohort's.
    assert any(
        not np.allclose(power.tested[0][site].scores, cohort.tested[0][site].scores, atol=1e-6) for site in NAMES
    )
    site = load_site(tmp_path / "power" / "fold-0" / "north" / "site.yaml")
    assert load_splits(site, compose_study(STUDY).value.task).audit


def test_columns_are_what_their_names_say() -> None:
    def run(*right: int) -> dict[str, Scores]:
        labels = np.array([0] * 5 + [1] * 5)
        return {
            f"site-{number}": Scores(labels, np.where(np.arange(10) < count, labels, 1 - labels).astype(float))
            for number, count in enumerate(right)
        }

    cell = Cell([run(9, 6)] * 4 + [run(10, 5)], [0.5, 0.6, 0.7, 0.8, 0.9])
    found = columns_of(cell, {"site-0": 0.92, "site-1": 0.57})
    assert found.validated == pytest.approx(0.7)
    assert found.mean == pytest.approx(0.75)
    assert found.half_width == pytest.approx(0, abs=1e-9)
    assert found.worst == pytest.approx((4 * 0.6 + 0.5) / 5)
    assert found.variance == pytest.approx((4 * 15**2 + 25**2) / 5)
    assert found.gained == 1  # 0.92 of 0.92 is no gain, 0.58 of 0.57 is
    assert found.pooled_auroc == pytest.approx(found.mean_auroc, abs=0.1)
    other = Cell(cell.tested, [0.9] * 5)
    cells = {("site", "cohort"): cell, ("global", "power"): other}
    assert chosen(cells) == ("global", "power")
    table = grid(cells, {"site-0": 0.92, "site-1": 0.57})
    assert list(table.rows) == ["site, cohort", "global, power"]
    assert {len(row) for row in table.rows.values()} == {len(table.columns)}
    assert dict(zip(table.columns, table.rows["site, cohort"], strict=True))["worst"] == found.worst


def test_a_hospital_alone_knows_its_own_patients_only() -> None:
    x = np.arange(40.0).reshape(-1, 1)
    y = (x[:, 0] >= 20).astype(float)
    ill = (x[:8], np.ones(8))
    found = alone({"usual": Centre((x, y), (x, y)), "all-ill": Centre(ill, (x, y))})
    assert found["usual"] > 0.9
    assert found["all-ill"] == pytest.approx(0.5)


def test_every_standardisation_and_rule_composes() -> None:
    for standard in STANDARDS:
        for rule in RULES:
            study = compose_study([*STUDY, f"standardize={standard}", f"weighting={rule}"]).value
            assert (study.standardize.method, study.weighting.rule) == (standard, rule)
