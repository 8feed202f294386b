"""The docstring task gives its answer away nowhere, and tests nothing that trained."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from client_app.data.catalog import load_splits
from fedfm.config.compose import compose_study, load_site
from scripts.benchmarks import private_utility, private_utility_texts
from scripts.benchmarks.private_utility import CHOSEN, STUDY, Encoded, Steps, figure, measure_draw, studies, written
from scripts.benchmarks.private_utility_texts import LIBRARIES, divided, docstrings, masked

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::SyntaxWarning")


@pytest.mark.parametrize(
    "text",
    ["See numpy.array", "a PyTorch module", "np.zeros\n  and  pd.Series", "scikit-learn's SciPy", "Hugging Face hub"],
)
def test_names_of_libraries_are_masked(text: str) -> None:
    assert "library" in masked(text)
    assert not re.search(r"numpy|torch|\bnp\.|\bpd\.|scikit|scipy|hugging|\s\s", masked(text), re.IGNORECASE)


def test_words_that_only_contain_an_alias_stay() -> None:
    assert masked("the input. An mp.map of grasp.") == "the input. An mp.map of grasp."


def test_docstrings_of_installed_packages_are_distinct_and_in_one_order() -> None:
    table = docstrings(["typer", "rich"])
    assert set(table["library"]) == {"typer", "rich"}
    assert table["text_id"].is_monotonic_increasing
    assert table["text"].str.len().min() >= private_utility_texts.SHORTEST
    assert not table["text"].str[:120].str.lower().duplicated().any()


def texts_of(count: int) -> pd.DataFrame:
    rows = [
        (f"{number:05d}-{library}", f"text {number} {library}", library)
        for number in range(count)
        for library in LIBRARIES
    ]
    return pd.DataFrame(rows, columns=["text_id", "text", "library"])


def test_tested_texts_are_as_many_as_said_and_never_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_utility_texts, "TESTED", 20)
    monkeypatch.setattr(private_utility_texts, "TRAINING", 10)
    table = divided(texts_of(30))
    assert not table["text_id"].duplicated().any()
    assert (table["split"] == "test").sum() == 20
    counts = table.groupby(["split", "library"]).size()
    assert counts["train"].tolist() == [10] * 6
    assert sorted(counts["test"].tolist()) == [3, 3, 3, 3, 4, 4]


@pytest.fixture
def encoded() -> Encoded:
    table = texts_of(30).assign(split=["test" if number % 5 == 0 else "train" for number in range(180)])
    states = torch.nn.functional.one_hot(torch.arange(180) % 6, 384).float() * 3
    return Encoded(table, states)


def test_silos_share_no_text_and_a_draw_is_a_draw(encoded: Encoded, tmp_path: Path) -> None:
    study = compose_study(STUDY).value
    dealt = {}
    for draw in (1, 2):
        sites = written(encoded, tmp_path / str(draw), draw, 30)
        splits = [load_splits(load_site(path), study.task) for path in sites.values()]
        assert [len(each.train) for each in splits] == [30] * 4
        trained = [example.patient for each in splits for example in each.train]
        tested = [example.patient for each in splits for example in each.test]
        assert len(set(trained)) == 120
        assert sorted(tested) == sorted(encoded.table.loc[encoded.table["split"] == "test", "text_id"])
        dealt[draw] = trained
    assert set(dealt[1]) != set(dealt[2])


@pytest.mark.slow
def test_studies_run_through_the_real_apps_private_ones_first(
    encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {(30, 4, None): Steps(2, 10, 2, None), (30, 4, 8): Steps(2, 2, 4, 0.5), (30, 1, 8): Steps(1, 1, 4, 0.5)}
    monkeypatch.setattr(private_utility, "CHOSEN", few)
    monkeypatch.setattr(private_utility, "COMPARED", {})
    assert list(studies(30))[-1] == "open_federated_30"
    found = measure_draw(encoded, tmp_path / "work", 1, 30)
    assert found["open_federated_30"] == 1  # the states say the class
    assert 0 <= found["epsilon8_local_30"] <= 1
    assert set(found) == {"open_federated_30", "epsilon8_federated_30", "epsilon8_local_30"}


def test_every_private_setting_has_its_open_counterpart() -> None:
    assert {(patients, silos) for patients, silos, epsilon in CHOSEN if epsilon} == {
        (patients, silos) for patients, silos, epsilon in CHOSEN if epsilon is None
    }
    assert figure(1000, 4, 1) == "epsilon1_federated"
    assert figure(250, 1, None) == "open_local_250"
