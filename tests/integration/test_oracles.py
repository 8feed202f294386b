"""A coordinator that chooses a study to learn about the data is told the same by every hospital."""

from collections.abc import Callable
from pathlib import Path

import pytest

from client_app.trainer.connect import SocketTrainer
from fedfm.errors import FedFMError
from tests.integration.conftest import CANARY, request, write_hospital

Serve = Callable[[Path], Path]

DIGEST = "ab" * 32
WEIGHTS = ["model=minilm", f"model.sha256={DIGEST}"]
COLUMNS = ["model=logistic", "adapter=full", "task=heart_disease", "explainability=none"]


def with_columns(site_file: Path) -> Path:
    text = site_file.read_text()
    labels = "{recovered: healthy, deteriorated: disease}"
    text = text.replace("{recovered: recovered, deteriorated: deteriorated}", labels)
    site_file.write_text(text.replace("loader: text", "loader: columns\n  columns: {age: age}"))
    return site_file


@pytest.fixture
def hospitals(tmp_path: Path) -> list[Path]:
    """One whole hospital, one with another outcome and other columns, one without its table."""
    whole, other, none = (write_hospital(tmp_path / name) for name in ("whole", "other", "none"))
    table = other.parent / "cohort.csv"
    table.write_text(table.read_text().replace("recovered", f"{CANARY}-hiv").replace(",sex", ",sex2", 1))
    (none.parent / "cohort.csv").unlink()
    return [whole, other, none]


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ([f"task.labels=[recovered,{CANARY}-hiv]", "task.positive=recovered"], "SITE-E022"),
        (["task.labels=[fever,lactate]", "task.positive=fever"], "SITE-E022"),
        (COLUMNS, "SITE-E023"),
        ([*WEIGHTS, "model.source=directory", "model.location=/"], "SITE-E142"),
        ([*WEIGHTS, "model.source=directory", "model.location=/etc"], "SITE-E142"),
        ([*WEIGHTS, "model.source=directory", "model.location=state"], "SITE-E142"),
    ],
)
def test_every_hospital_refuses_in_the_same_words(
    hospitals: list[Path], serve_here: Serve, overrides: list[str], code: str
) -> None:
    told = set()
    for site_file in hospitals:
        served = with_columns(site_file) if overrides is COLUMNS else site_file
        with pytest.raises(FedFMError, match=code) as refused:
            SocketTrainer(str(serve_here(served))).describe(request(0, {}, *overrides))
        told.add(str(refused.value))
    assert len(told) == 1


def test_the_same_hospitals_differ_where_the_study_is_theirs(hospitals: list[Path], serve_here: Serve) -> None:
    """Else the words above could be equal because nobody looks at any data."""
    told = []
    for site_file in hospitals:
        try:
            told.append(SocketTrainer(str(serve_here(site_file))).describe(request(0, {})).site)
        except FedFMError as refused:
            told.append(refused.code)
    assert told == ["hospital-a", "SITE-E015", "SITE-E011"]
