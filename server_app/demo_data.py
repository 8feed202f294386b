"""Synthetic hospitals with planted facts, so that every claim of a study can be checked.

What is planted, and written to ``facts.json``: the words that decide the outcome, an outcome
that is recorded too rarely for women, a scanner tag that betrays the outcome at one hospital
only, another style of writing and another prevalence at each hospital. Public notes for the
coordinator, of no hospital's patients, are written beside them.
"""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server_app.demo_vocabulary import (
    ABBREVIATIONS,
    COMPLAINTS,
    DRUGS,
    FINDING_PHRASES,
    HISTORIES,
    MEASUREMENTS,
    PLANS,
    PROTECTIVE,
    RISK,
    SCANNER_TAG,
    WARDS,
)

PREVALENCES = (0.25, 0.15, 0.35, 0.45)
"""Share of patients who deteriorate, before the label gap; hospitals take them in turn."""

LABEL_GAP = 0.3
"""Share of the deteriorated women whose outcome is recorded as recovered."""

SHORTCUT_SITE = 2
"""Index of the hospital where the scanner tag betrays the outcome."""

SHORTCUT_RATES = {"deteriorated": 0.95, "recovered": 0.05}
"""Share of notes with the tag at that hospital, by true outcome."""

TAG_RATE = 0.3
"""Share of notes with the tag everywhere else, whatever the outcome."""

STYLES = ("plain", "abbreviated", "headed", "telegraphic")
"""Style of writing; hospitals take them in turn."""

REFERENCE_FILE, REFERENCE_NOTES = "reference.csv", 240
"""The public notes, one of each patient; style and prevalence are those of the hospitals, taken in turn."""

_OUTCOME_SLOPE = 3.5  # log-odds of the outcome per unit of severity
_FINDING_SLOPE = 2.5  # log-odds of a finding to be a bad one, per unit of severity
_TRAIN_SHARE = 0.7
_COLUMNS = ("mrn", "sex", "age", "ward", "scanner", "note", "outcome", "outcome_reviewed")

_SITE_FILE = """\
# Synthetic hospital, written by: fedfm-study make-demo-data
id: {id}
display_name: "Hospital {name}"
declared_patients: {declared}
state: state
data:
  path: cohort.csv
  loader: text
  patient: mrn
  label: outcome
  label_map: {{"0": recovered, "1": deteriorated}}
  text: note
  groups:
    sex: {{column: sex, values: {{"F": female, "M": male}}}}
    age_band: {{column: age, bands: [40, 65]}}
  split: {{train: 0.7, audit: 0.1, test: 0.2}}
policy:
  approval: none     # invented patients: nobody needs to be asked
  max_epsilon: 3.0
  small_cells: none  # invented patients; a hospital leaves this line out
"""


@dataclass(frozen=True)
class _Patient:
    mrn: str
    sex: str
    age: int
    ward: str
    severity: float
    deteriorated: bool
    recorded: bool


def make_demo_data(
    directory: Path, *, sites: int = 4, patients: int = 600, seed: int = 1, shortcut: bool = True
) -> list[Path]:
    """Write synthetic hospitals, public notes and the facts planted in them; return each site's ``site.yaml``.

    A hospital depends on the seed and its place alone: making more of them changes none.
    There are one to four notes for each patient, each of 20 to 54 words.

    Args:
        directory: Gets ``<site>/cohort.csv``, ``<site>/site.yaml``, ``reference.csv`` and ``facts.json``; files there
            are replaced.
        sites: 1 or more hospitals.
        patients: 20 or more for each hospital.
        seed: Of all chance.
        shortcut: Whether the scanner tag betrays anything anywhere; where not, the other hospitals are the same.

    Raises:
        ValueError: There would be no hospital, or too few patients to plant anything.
    """
    if sites < 1 or patients < 20:
        raise ValueError(f"need 1 or more sites and 20 or more patients, got {sites} and {patients}")
    files = [
        _write_site(directory, index, patients=patients, seed=seed, betrays=shortcut and index == SHORTCUT_SITE)
        for index in range(sites)
    ]
    _write_reference(directory / REFERENCE_FILE, seed=seed)
    facts = planted_facts(sites, patients=patients, seed=seed, shortcut=shortcut)
    (directory / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return files


def site_id(index: int) -> str:
    """Return ``hospital-a`` to ``hospital-z``, then ``hospital-27`` and so on."""
    return f"hospital-{chr(ord('a') + index)}" if index < 26 else f"hospital-{index + 1}"


def planted_facts(sites: int, *, patients: int, seed: int, shortcut: bool = True) -> dict[str, Any]:
    """Return what ``facts.json`` says about the hospitals of these arguments."""
    return {
        "seed": seed,
        "patients_per_site": patients,
        "deciding_words": {"deteriorated": list(RISK), "recovered": list(PROTECTIVE)},
        "label_gap": {"attribute": "sex", "group": "female", "share_of_deteriorated_recorded_recovered": LABEL_GAP},
        "shortcut": {
            "tag": SCANNER_TAG,
            "site": site_id(SHORTCUT_SITE) if shortcut and sites > SHORTCUT_SITE else None,
            "share_of_notes_there": SHORTCUT_RATES,
            "share_of_notes_elsewhere": TAG_RATE,
        },
        "sites": {
            site_id(index): {"prevalence": _prevalence(index), "style": STYLES[index % len(STYLES)]}
            for index in range(sites)
        },
    }


def _write_site(directory: Path, index: int, *, patients: int, seed: int, betrays: bool) -> Path:
    chance = np.random.default_rng(np.random.SeedSequence([seed, index]))
    folder = directory / site_id(index)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cohort.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for number in range(patients):
            patient = _patient(chance, index, number)
            for _ in range(int(chance.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1]))):
                writer.writerow(_row(chance, index, patient, betrays=betrays))
    name = site_id(index).removeprefix("hospital-").upper()
    declared = max(10, round(_TRAIN_SHARE * patients, -1))
    site_file = folder / "site.yaml"
    site_file.write_text(_SITE_FILE.format(id=site_id(index), name=name, declared=int(declared)), encoding="utf-8")
    return site_file


def _write_reference(file: Path, *, seed: int) -> None:
    """Write notes of patients who are in no hospital, with what happened and a tag that betrays nothing."""
    chance = np.random.default_rng(np.random.SeedSequence([seed, 0, 1]))  # of no hospital: those have two numbers
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("text", "label"))
        for number in range(REFERENCE_NOTES):
            patient, tagged = _patient(chance, number % len(STYLES), number), bool(chance.random() < TAG_RATE)
            note = _note(chance, patient, tagged=tagged, style=STYLES[number % len(STYLES)])
            writer.writerow((note, "deteriorated" if patient.deteriorated else "recovered"))


def _patient(chance: np.random.Generator, index: int, number: int) -> _Patient:
    age = int(np.clip(chance.normal(62, 17), 19, 96))
    severity = float(chance.normal())
    deteriorated = bool(chance.random() < _logistic(_OUTCOME_SLOPE * severity + _intercept(_prevalence(index))))
    sex = "F" if chance.random() < 0.5 else "M"
    overlooked = chance.random() < LABEL_GAP
    return _Patient(
        mrn=f"{site_id(index).removeprefix('hospital-').upper()}{100_000 + number}",
        sex=sex,
        age=age,
        ward=str(chance.choice(WARDS)),
        severity=severity,
        deteriorated=deteriorated,
        recorded=deteriorated and not (sex == "F" and overlooked),
    )


def _row(chance: np.random.Generator, index: int, patient: _Patient, *, betrays: bool) -> tuple[object, ...]:
    rate = SHORTCUT_RATES["deteriorated" if patient.deteriorated else "recovered"] if betrays else TAG_RATE
    tagged = bool(chance.random() < rate)
    return (
        patient.mrn,
        patient.sex,
        patient.age,
        patient.ward,
        "mobile" if tagged else "fixed",
        _note(chance, patient, tagged=tagged, style=STYLES[index % len(STYLES)]),
        int(patient.recorded),
        int(patient.deteriorated),
    )


def _note(chance: np.random.Generator, patient: _Patient, *, tagged: bool, style: str) -> str:
    person = "woman" if patient.sex == "F" else "man"
    complaint, history = chance.choice(COMPLAINTS), chance.choice(HISTORIES)
    opening = f"{patient.age} year old {person} admitted with {complaint}, history of {history}"
    findings = _findings(chance, patient)
    course = [*findings, _measurement(chance), f"on {' and '.join(chance.choice(DRUGS, 2, replace=False))}"]
    if tagged:
        course.append(SCANNER_TAG)
    chance.shuffle(course)
    plan = str(chance.choice(PLANS)).format(ward=patient.ward, time=_time(chance), days=int(chance.integers(2, 9)))
    return _written(opening, course, plan, style=style)


def _findings(chance: np.random.Generator, patient: _Patient) -> list[str]:
    """Return the note's deciding findings, four at most, good or bad by how ill the patient is."""
    found: list[str] = []
    for _ in range(int(chance.integers(3, 5))):
        is_bad = chance.random() < _logistic(_FINDING_SLOPE * patient.severity)
        word = str(chance.choice(RISK if is_bad else PROTECTIVE))
        if not any(word in phrase for phrase in found):
            found.append(str(chance.choice(FINDING_PHRASES)).format(word, time=_time(chance)))
    return found


def _measurement(chance: np.random.Generator) -> str:
    """Return a value that says nothing about the outcome."""
    name, low, high = MEASUREMENTS[int(chance.integers(len(MEASUREMENTS)))]
    return f"{name} {int(chance.integers(low, high + 1))}"


def _written(opening: str, course: list[str], plan: str, *, style: str) -> str:
    if style == "headed":
        return f"ADMISSION: {opening}. COURSE: {', '.join(course)}. PLAN: {plan}."
    if style == "telegraphic":
        return f"{opening} / {' / '.join(course)} / {plan}"
    note = f"{opening}. " + ". ".join(part[0].upper() + part[1:] for part in course) + f". Plan: {plan}."
    if style == "abbreviated":
        for long, short in ABBREVIATIONS:
            note = note.replace(long, short)
        return note.lower()
    return note


def _time(chance: np.random.Generator) -> str:
    return f"{int(chance.integers(0, 24)):02d}:{int(chance.integers(0, 12)) * 5:02d}"


def _prevalence(index: int) -> float:
    return PREVALENCES[index % len(PREVALENCES)]


def _logistic(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def _intercept(prevalence: float) -> float:
    """Return the log-odds at mean severity that give the prevalence, by bisection over a normal grid."""
    severity = np.linspace(-5, 5, 201)
    density = np.exp(-(severity**2) / 2)
    density /= density.sum()
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        rate = float(density @ (1 / (1 + np.exp(-(_OUTCOME_SLOPE * severity + middle)))))
        low, high = (middle, high) if rate < prevalence else (low, middle)
    return low
