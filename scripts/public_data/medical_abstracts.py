"""Medical abstracts about five kinds of condition, dealt unevenly to five sites.

Source: Schopf, Braun and Matthes (2022), Evaluating Unsupervised Text Classification,
doi 10.1145/3582768.3582795, CC BY-SA 3.0; the official test part, 2,888 abstracts.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.public_data.fetching import PublicFile
from scripts.public_data.site_folders import SHARES, PublicSite

_HOME = "https://raw.githubusercontent.com/sebischair/Medical-Abstracts-TC-Corpus/70a2d910/"
FILES = (
    PublicFile(
        "medical_tc_test.csv",
        f"{_HOME}medical_tc_test.csv",
        "1eecea73c9ecad292c55e10403bd139fab9580545d6878482997c5564d51ac05",
    ),
)
FOLDER_FILES = FILES

SITES = 5
ALPHA = 0.3
"""Of the Dirichlet distribution: how evenly a class is spread; small is uneven."""
SEED = 1

_DATA: dict[str, Any] = {
    "loader": "text",
    "patient": "text_id",
    "label": "condition_label",
    "label_map": {"1": "neoplasms", "2": "digestive", "3": "nervous", "4": "cardiovascular", "5": "general"},
    "text": "medical_abstract",
    "split": SHARES,
}


def sites(folder: Path) -> list[PublicSite]:
    """Return five sites; the same text is always at one site and counts as one patient."""
    table = pd.read_csv(folder / "medical_tc_test.csv")
    table.insert(0, "text_id", [_identifier(text) for text in table["medical_abstract"]])
    places = deal(table.drop_duplicates("text_id"), sites=SITES, alpha=ALPHA, seed=SEED)
    place = table["text_id"].map(places)
    return [
        PublicSite(
            id=f"library-{number + 1}",
            title=f"Medical abstracts, library {number + 1}",
            table=table[place == number],
            data=_DATA,
        )
        for number in range(SITES)
    ]


def deal(texts: pd.DataFrame, *, sites: int, alpha: float, seed: int) -> "pd.Series[int]":
    """Return text to site: the texts of each class are spread by shares drawn from a Dirichlet distribution.

    Source: Hsu, Qi and Brown (2019), arXiv:1909.06335.
    """
    chance = np.random.default_rng(seed)
    place = pd.Series(0, index=texts["text_id"])
    for label in sorted(texts["condition_label"].unique()):
        chosen = texts.loc[texts["condition_label"] == label, "text_id"]
        place[chosen] = chance.choice(sites, size=len(chosen), p=chance.dirichlet(np.full(sites, alpha)))
    return place


def _identifier(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]
