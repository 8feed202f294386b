"""A hospital's folder for tests of the doctor: good as it is made, with a canary in every cell."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from click.testing import Result
from typer.testing import CliRunner

from client_app.cli import app
from fedfm.config.compose import compose_study, study_to_json
from fedfm.findings import Finding

CANARY = "ZZPATIENT"
PATIENTS = 400
WORDS = ("stable", "fever", "cough", "pain", "rest", "walks")
SITE = """id: hospital-a
declared_patients: 200
state: state
data:
  path: cohort.csv
  loader: text
  patient: pid
  label: outcome
  label_map: {ZZPATIENT-ill: deteriorated, ZZPATIENT-well: recovered}
  text: note
  groups:
    sex: {column: sex, values: {ZZPATIENT-f: female, ZZPATIENT-m: male}}
  split: {train: 0.5, audit: 0.1, test: 0.4}
policy: {max_epsilon: 4, small_cells: cms, allow_random_weights: true}
"""
OFFLINE = {"HF_HUB_OFFLINE": "1", "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}


def table(patients: int = PATIENTS) -> pd.DataFrame:
    """One row of each patient, drawn by chance; the first are the same, however many there are."""
    rng = random.Random(1)
    rows = [
        {
            "pid": f"{CANARY}-{number:04d}",
            "note": " ".join([*rng.choices(WORDS, k=8), CANARY]),
            "outcome": f"{CANARY}-{rng.choice(['ill', 'well'])}",
            "sex": f"{CANARY}-{rng.choice('fm')}",
            "age": f"{CANARY}{rng.randint(20, 90)}",
        }
        for number in range(patients)
    ]
    return pd.DataFrame(rows)


def make(folder: Path, frame: pd.DataFrame | None = None) -> Path:
    """Write the hospital's folder, for its owner alone, and return its site file."""
    folder.mkdir(parents=True, exist_ok=True)
    (table() if frame is None else frame).to_csv(folder / "cohort.csv", index=False)
    (folder / "site.yaml").write_text(SITE)
    for path in (folder / "cohort.csv", folder / "site.yaml"):
        path.chmod(0o600)
    return folder / "site.yaml"


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def study(folder: Path, *overrides: str) -> Path:
    """Write a resolved study with a very small model, and return its file."""
    wanted = ["model=tiny", "adapter=head", "explainability=none", *overrides]
    path = folder / "config.resolved.json"
    path.write_text(study_to_json(compose_study(wanted).value))
    return path


def doctor(file: Path, *arguments: object) -> Result:
    """Call the command as people do; whatever happened, no canary was shown, and nothing but a code ended it."""
    environment = {**OFFLINE, "COLUMNS": "120"}
    result = CliRunner().invoke(app, ["doctor", str(file), *map(str, arguments)], env=environment)
    assert CANARY not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def examined(file: Path, *groups: str, named: Path | None = None) -> list[Finding]:
    """Return the findings of some groups, by way of the command's JSON."""
    chosen = [part for group in groups for part in ("--group", group)]
    told = json.loads(doctor(file, "--json", *chosen, *(["--study", named] if named else [])).stdout)
    return [Finding(**finding) for finding in told["findings"]]


def problems(findings: list[Finding]) -> dict[str, str]:
    """Code to what was found, of warnings and failures; each has a code and a fix."""
    found = [one for one in findings if one.status in ("warn", "fail")]
    assert all(one.code and one.fix and ("-W" in one.code) == (one.status == "warn") for one in found), found
    return {one.code: one.what for one in found}


Fault = Callable[[Path], object]
"""Changes a hospital's folder, given its site file."""
