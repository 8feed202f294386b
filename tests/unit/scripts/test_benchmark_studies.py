"""Figures of the public studies are figures of the model that a run leaves, on the patients it was not trained on."""

from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
import pytest
import torch

from client_app.data.catalog import load_splits
from fedfm.config.compose import compose_study, load_site
from fedfm.errors import DataError
from scripts.benchmarks import public_sites
from scripts.benchmarks.public_sites import copy_divided, copy_sites, public_folder
from scripts.benchmarks.scoring import Scores, accuracy, auroc, federate, half_width, kept_states, stated
from scripts.public_data.heart_disease import _NUMBERS as HEART
from scripts.public_data.site_folders import PublicSite, write_sites
from server_app.report.event_log import read_events
from server_app.report.events import ModelEvaluated
from server_app.simulate import find_sites

OVERRIDES = ["experiment=heart_disease", "privacy=none", "evaluation=exact", "rounds=4"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def clinic(name: str, *, seed: int, patients: int = 90) -> PublicSite:
    """A clinic where ST depression decides; every third patient is tested."""
    rng = np.random.default_rng(seed)
    columns = [column.name for column in compose_study(OVERRIDES).value.task.columns]
    table = pd.DataFrame({column: rng.integers(0, 2, patients) for column in columns})
    for column, middle in {"age": 55, "trestbps": 115, "chol": 180, "thalach": 150}.items():
        table[column] = rng.integers(middle - 20, middle + 20, patients)
    table["oldpeak"] = rng.uniform(0, 2, patients).round(1)
    table["disease"] = (table["oldpeak"] + rng.normal(0, 0.3, patients) > 1).astype(int)
    table["patient"] = [f"{name}-{number}" for number in range(patients)]
    table["split"] = ["test" if number % 3 == 0 else "train" for number in range(patients)]
    return PublicSite(name, name, table, HEART)


@pytest.fixture
def clinics(tmp_path: Path) -> Path:
    write_sites([clinic("north", seed=1), clinic("south", seed=2)], tmp_path / "clinics")
    return tmp_path / "clinics"


@pytest.mark.parametrize("standardize", ["global", "site"])
def test_scores_are_those_that_the_run_counted(clinics: Path, tmp_path: Path, standardize: str) -> None:
    """Where each site standardises by its own statistics, too: these are not in the adapter."""
    study = [*OVERRIDES, f"standardize={standardize}"]
    found = federate(find_sites(clinics, site_file="site.yaml"), overrides=study, results=tmp_path / "results")
    assert {name: len(scores.labels) for name, scores in found.items()} == {"north": 30, "south": 30}
    counted = [e for e in read_events(tmp_path / "results/latest/events.jsonl") if isinstance(e, ModelEvaluated)][-1]
    assert counted.performance.accuracy is not None
    assert counted.performance.auroc is not None
    assert mean(map(accuracy, found.values())) == pytest.approx(counted.performance.accuracy.value)
    assert auroc(found.values()) == pytest.approx(counted.performance.auroc.value, abs=0.03)  # ten bins
    assert auroc(found.values()) > 0.85


def test_the_trainer_finds_states_that_were_put_into_its_cache(clinics: Path, tmp_path: Path) -> None:
    sites, study = find_sites(clinics, site_file="site.yaml"), compose_study(OVERRIDES).value
    for path in sites.values():
        site = load_site(path)
        splits = load_splits(site, study.task)
        for part in (splits.train, splits.test):
            kept_states(site, study, part, lambda chosen: [torch.zeros(26) for _ in chosen])
    found = federate(sites, overrides=OVERRIDES, results=tmp_path / "results")
    # A model that had seen the columns would tell patients apart.
    assert len({score for scores in found.values() for score in scores.scores.tolist()}) == 1


def test_copies_leave_state_behind_and_the_source_alone(clinics: Path, tmp_path: Path) -> None:
    (clinics / "north" / "state").mkdir()
    (clinics / "north" / "state" / "ledger.jsonl").write_text("spent")
    before = {path: path.read_bytes() for path in clinics.rglob("*") if path.is_file()}
    copies = copy_sites(clinics, tmp_path / "copies")
    assert not (copies / "north" / "state").exists()
    assert (copies / "north" / "cohort.csv").read_bytes() == before[clinics / "north" / "cohort.csv"]
    copy_divided(clinics, tmp_path / "divided", part_of=lambda _: "train")
    assert {path: path.read_bytes() for path in clinics.rglob("*") if path.is_file()} == before


def test_copies_are_divided_as_asked_and_declare_their_training_patients(clinics: Path, tmp_path: Path) -> None:
    copies = copy_divided(
        clinics, tmp_path / "c", part_of=lambda who: "test" if int(who.split("-")[1]) < 31 else "train"
    )
    site = load_site(copies / "south" / "site.yaml")
    splits = load_splits(site, compose_study(OVERRIDES).value.task)
    assert {example.patient for example in splits.test} == {f"south-{number}" for number in range(31)}
    assert len(splits.train) == 59
    assert site.declared_patients == 60


def test_a_data_set_that_is_not_there_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_sites, "PROJECT", tmp_path)
    with pytest.raises(DataError, match=r"BENCH-E001.*scripts/fetch-data heart_disease"):
        public_folder("heart_disease")


def test_figures_of_scores() -> None:
    one = Scores(np.array([1, 0, 1]), np.array([0.5, 0.49, 0.2]))
    other = Scores(np.array([0]), np.array([0.3]))
    assert accuracy(one) == pytest.approx(2 / 3)  # one half is positive, as the run counts it
    assert auroc([one]) == pytest.approx(1 / 2)
    assert auroc([one, other]) == pytest.approx(2 / 4)
    assert half_width([1, 2, 3, 4, 5]) == pytest.approx(1.963, abs=1e-3)  # 2.776 * 1.5811 / sqrt(5)
    assert stated("x", [1, 2, 3, 4, 5]) == "x 3.000 ± 1.963"
    with pytest.raises(ValueError, match="4 values"):
        half_width([1, 2, 3, 4])
