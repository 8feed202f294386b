"""Training, audit and test patients are three sets, and no release of one looks at another."""

from itertools import combinations
from pathlib import Path

import pytest
import torch

from client_app.cohorts import prepare
from client_app.data.catalog import LOADERS, load_splits
from fedfm.config.compose import compose_study, load_site
from fedfm.config.site import Data, Policy, Site, Split
from fedfm.config.study import Column, Study, Task
from fedfm.errors import DataError
from tests.integration.conftest import write_hospital


def study_of(*overrides: str) -> Study:
    study: Study = compose_study(["model=tiny", "adapter=head", "rounds=1", *overrides]).value
    return study


def spelled(part: str) -> str:
    """Sixty patients of three rows each, some spelled in three ways; ``part`` names the split column's words."""
    rows = [
        f"{number if way % 2 else f'{number}.0'},note {number} {way},{number % 2},{'FM'[number % 2]},{way},{part}"
        for number in range(60)
        for way in range(3)
    ]
    return "\n".join(["mrn,note,outcome,sex,age,part", *rows]) + "\n"


@pytest.mark.parametrize("by", ["hash", "column", "torn column"])
@pytest.mark.parametrize("loader", LOADERS)
def test_train_audit_and_test_share_no_patient_whatever_the_loader(loader: str, by: str, tmp_path: Path) -> None:
    words = ("train", "audit", "test")
    lines = spelled("train").splitlines()
    if by != "hash":  # each patient's rows the same word, or one patient's last row another
        lines[1:] = [f"{row.rpartition(',')[0]},{words[at // 3 % 3]}" for at, row in enumerate(lines[1:])]
    if by == "torn column":
        lines[-1] = lines[-1].replace(",test", ",audit")
    (tmp_path / "cohort.csv").write_text("\n".join(lines) + "\n")
    data = Data(
        *(str(tmp_path / "cohort.csv"), loader, "mrn", "outcome"),
        label_map={"0": "recovered", "1": "deteriorated"},
        text="note",
        template="{note}; {sex}",
        columns={"age": "age"},
        split=Split(column="" if by == "hash" else "part"),
    )
    site = Site("hospital-a", declared_patients=60, data=data, policy=Policy(), state=str(tmp_path))
    columns = [Column("age", 0, 1)] if loader == "columns" else []
    task = Task("columns" if columns else "text", ["recovered", "deteriorated"], columns=columns)
    if by == "torn column":
        with pytest.raises(DataError, match="SITE-E018 some patients are in more than one set"):
            load_splits(site, task)
        return
    splits = load_splits(site, task)
    parts = [{example.patient for example in part} for part in (splits.train, splits.audit, splits.test)]
    assert all(parts)
    assert all(not one & other for one, other in combinations(parts, 2))
    assert sum(map(len, parts)) == 60  # 7 and 7.0 are one patient


def test_an_audit_patient_who_goes_changes_nothing_that_is_said_of_others(tmp_path: Path) -> None:
    """Parallel composition, on a real model: what trains and what is tested are bit for bit the same."""
    study = study_of()
    found = []
    for name in ("whole", "without"):
        site_file = write_hospital(tmp_path / name, policy="allow_no_privacy: true")
        table = site_file.parent / "cohort.csv"
        if found:
            gone = found[0].splits.audit[0].patient
            kept = [line for line in table.read_text().splitlines() if not line.startswith(f"{gone},")]
            assert len(kept) < len(table.read_text().splitlines())
            table.write_text("\n".join(kept) + "\n")
        found.append(prepare(load_site(site_file), study))
    whole, without = found
    assert len(without.splits.audit) < len(whole.splits.audit)
    assert len(without.audit.states) < len(whole.audit.states)
    for part in ("train", "test"):
        one, other = getattr(whole, part), getattr(without, part)
        assert [e.patient for e in getattr(whole.splits, part)] == [e.patient for e in getattr(without.splits, part)]
        assert all(torch.equal(a, b) for a, b in zip(one.states, other.states, strict=True))
        assert torch.equal(one.labels, other.labels)


def test_a_study_without_audit_losses_and_reasons_does_not_run_the_model_over_audit_patients(tmp_path: Path) -> None:
    site = load_site(write_hospital(tmp_path / "a"))
    prepared = prepare(site, study_of("evaluation.audit_loss=false", "weighting=cohort", "explainability=none"))
    assert prepared.splits.audit
    assert not prepared.audit.states


def test_notes_are_cut_where_the_patient_is_the_unit_only(tmp_path: Path) -> None:
    """Where the record is, a cut would let a record that goes make room for another of the same patient."""
    site = load_site(write_hospital(tmp_path / "a"))
    few, all_ = (
        prepare(site, study_of(f"privacy={unit}", "privacy.max_examples_per_patient=1")).splits.train
        for unit in ("patient", "record")
    )
    assert len(few) == len({example.patient for example in all_}) < len(all_)
