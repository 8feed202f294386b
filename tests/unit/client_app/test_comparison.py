"""Figures that stay at home: what they are, who may read the file, and how they are shown."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from client_app.cli import app
from client_app.comparison import auroc, kept_figures
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, load_site
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from tests.integration.conftest import CANARY, TINY, request, write_hospital


@pytest.fixture(scope="module")
def start() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.booleans(), st.sampled_from([1.0, 0.5, 0.25])), min_size=2, max_size=30
    )
)
def test_the_area_is_that_of_scikit_learn_with_ties_and_shares(rows: list[tuple[int, bool, float]]) -> None:
    scores, positives, shares = (np.array(column) for column in zip(*rows, strict=True))
    found = auroc(scores / 4.0, positives, shares)
    if positives.all() or not positives.any():
        assert found is None
    else:
        assert found == pytest.approx(roc_auc_score(positives, scores, sample_weight=shares))


def shown(site_file: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["compare", str(site_file), *options], env={"COLUMNS": "110"})
    assert result.exit_code == 0, result.output
    assert CANARY not in result.output
    return result.output


def test_a_run_leaves_figures_of_its_models_for_the_hospital_alone(tmp_path: Path, start: Arrays) -> None:
    file = write_hospital(tmp_path)
    assert "No study has trained a second model here yet" in shown(file)
    trainer, study = Trainer(load_site(file)), ("personal=ditto", "baseline=alone")
    trainer.train(request(1, start, *study))
    trainer.evaluate(request(1, start, *study))
    assert not list((tmp_path / "state").glob("comparison-*"))  # not before the closing evaluation
    trainer.evaluate(request(3, start, *study))
    (path,) = (tmp_path / "state").glob("comparison-*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    (run,) = json.loads(shown(file, "--json"))["runs"]
    assert (run["run"], run["study"]) == ("run-1", "demo")
    assert [model["model"] for model in run["models"]] == ["federated", "personal", "alone"]
    assert all(0 <= model[figure] <= 1 for model in run["models"] for figure in ("accuracy", "auroc"))
    text = shown(file)
    assert "do not share" in text
    assert all(word in text for word in ("run-1 (demo)", "federated", "personal", "alone", "accuracy", "AUROC"))


def test_figures_are_those_of_the_models_and_patients(tmp_path: Path, start: Arrays) -> None:
    """Of the received parameters, by the model itself: patient by patient."""
    import torch  # noqa: PLC0415

    trainer = Trainer(load_site(write_hospital(tmp_path)))
    trainer.evaluate(request(3, start, "personal=ditto"))
    (told,) = kept_figures(trainer.site)
    assert [figures.model for figures in told.models] == ["federated"]  # it has not trained: it has no other
    assert trainer._warm is not None
    prepared = trainer._warm[1]
    examples = prepared.splits.test
    with torch.no_grad():
        scores = prepared.model(prepared.test.states).softmax(dim=1)[:, 1].numpy()
    notes = {e.patient: sum(other.patient == e.patient for other in examples) for e in examples}
    shares = np.array([1 / notes[e.patient] for e in examples])
    labels = np.array([e.label for e in examples])
    assert told.patients == len(notes) == pytest.approx(shares.sum())
    assert told.models[0].accuracy == pytest.approx(float((shares * ((scores >= 0.5) == labels)).sum() / shares.sum()))
    assert told.models[0].auroc == pytest.approx(roc_auc_score(labels, scores, sample_weight=shares))


def test_a_study_of_one_model_leaves_no_figures(tmp_path: Path, start: Arrays) -> None:
    trainer = Trainer(load_site(write_hospital(tmp_path)))
    trainer.evaluate(request(3, start))
    assert kept_figures(trainer.site) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"models": []}', '{"models": [{"x": 1}]}'])
def test_damaged_figures_are_named(text: str, tmp_path: Path) -> None:
    file = write_hospital(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "comparison-1.json").write_text(text)
    result = CliRunner().invoke(app, ["compare", str(file)])
    assert result.exit_code == 2
    assert "SITE-E164" in result.output
