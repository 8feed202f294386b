"""The converters, on small made-up files in the published formats."""

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from client_app.data.catalog import load_splits
from fedfm.config.compose import compose_study, load_site
from scripts.public_data import heart_disease, icu_notes, icu_tables, medical_abstracts
from scripts.public_data.__main__ import fetch, main
from scripts.public_data.fetching import FetchError
from scripts.public_data.site_folders import PublicSite, declared_patients


def uci_line(row: int) -> str:
    """One patient in UCI's format; every tenth misses the blood pressure."""
    pressure = "?" if row % 10 == 9 else "130"
    return (
        f"{40 + row % 30}.0,{row % 2}.0,{row % 4 + 1}.0,{pressure},233.0,0,{row % 3},150,0,.{row % 10},?,?,?,{row % 3}"
    )


@pytest.fixture
def heart_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with made-up hospitals, and their sums pinned."""
    folder = tmp_path / "from" / "heart_disease"
    folder.mkdir(parents=True)
    files = []
    for file in heart_disease.FOLDER_FILES:
        content = "\n".join(uci_line(row) for row in range(60)) + "\n"
        (folder / file.name).write_text(content)
        files.append(replace(file, sha256=hashlib.sha256(content.encode()).hexdigest()))
    monkeypatch.setattr(heart_disease, "FOLDER_FILES", tuple(files))
    return folder


def test_a_hospital_follows_the_published_protocol(heart_folder: Path) -> None:
    table = heart_disease.hospital(heart_folder / "processed.va.data", "va")
    assert len(table) == 54
    assert table["patient"].is_unique
    assert not table.isna().to_numpy().any()
    assert set(table.columns) >= {"cp_2", "cp_3", "cp_4", "restecg_1", "restecg_2"}
    assert (table[["cp_2", "cp_3", "cp_4"]].sum(axis=1) == (table["cp"] > 1)).all()
    assert table["disease"].tolist()[:3] == [0, 1, 1]
    assert table["split"].value_counts().to_dict() == {"train": 35, "test": 19}


def test_fetched_sites_load_and_a_second_fetch_keeps_them(
    heart_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["heart_disease", "--from", str(heart_folder.parent), "--to", str(tmp_path / "data")]
    assert main(arguments) == 0
    assert "4 sites" in capsys.readouterr().out
    folder = tmp_path / "data" / "heart_disease"
    for experiment, name in (("heart_disease", "site.yaml"), ("heart_disease_text", "site-text.yaml")):
        task = compose_study([f"experiment={experiment}"]).value.task
        splits = load_splits(load_site(folder / "va" / name), task)
        assert (len(splits.train), len(splits.test)) == (35, 19)
    ledger = folder / "va" / "state" / "ledger"
    ledger.parent.mkdir()
    ledger.write_text("spent")
    before = (folder / "va" / "cohort.csv").stat().st_mtime_ns
    assert main(arguments) == 0
    assert "already in" in capsys.readouterr().out
    assert (folder / "va" / "cohort.csv").stat().st_mtime_ns == before
    (folder / "va" / "cohort.csv").write_text("altered")
    assert main(arguments) == 0
    assert "altered" not in (folder / "va" / "cohort.csv").read_text()
    assert ledger.read_text() == "spent"
    assert not list((tmp_path / "data").glob(".*"))


def test_an_altered_source_is_refused_and_nothing_is_written(
    heart_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (heart_folder / "processed.va.data").write_text("altered")
    assert main(["heart_disease", "--from", str(heart_folder.parent), "--to", str(tmp_path / "data")]) == 1
    assert "processed.va.data is not the expected file" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"processed\.cleveland\.data is missing"):
        fetch("heart_disease", tmp_path / "data", source=tmp_path)


def test_the_same_abstract_is_at_one_site_and_one_patient(tmp_path: Path) -> None:
    rows = [(row % 5 + 1, f"abstract {row % 400}") for row in range(500)]
    pd.DataFrame(rows, columns=["condition_label", "medical_abstract"]).to_csv(
        tmp_path / "medical_tc_test.csv", index=False
    )
    sites = medical_abstracts.sites(tmp_path)
    again = medical_abstracts.sites(tmp_path)
    assert sum(len(site.table) for site in sites) == 500
    owners = pd.concat([site.table.assign(site=site.id) for site in sites]).groupby("text_id")["site"].nunique()
    assert len(owners) == 400
    assert owners.max() == 1
    assert all(one.table.equals(other.table) for one, other in zip(sites, again, strict=True))


STAY = """Time,Parameter,Value
00:00,RecordID,{id}
00:00,Age,54
00:00,Gender,0
00:00,Height,-1
00:00,ICUType,4
00:00,Weight,76
00:07,GCS,15
00:07,Urine,900
19:11,Weight,80.6
27:37,Urine,400
27:37,Urine,0
31:37,GCS,14
47:37,GCS,15
"""


def test_a_stay_is_summarised() -> None:
    row = icu_tables.summary(STAY.format(id=1))
    assert row["Height"] != row["Height"]
    assert {name: row[f"GCS_{name}"] for name in ("last", "min", "max", "mean", "n")} == {
        "last": 15,
        "min": 14,
        "max": 15,
        "mean": 14.667,
        "n": 3,
    }
    assert (row["Urine_n"], row["Urine_mean"], row["Urine_last"]) == (3, 433.333, 0)
    assert (row["Weight_min"], row["Weight_last"], row["Weight_mean"]) == (76, 80.6, 78.3)
    assert "Weight_n" not in row
    assert row["HR_n"] != row["HR_n"]


@pytest.mark.parametrize("data_set", [heart_disease._NUMBERS, icu_tables._DATA], ids=["heart_disease", "icu_tables"])
def test_the_sites_offer_exactly_the_columns_of_the_task(
    data_set: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """More would offer what nobody uses, fewer would refuse the study."""
    name = request.node.callspec.id
    numeric = ["model=logistic", "adapter=full"]
    wanted = [column.name for column in compose_study([f"task={name}", *numeric]).value.task.columns]
    asked = [column.name for column in compose_study([f"experiment={name}"]).value.task.columns]
    assert set(asked) <= set(wanted)
    assert sorted(data_set["columns"]) == sorted(wanted)
    assert len(data_set["columns"]) == len(wanted)


def write_challenge(folder: Path, *, stays: int) -> None:
    for name in "ab":
        with tarfile.open(folder / f"set-{name}.tar.gz", "w:gz") as archive:
            for number in range(stays):
                content = STAY.format(id=number + 1000 * (name == "b")).encode()
                member = tarfile.TarInfo(f"set-{name}/{number}.txt")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        ids = [number + 1000 * (name == "b") for number in range(3)]
        outcomes = pd.DataFrame({"RecordID": ids, "SAPS-I": 6, "SOFA": 1, "Length_of_stay": 5, "Survival": -1})
        outcomes.assign(**{"In-hospital_death": 0}).to_csv(folder / f"Outcomes-{name}.txt", index=False)


def test_the_published_archives_become_one_table(tmp_path: Path) -> None:
    write_challenge(tmp_path, stays=3)
    table = icu_tables.summaries(tmp_path, stays_per_set=3)
    assert table["set"].tolist() == ["a"] * 3 + ["b"] * 3
    assert table["RecordID"].is_unique
    with pytest.raises(FetchError, match="3 stays have an outcome, expected 4000"):
        icu_tables.summaries(tmp_path)


def eicu(**changes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Two stays of one patient: one survived, one whose outcome nobody knows."""
    stay = {"patientunitstayid": [1, 2]}
    aps = {"patientunitstayid": [1], "eyes": [4], "motor": [6], "verbal": [5], "vent": [1], "intubated": [0]}
    worst = {name: [-1] for name in icu_notes._NORMAL} | {"heartrate": [130], "sodium": [140], "albumin": [2.1]}
    tables = {
        "patient": pd.DataFrame(
            stay
            | {
                "uniquepid": "p",
                "hospitalid": 7,
                "gender": "Female",
                "age": "> 89",
                "ethnicity": None,
                "unittype": "MICU",
                "unitadmitsource": "Floor",
                "hospitaldischargestatus": ["Expired", None],
            }
        ),
        "hospital": pd.DataFrame({"hospitalid": [7], "region": [None]}),
        "apacheapsvar": pd.DataFrame(aps | worst | {"dialysis": [0]}),
        "admissiondx": pd.DataFrame(
            {
                "patientunitstayid": [1, 1, 1],
                "admitdxenteredoffset": [5, 5, 1441],
                "admitdxpath": ["|All Diagnosis|Sepsis", "|Organ System|Renal", "|All Diagnosis|Late"],
                "admitdxname": ["Sepsis", "Renal", "Late"],
            }
        ),
        "diagnosis": pd.DataFrame(
            {
                "patientunitstayid": [1, 1, 1],
                "diagnosisoffset": [10, 10, 2000],
                "diagnosisstring": ["renal|failure|acute", "renal|failure|acute", "cardio|late arrest"],
            }
        ),
        "treatment": pd.DataFrame(
            {"patientunitstayid": [1], "treatmentoffset": [1440], "treatmentstring": ["renal|dialysis"]}
        ),
        "pasthistory": pd.DataFrame(
            {
                "patientunitstayid": [1, 1, 1],
                "pasthistoryoffset": [3, 3, 3],
                "pasthistoryenteredoffset": [4, 4, 9999],
                "pasthistoryvalue": ["Performed", "asthma", "late cancer"],
            }
        ),
    }
    return tables | changes


def test_a_note_says_what_was_known_after_a_day() -> None:
    table = icu_notes.notes(eicu())
    expected = (
        "> 89 year old Female admitted to MICU from Floor. Admission diagnosis: Sepsis. Glasgow coma scale 15. "
        "Mechanically ventilated. Abnormal: high heart rate 130, low albumin 2.1. Active problems: failure acute. "
        "History: asthma. Treatments: dialysis."
    )
    assert table["note"].tolist() == [expected]
    assert table["died"].tolist() == [1]
    assert table["region"].tolist() == ["unknown"]
    assert not {"Late", "late"} & set(table["note"][0].split())


def test_a_stay_without_any_entry_still_has_a_note() -> None:
    empty = {name: table.iloc[:0] for name, table in eicu().items() if name not in {"patient", "hospital"}}
    assert icu_notes.notes(eicu(**empty))["note"].tolist() == ["> 89 year old Female admitted to MICU from Floor."]


def test_declared_patients_are_rounded_to_tens() -> None:
    table = pd.DataFrame({"p": [*range(47), *range(47)], "part": ["train"] * 94})
    assert declared_patients(table, {"patient": "p", "split": {"column": "part"}}) == 50
    assert declared_patients(table, {"patient": "p", "split": {"train": 0.7}}) == 30
    assert PublicSite("a", "A", table, {}).readings == {}
