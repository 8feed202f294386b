"""Exact figures by group are those that anybody would count who saw all hospitals' test patients."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch

from client_app.data.catalog import load_splits
from fedfm.arrays import from_bytes
from fedfm.config.compose import compose_study, load_site
from fedfm.config.study import Study
from fedfm.examples import Example
from fedfm.metrics.counts import LOSS_CAP
from fedfm.metrics.performance import LEAST_PATIENTS
from fedfm.model.build import build_model
from fedfm.parameters import load_trainable
from server_app.report import events
from tests.integration.conftest import write_hospital
from tests.integration.test_simulate import OPEN, PLAIN, happened, simulated

STUDY = [*PLAIN, "rounds=2", "training.local_steps=10", "training.learning_rate=2.0", "task.groups=[sex]"]
STUDY += ["evaluation.group_bins=4"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def by_patient(examples: tuple[Example, ...], figures: list[float]) -> dict[str, list[float]]:
    found = defaultdict(list)
    for example, figure in zip(examples, figures, strict=True):
        found[example.patient].append(figure)
    return found


def test_exact_figures_by_group_and_losses_are_those_of_the_patients(tmp_path: Path) -> None:
    files = [
        write_hospital(tmp_path / "sites" / f"hospital-{n}", patients=320, policy=OPEN, name=f"hospital-{n}")
        for n in "ab"
    ]
    code, output = simulated(tmp_path / "sites", tmp_path / "results", *STUDY)
    assert code == 0, output
    study: Study = compose_study(STUDY).value
    model = build_model(study.model, study.adapter, study.task, seed=study.seed)
    load_trainable(model, from_bytes((tmp_path / "results" / "latest" / "checkpoint-0002.safetensors").read_bytes()))
    counted: Counter[tuple[str, int, int]] = Counter()
    losses: list[float] = []
    for site in map(load_site, files):
        splits = load_splits(site, study.task)
        with torch.no_grad():
            scores = [float(model(model.encode([example])).softmax(-1)[0, 1]) for example in splits.test]
            lost = [
                float(torch.nn.functional.cross_entropy(model(model.encode([e])), torch.tensor([e.label])))
                for e in splits.audit
            ]
        notes = Counter(example.patient for example in splits.test)
        for example, score in zip(splits.test, scores, strict=True):
            counted[example.groups["sex"], example.label, int(score >= 0.5)] += 1 / notes[example.patient]  # type: ignore[assignment]
        losses += [min(sum(own) / len(own), LOSS_CAP) for own in by_patient(splits.audit, lost).values()]
    (grouped,) = [event for event in happened(tmp_path / "results") if isinstance(event, events.GroupsEvaluated)]
    assert set(grouped.groups) == {"sex=female", "sex=male"}
    for group in ("female", "male"):
        cells = {(label, called): counted[group, label, called] for label in (0, 1) for called in (0, 1)}
        patients = sum(cells.values())
        found = grouped.groups[f"sex={group}"]
        assert found is not None
        assert found.accuracy is not None
        assert found.selection is not None
        assert found.patients.value == pytest.approx(patients)
        assert found.accuracy.value == pytest.approx((cells[0, 0] + cells[1, 1]) / patients)
        assert found.selection.value == pytest.approx((cells[0, 1] + cells[1, 1]) / patients)
        positives = cells[1, 0] + cells[1, 1]
        if positives < LEAST_PATIENTS:  # all men of these hospitals recover
            assert (group, found.sensitivity) == ("male", None)
        else:
            assert found.sensitivity is not None
            assert found.sensitivity.value == pytest.approx(cells[1, 1] / positives)
    (apart,) = [event for event in happened(tmp_path / "results") if isinstance(event, events.GapsEvaluated)]
    selection = [counted[g, 0, 1] + counted[g, 1, 1] for g in ("female", "male")]
    totals = [sum(n for (group, *_), n in counted.items() if group == g) for g in ("female", "male")]
    parity = apart.pooled["sex"]["demographic_parity"]
    assert parity is not None
    assert parity.difference.value == pytest.approx(abs(selection[0] / totals[0] - selection[1] / totals[1]))
    assert apart.pooled["sex"]["equal_opportunity"] is None
    assert set(apart.sites) == {"hospital-a", "hospital-b"}
    last = [event for event in happened(tmp_path / "results") if isinstance(event, events.LossMeasured)][-1]
    assert last.together is not None
    assert last.together.value == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_a_hospital_without_audit_patients_takes_part_and_answers_with_noise(tmp_path: Path) -> None:
    """Nobody learns from the answer that there are none; nothing can be said of its loss, and all goes on."""
    for name in ("hospital-a", "hospital-b"):
        site_file = write_hospital(tmp_path / "sites" / name, patients=100, name=name)
        text = site_file.read_text().replace("train: 0.6, audit: 0.2, test: 0.2", "train: 0.6, audit: 0.0, test: 0.4")
        site_file.write_text(text)
    study = ["model=tiny", "adapter=head", "rounds=1", "explainability.documents=4"]
    code, output = simulated(tmp_path / "sites", tmp_path / "results", *study)
    assert code == 0, output
    assert "2 of 2 hospitals" in output
    assert [event for event in happened(tmp_path / "results") if isinstance(event, events.LossMeasured)]
    assert not [event for event in happened(tmp_path / "results") if isinstance(event, events.SiteLeftOut)]


def test_hospitals_without_small_cells_show_many_or_nobody_and_the_run_goes_on(tmp_path: Path) -> None:
    """The default policy, with exact counts: one count of test patients leaves, and no answer of few."""
    policy = OPEN.replace("small_cells: none", "small_cells: cms")
    assert policy != OPEN
    for name, patients in (("hospital-a", 1600), ("hospital-b", 40)):
        write_hospital(tmp_path / "sites" / name, patients=patients, policy=policy, name=name)
    code, output = simulated(
        tmp_path / "sites", tmp_path / "results", *STUDY, "training.local_steps=20", "weighting=power"
    )
    assert code == 0, output
    told = happened(tmp_path / "results")
    assert not [event for event in told if isinstance(event, events.SiteLeftOut)]
    figures = {(e.site, e.round): e.performance for e in told if isinstance(e, events.SiteEvaluated)}
    assert [at for at, known in figures.items() if known] == [("hospital-a", 2)]
    patients = figures["hospital-a", 2].patients.value  # type: ignore[union-attr]
    assert patients == round(patients) >= LEAST_PATIENTS
    lost = [event for event in told if isinstance(event, events.LossMeasured)]
    assert [set(event.sites) for event in lost] == [{"hospital-a"}] * 2
    weights = [event.weights["hospital-b"] for event in told if isinstance(event, events.RoundCombined)]
    assert weights == [pytest.approx(0.5)] * 2  # what is not told counts as the cohort does, and never as zero
