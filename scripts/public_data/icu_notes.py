"""Notes of the first 24 hours in intensive care, written from the tables of the eICU demo.

Source: Johnson, Pollard, Badawi and Raffa (2021), eICU Collaborative Research Database Demo 2.0.1,
doi 10.13026/4mxk-na84; Pollard et al. (2018), doi 10.1038/sdata.2018.178; Open Database License 1.0.
"""

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from client_app.data.split import hash_to_unit
from scripts.public_data.fetching import PublicFile
from scripts.public_data.site_folders import SHARES, PublicSite

_HOME = "https://physionet.org/files/eicu-crd-demo/2.0.1/"
_SUMS = {
    "patient": "d9d1abc23d62150cdc15a0d452c9aa0231acb88e9598c0331639df792e6cc314",
    "hospital": "b03b4941e9484ba7d378743c7f731183c5b1f14cc96830f343b16c2bc118d0d1",
    "apacheapsvar": "1d5740df51e09f8879214cee793d2e56b8cd9b34ec8a7216ad21fd8ef3b7413c",
    "admissiondx": "0600feee34eaab3831cb4e165c56675d658a6676de28eb3da106f312f22ac39b",
    "diagnosis": "a490764c8077371fcc1b9bcc793b8830930104b68eeb652830067eb9acc35c16",
    "treatment": "190efb2f07032c06e3d4c153e7866d0e13e857559cd4f3015963d88c57055b63",
    "pasthistory": "a519085ca9da9fad1cd4587e4517001e267363fdeea30438a0cb78bfac1416d1",
}
FILES = tuple(
    PublicFile(f"tables/{name}.csv.gz", f"{_HOME}{name}.csv.gz", sums_url=f"{_HOME}SHA256SUMS.txt") for name in _SUMS
)
# The same tables, packed by another hand: other bytes, so other sums than at their home.
FOLDER_FILES = tuple(PublicFile(f"tables/{name}.csv.gz", sha256=sha256) for name, sha256 in _SUMS.items())

FIRST_DAY = 1440
"""Minutes after admission to the unit; what was charted later is never read."""

# Normal ranges of the APACHE variables, worst values of the first 24 hours.
_NORMAL = {
    "heartrate": ("heart rate", 50, 110),
    "meanbp": ("mean blood pressure", 60, 110),
    "respiratoryrate": ("respiratory rate", 10, 25),
    "temperature": ("temperature", 36, 38.3),
    "wbc": ("white cells", 4, 12),
    "sodium": ("sodium", 134, 146),
    "creatinine": ("creatinine", 0.5, 1.4),
    "bun": ("BUN", 7, 25),
    "glucose": ("glucose", 70, 180),
    "bilirubin": ("bilirubin", 0, 2),
    "albumin": ("albumin", 3, 5),
    "hematocrit": ("hematocrit", 30, 50),
    "urine": ("urine output", 800, 4000),
}
_UNKNOWN = -1  # in APACHE's tables

_DATA: dict[str, Any] = {
    "loader": "text",
    "patient": "uniquepid",
    "label": "died",
    "label_map": {"0": "survived", "1": "died"},
    "text": "note",
    "groups": {
        "sex": {"column": "gender", "values": {"Female": "female", "Male": "male"}},
        "age_band": {"column": "age", "bands": [50, 65, 80]},
        "ethnicity": {
            "column": "ethnicity",
            "values": {
                "Caucasian": "caucasian",
                "African American": "african_american",
                "Hispanic": "hispanic",
                "Asian": "asian",
                "Native American": "native_american",
            },
        },
    },
    "split": {"column": "split"},
}


def sites(folder: Path) -> list[PublicSite]:
    """Return one site for each region, ``unknown`` included."""
    stays = notes({name: pd.read_csv(folder / f"tables/{name}.csv.gz", low_memory=False) for name in _SUMS})
    return [
        PublicSite(id=str(region), title=f"eICU demo, region: {region}", table=table, data=_DATA)
        for region, table in stays.groupby("region")
    ]


def notes(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row for each unit stay whose outcome is known: note, death in hospital, groups, APACHE variables.

    A note says only what was known after 24 hours: predicted mortality and later entries are never read.
    """
    stays = tables["patient"].merge(tables["hospital"], on="hospitalid", how="left")
    stays = stays[stays["hospitaldischargestatus"].notna()].reset_index(drop=True)
    stays["region"] = stays["region"].fillna("unknown").str.lower()
    stays["died"] = (stays["hospitaldischargestatus"] == "Expired").astype(int)
    variables = tables["apacheapsvar"].drop_duplicates("patientunitstayid").set_index("patientunitstayid")
    parts = {
        "Admission diagnosis: ": _admission(tables["admissiondx"]),
        "": variables.apply(_state, axis=1),
        "Active problems: ": _charted(tables["diagnosis"], "diagnosisoffset", "diagnosisstring"),
        "History: ": _history(tables["pasthistory"]),
        "Treatments: ": _charted(tables["treatment"], "treatmentoffset", "treatmentstring"),
    }
    stays["note"] = [_note(stay, parts) for stay in stays.to_dict("records")]
    known = variables[list(_NORMAL)].mask(variables[list(_NORMAL)] == _UNKNOWN).add_prefix("apache_")
    stays["split"] = stays["uniquepid"].map(_part)
    kept = [
        "uniquepid",
        "patientunitstayid",
        "split",
        "hospitalid",
        "region",
        "gender",
        "age",
        "ethnicity",
        "note",
        "died",
    ]
    return stays[kept].join(known, on="patientunitstayid")


def _part(patient: str) -> str:
    """Return a patient's set; the same in every region, for a few were in hospitals of two."""
    place = hash_to_unit(patient, "icu_notes")
    return "train" if place < SHARES["train"] else "audit" if place < SHARES["train"] + SHARES["audit"] else "test"


def _note(stay: Mapping[Hashable, Any], parts: dict[str, "pd.Series[str]"]) -> str:
    person = " ".join(str(stay[name]) for name in ("ethnicity", "gender") if pd.notna(stay[name]))
    age = f"{stay['age']} year old " if pd.notna(stay["age"]) else ""
    source = f" from {stay['unitadmitsource']}" if pd.notna(stay["unitadmitsource"]) else ""
    known = [f"{title}{text}." for title, texts in parts.items() if (text := texts.get(stay["patientunitstayid"]))]
    return " ".join([f"{age}{person or 'patient'} admitted to {stay['unittype']}{source}.", *known])


def _state(stay: "pd.Series[float]") -> str:
    """Return coma scale, organ support and the abnormal variables of one stay, in words."""
    coma = [stay["eyes"], stay["motor"], stay["verbal"]]
    sentences = [f"Glasgow coma scale {sum(coma):g}"] if min(coma) > 0 else []
    support = {"vent": "Mechanically ventilated", "intubated": "Intubated", "dialysis": "On dialysis"}
    sentences += [words for name, words in support.items() if stay[name] == 1]
    abnormal = [
        f"{'low' if stay[name] < low else 'high'} {words} {stay[name]:g}"
        for name, (words, low, high) in _NORMAL.items()
        if stay[name] != _UNKNOWN and not low <= stay[name] <= high
    ]
    return ". ".join([*sentences, f"Abnormal: {', '.join(abnormal)}"] if abnormal else sentences)


def _admission(entries: pd.DataFrame) -> "pd.Series[str]":
    entries = entries[entries["admitdxenteredoffset"] <= FIRST_DAY]
    paths = entries["admitdxpath"].str
    diagnoses = entries[paths.contains("All Diagnosis", regex=False)]
    operated = entries[paths.contains("admitted from the O.R.", regex=False) & (entries["admitdxname"] == "Yes")]
    return _joined(pd.concat([diagnoses, operated.assign(admitdxname="after an operation")]), "admitdxname")


def _charted(entries: pd.DataFrame, minutes: str, text: str) -> "pd.Series[str]":
    """Return the entries of the first day, without the organ system that each begins with."""
    entries = entries[entries[minutes] <= FIRST_DAY]
    words = entries[text].str.split("|").str[1:].str.join(" ")
    return _joined(entries.assign(**{text: words}), text)


def _history(entries: pd.DataFrame) -> "pd.Series[str]":
    # "Performed" only says that somebody asked.
    asked = entries["pasthistoryvalue"].isin(["Performed", "Not Performed"])
    charted = entries[["pasthistoryoffset", "pasthistoryenteredoffset"]].max(axis=1)
    return _joined(entries[(charted <= FIRST_DAY) & ~asked], "pasthistoryvalue")


def _joined(entries: pd.DataFrame, text: str) -> "pd.Series[str]":
    """Return for each stay its different entries, in the order of the table."""

    def together(texts: Iterable[str]) -> str:
        return "; ".join(dict.fromkeys(texts))

    return entries.dropna(subset=[text]).groupby("patientunitstayid")[text].agg(together)
