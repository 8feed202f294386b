"""Patients whose every field, column and file name is a word that may be found nowhere else."""

import csv
import io
import re
from typing import Any

import yaml

CANARY = re.compile(rb"ZZPATIENT-\d{6}")
COLUMNS = {
    "mrn": "ZZPATIENT-900001",
    "sex": "ZZPATIENT-900002",
    "age": "ZZPATIENT-900003",
    "ward": "ZZPATIENT-900004",
    "scanner": "ZZPATIENT-900005",
    "note": "ZZPATIENT-900006",
    "outcome": "ZZPATIENT-900007",
    "outcome_reviewed": "ZZPATIENT-900008",
}
FILE = "ZZPATIENT-999999.csv"
VALUES = {"F": "ZZPATIENT-800001", "M": "ZZPATIENT-800002", "0": "ZZPATIENT-800003", "1": "ZZPATIENT-800004"}


def planted(cohort: str) -> list[dict[str, str]]:
    """Return a demo hospital's rows with canaries in every field but the age, which must be a number."""
    rows = []
    for number, row in enumerate(csv.DictReader(io.StringIO(cohort))):
        canary = f"ZZPATIENT-{number:06d}"
        rows.append(
            {
                COLUMNS["mrn"]: f"ZZPATIENT-1{row['mrn'][-5:]}",
                COLUMNS["sex"]: VALUES[row["sex"]],
                COLUMNS["age"]: row["age"],
                COLUMNS["ward"]: canary,
                COLUMNS["scanner"]: canary,
                COLUMNS["note"]: f"{canary} {row['note']} {canary}",
                COLUMNS["outcome"]: VALUES[row["outcome"]],
                COLUMNS["outcome_reviewed"]: canary,
            }
        )
    return rows


def written(rows: list[dict[str, str]]) -> str:
    """Return rows as a CSV file."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def site_file(text: str) -> str:
    """Return a demo hospital's site file for the planted rows."""
    site: dict[str, Any] = yaml.safe_load(text)
    data = site["data"]
    data |= {"path": f"/data/{FILE}"} | {name: COLUMNS[data[name]] for name in ("patient", "label", "text")}
    data["label_map"] = {VALUES[value]: label for value, label in data["label_map"].items()}
    sex, age = data["groups"]["sex"], data["groups"]["age_band"]
    sex |= {"column": COLUMNS["sex"], "values": {VALUES[value]: name for value, name in sex["values"].items()}}
    age["column"] = COLUMNS["age"]
    return yaml.safe_dump(site)
