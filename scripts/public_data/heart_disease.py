"""UCI Heart Disease: four hospitals, prepared by FLamby's protocol.

Source: Janosi, Steinbrunn, Pfisterer and Detrano (1988), doi 10.24432/C52P4X, CC BY 4.0;
protocol: Ogier du Terrail et al. (2022), FLamby, arXiv:2210.04620.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from scripts.public_data.fetching import PublicFile
from scripts.public_data.site_folders import PublicSite

_HOME = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/"
_SUMS = {
    "cleveland": "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
    "hungarian": "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
    "switzerland": "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
    "va": "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
}
_TITLES = {
    "cleveland": "Cleveland Clinic Foundation",
    "hungarian": "Hungarian Institute of Cardiology",
    "switzerland": "University Hospitals Zurich and Basel",
    "va": "V.A. Medical Center Long Beach",
}
FILES = tuple(
    PublicFile(f"processed.{name}.data", f"{_HOME}processed.{name}.data", sha256) for name, sha256 in _SUMS.items()
)
FOLDER_FILES = FILES

COLUMNS = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
    "num",
)
_UNUSED = ["slope", "ca", "thal"]  # missing for most patients outside Cleveland
_INDICATORS = {"cp": (2, 3, 4), "restecg": (1, 2)}  # the first value is the reference

_SHARED: dict[str, Any] = {
    "patient": "patient",
    "label": "disease",
    "label_map": {"0": "healthy", "1": "disease"},
    "groups": {
        "sex": {"column": "sex", "values": {"0": "female", "1": "male"}},
        "age_band": {"column": "age", "bands": [50, 60]},
    },
    "split": {"column": "split"},
}
_INPUTS = (
    *("age", "sex", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak"),
    *(f"{column}_{value}" for column, values in _INDICATORS.items() for value in values),
)
_NUMBERS = {"loader": "columns", "columns": {name: name for name in _INPUTS}, **_SHARED}
_TEXT = {
    "loader": "template",
    "template": "{age}-year-old {sex}; {cp}; resting blood pressure {trestbps} mmHg; cholesterol {chol} mg/dl; "
    "{fbs}; {restecg}; highest heart rate {thalach}; {exang}; ST depression {oldpeak} mm",
    "words": {
        "sex": {"0": "woman", "1": "man"},
        "cp": {"1": "typical angina", "2": "atypical angina", "3": "chest pain that is not angina", "4": "no pain"},
        "fbs": {"0": "fasting blood sugar normal", "1": "fasting blood sugar above 120 mg/dl"},
        "restecg": {
            "0": "normal resting ECG",
            "1": "ST-T abnormality in the resting ECG",
            "2": "left ventricular hypertrophy in the resting ECG",
        },
        "exang": {"0": "no angina on exercise", "1": "angina on exercise"},
    },
    **_SHARED,
}


def sites(folder: Path) -> list[PublicSite]:
    """Return the four hospitals of the files in ``folder``; FLamby's split is in the column ``split``."""
    return [
        PublicSite(
            id=name,
            title=_TITLES[name],
            table=hospital(folder / f"processed.{name}.data", name),
            data=_NUMBERS,
            readings={"site-text.yaml": _TEXT},
        )
        for name in _SUMS
    ]


def hospital(path: Path, name: str) -> pd.DataFrame:
    """Return one hospital's complete rows with patient, split, outcome, columns and indicators.

    Rows that miss one of the ten columns that are used are left out, as FLamby does; a
    cholesterol of 0, which stands for "not measured" in two hospitals, stays, as there.
    """
    table = pd.read_csv(path, header=None, names=list(COLUMNS), na_values="?").drop(columns=_UNUSED)
    table.insert(0, "patient", [f"{name}-{row + 1:03d}" for row in range(len(table))])
    table = table.dropna().reset_index(drop=True)
    table["disease"] = (table.pop("num") > 0).astype(int)
    for column, values in _INDICATORS.items():
        for value in values:
            table[f"{column}_{value}"] = (table[column] == value).astype(int)
    table.insert(1, "split", _flamby_split(table["disease"]))
    return table


def _flamby_split(disease: "pd.Series[int]") -> "np.ndarray[tuple[int], np.dtype[np.str_]]":
    # As in FLamby, which balances the two parts only where each class has three patients: not in Switzerland.
    balanced = disease if disease.nunique() > 1 and disease.value_counts().min() > 2 else None
    _, test = train_test_split(
        np.arange(len(disease)), train_size=0.66, test_size=1 - 0.66, random_state=43, shuffle=True, stratify=balanced
    )
    split = np.full(len(disease), "train")
    split[test] = "test"
    return split
