"""Two days of measurements in intensive care, summarised as one row for each stay; four kinds of ICU as sites.

Source: Silva, Moody, Scott, Celi and Mark (2012), Predicting in-hospital mortality of ICU patients:
the PhysioNet/Computing in Cardiology Challenge 2012, Computing in Cardiology 39:245-248.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.public_data.fetching import FetchError, PublicFile
from scripts.public_data.site_folders import PublicSite

_HOME = "https://physionet.org/files/challenge-2012/1.0.0/"
_OUTCOMES = {
    "a": PublicFile(
        "Outcomes-a.txt",
        f"{_HOME}Outcomes-a.txt",
        "2613ea60ccda29f87571a7d6b09ad130858a8ccd66325bd073365925026883c2",
    ),
    "b": PublicFile(
        "Outcomes-b.txt",
        f"{_HOME}Outcomes-b.txt",
        "1305f29734da374a809483229a99f33a9230aa8d4fa74b1a2d6ad788136423d5",
    ),
}
_FEATURES = PublicFile(
    "features_48h_sets_a_b.csv.gz", sha256="9a6a4b9d754d44035cfb787b921f22c3fbb2455c85d7c48fd069d7017b9a4937"
)
FILES = (
    *(PublicFile(f"set-{s}.tar.gz", f"{_HOME}set-{s}.tar.gz", sums_url=f"{_HOME}SHA256SUMS.txt") for s in "ab"),
    *_OUTCOMES.values(),
)
FOLDER_FILES = (_FEATURES, *_OUTCOMES.values())

STAYS_PER_SET = 4000
SITES = {1: "coronary", 2: "cardiac-surgery", 3: "medical", 4: "surgical"}
_FIXED = ("Age", "Gender", "Height", "ICUType")
# fmt: off
VARIABLES = (
    "GCS", "HR", "NIDiasABP", "NIMAP", "NISysABP", "RespRate", "Temp", "Urine", "HCT", "BUN", "Creatinine",
    "Glucose", "HCO3", "Mg", "Platelets", "K", "Na", "WBC", "Weight", "pH", "PaCO2", "PaO2", "DiasABP", "FiO2",
    "MAP", "MechVent", "SysABP", "SaO2", "Albumin", "ALP", "ALT", "AST", "Bilirubin", "Lactate", "Cholesterol",
    "TroponinI", "TroponinT",
)
# fmt: on

_STATISTICS = ("last", "min", "max", "mean", "n")
_INPUTS = (
    *("Age", "Gender", "Height"),  # ICUType is the site
    *(f"{name}_{statistic}" for name in VARIABLES for statistic in _STATISTICS if (name, statistic) != ("Weight", "n")),
)

_DATA: dict[str, Any] = {
    "loader": "columns",
    "columns": {name: name for name in _INPUTS},
    "patient": "RecordID",
    "label": "In-hospital_death",
    "label_map": {"0": "survived", "1": "died"},
    "groups": {
        "sex": {"column": "Gender", "values": {"0": "female", "1": "male"}},
        "age_band": {"column": "Age", "bands": [50, 65, 80]},
    },
    "split": {"column": "split"},
}


def sites(folder: Path) -> list[PublicSite]:
    """Return the four kinds of ICU; set a trains, set b tests.

    From the summarised table where the folder has it, else from the published archives.
    """
    prepared = folder / _FEATURES.name
    table = pd.read_csv(prepared) if prepared.is_file() else summaries(folder)
    split = table["set"].map({"a": "train", "b": "test"}).rename("split")
    table = pd.concat([table, split], axis=1)
    return [
        PublicSite(id=name, title=f"PhysioNet 2012, {name} ICU", table=table[table["ICUType"] == kind], data=_DATA)
        for kind, name in SITES.items()
    ]


def summaries(folder: Path, *, stays_per_set: int = STAYS_PER_SET) -> pd.DataFrame:
    """Return one row for each stay of ``set-a.tar.gz`` and ``set-b.tar.gz``, with its outcome and ``set``.

    Raises:
        FetchError: An archive does not hold the stays that the outcomes are about.
    """
    tables = []
    for name, outcomes in _OUTCOMES.items():
        stays = pd.DataFrame([summary(text) for text in _stays(folder / f"set-{name}.tar.gz")])
        outcome = pd.read_csv(folder / outcomes.name)[["RecordID", "SAPS-I", "SOFA", "In-hospital_death"]]
        joined = stays.merge(outcome, on="RecordID", validate="one_to_one")
        if len(joined) != stays_per_set:
            raise FetchError(f"set-{name}.tar.gz: {len(joined)} stays have an outcome, expected {stays_per_set}")
        tables.append(joined.assign(set=name))
    return pd.concat(tables, ignore_index=True)


def summary(text: str) -> dict[str, float]:
    """Return RecordID, Age, Gender, Height, ICUType, and last, min, max, mean and n of each variable.

    Negative values stand for "unknown" and are left out; entries of one minute all count. A
    variable that was never measured has no entry. ``Weight`` has no n: it is carried on every hour.

    Args:
        text: A published file: lines of ``Time,Parameter,Value`` in order of time.
    """
    entries = pd.read_csv(io.StringIO(text))
    entries = entries[entries["Value"] >= 0]
    values = {str(name): group for name, group in entries.groupby("Parameter")["Value"]}
    row: dict[str, float] = {"RecordID": int(values["RecordID"].iloc[0])}
    missing = pd.Series([float("nan")])
    row |= {name: values.get(name, missing).iloc[0] for name in _FIXED}
    for name in VARIABLES:
        found = values.get(name, missing)
        row[f"{name}_last"] = found.iloc[-1]
        row[f"{name}_min"], row[f"{name}_max"] = found.min(), found.max()
        row[f"{name}_mean"] = round(found.mean(), 3)
        if name != "Weight":
            row[f"{name}_n"] = found.count() or float("nan")
    return row


def _stays(archive: Path) -> Iterator[str]:
    with tarfile.open(archive) as files:
        for member in files:
            content = files.extractfile(member) if member.name.endswith(".txt") else None
            if content is not None:
                yield content.read().decode("utf-8")
