"""The converters on the real files, where they are at hand."""

import os
from pathlib import Path

import pandas as pd
import pytest

from scripts.public_data.__main__ import SETS
from scripts.public_data.fetching import check_folder
from scripts.public_data.site_folders import PublicSite

SOURCE = Path(os.environ.get("FEDFM_DATA", Path(__file__).parents[4] / "shared" / "data"))


def sites_of(name: str) -> dict[str, PublicSite]:
    folder = SOURCE / name
    if not folder.is_dir():
        pytest.skip(f"the files of {name} are not here; set FEDFM_DATA to the folder that holds {name}/")
    check_folder(SETS[name].FOLDER_FILES, folder)
    return {site.id: site for site in SETS[name].sites(folder)}


def test_heart_disease_has_the_published_split() -> None:
    """Train and test of FLamby (arXiv:2210.04620), table 1 and its loader."""
    counts = {name: site.table["split"].value_counts().to_dict() for name, site in sites_of("heart_disease").items()}
    assert counts == {
        "cleveland": {"train": 199, "test": 104},
        "hungarian": {"train": 172, "test": 89},
        "switzerland": {"train": 30, "test": 16},
        "va": {"train": 85, "test": 45},
    }


def test_icu_notes_have_the_known_stays_and_one_split_for_all_regions() -> None:
    tables = {name: site.table for name, site in sites_of("icu_notes").items()}
    assert {name: len(table) for name, table in tables.items()} == {
        "midwest": 792,
        "south": 733,
        "west": 601,
        "unknown": 209,
        "northeast": 157,
    }
    whole = pd.concat(tables.values())
    assert whole["died"].sum() == 212
    assert whole.groupby("uniquepid")["region"].nunique().max() == 2  # so the split must be common to all regions
    assert whole.groupby("uniquepid")["split"].nunique().max() == 1


def test_icu_notes_agree_with_the_example() -> None:
    example = SOURCE / "icu_notes" / "notes_mortality_example.csv.gz"
    whole = pd.concat(site.table for site in sites_of("icu_notes").values())
    joined = whole.merge(pd.read_csv(example), on="patientunitstayid", suffixes=("", "_example"))
    assert len(joined) == len(whole) == 2492
    assert (joined["died"] == joined["died_example"]).all()
    shared = [
        len(ours & theirs) / len(ours | theirs)
        for ours, theirs in zip(joined["note"].map(words), joined["text"].map(words), strict=True)
    ]
    assert sum(shared) / len(shared) > 0.95


def words(note: str) -> set[str]:
    return set(note.lower().replace(";", " ").replace(".", " ").replace(",", " ").split())


def test_icu_tables_have_two_sets_and_four_kinds() -> None:
    tables = [site.table for site in sites_of("icu_tables").values()]
    assert [len(table) for table in tables] == [1167, 1656, 2917, 2260]
    assert pd.concat(tables)["split"].value_counts().to_dict() == {"train": 4000, "test": 4000}


def test_the_summary_has_the_columns_of_the_summarised_table() -> None:
    table = next(iter(sites_of("icu_tables").values())).table
    ours = list(SETS["icu_tables"].summary("Time,Parameter,Value\n00:00,RecordID,1\n"))
    assert ours == list(table.columns[: len(ours)])
    assert list(table.columns[len(ours) :]) == ["SAPS-I", "SOFA", "In-hospital_death", "set", "split"]


def test_medical_abstracts_are_dealt_unevenly() -> None:
    tables = [site.table for site in sites_of("medical_abstracts").values()]
    assert sum(map(len, tables)) == 2888
    assert min(table["condition_label"].nunique() for table in tables) == 5
    shares = [table["condition_label"].value_counts(normalize=True).max() for table in tables]
    assert max(shares) > 0.6
