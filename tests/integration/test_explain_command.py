"""``fedfm-site explain``: what the hospital's people see of single documents, and what they do not."""

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from client_app.cli import app
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, load_site
from fedfm.model.build import build_model, save_adapter
from fedfm.parameters import load_trainable, trainable
from tests.integration.conftest import CANARY, TINY, request, write_hospital

EVIL = '<script>alert("x")</script> & \x1b[31mred\x1b]0;title\x07 \u202ereversed fever'
LISTS = ["+explainability.shortcuts={ward: [ward, 'on the']}", "+explainability.swaps={state: {fever: stable}}"]


@pytest.fixture(scope="module")
def start() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


@pytest.fixture
def hospital(tmp_path: Path, start: Arrays) -> Path:
    """A site that has trained one round."""
    file = write_hospital(tmp_path)
    Trainer(load_site(file)).train(request(1, start, *LISTS))
    return file


def run(*arguments: object, width: int = 110) -> Result:
    """The command's result; whatever happened, only a code ended it, and no note is in what is an error."""
    result = CliRunner().invoke(app, ["explain", *map(str, arguments)], env={"COLUMNS": str(width)})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert CANARY not in result.stderr
    assert "\x1b]" not in result.output
    return result


def rows_of(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"Row (\d+) of the table", text)]


def test_words_are_shown_with_the_figure_beside_them(hospital: Path) -> None:
    before = state_of(hospital)
    result = run(hospital, "--documents", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "trained here in round 1 of run run-1" in result.stdout
    assert "integrated gradients, 10 steps from the embedding of padding" in flat(result)
    assert len(rows_of(result.stdout)) == 2
    assert result.stdout.count("an audit patient") == 2
    for told in ("drop without the most credited words", "in random order", "completeness error", "exchanging state"):
        assert result.stdout.count(told) == 2, told
    assert "credit on ward" in result.stdout
    assert "of all credit, on" in result.stdout
    assert "costs no epsilon" in flat(result)
    assert "plausible need not be" in flat(result)
    assert state_of(hospital) == before


def state_of(file: Path) -> dict[str, bytes]:
    """The ledger, the audit log and all else: looking at reasons leaves every byte of it."""
    return {path.name: path.read_bytes() for path in (file.parent / "state").rglob("*") if path.is_file()}


def flat(result: Result) -> str:
    return " ".join(result.stdout.split())


def test_a_row_is_that_of_the_table_whatever_split_it_is_of(hospital: Path) -> None:
    lines = (hospital.parent / "cohort.csv").read_text().splitlines()
    for row in (1, 17, len(lines) - 1):
        result = run(hospital, "--row", row)
        assert rows_of(result.stdout) == [row]
        assert lines[row].split(",")[1] in result.stdout


def test_the_model_is_the_one_that_was_trained_last(hospital: Path, start: Arrays) -> None:
    moved = {name: array + 1.0 for name, array in start.items()}
    Trainer(load_site(hospital)).train(request(2, moved, *LISTS, run="run-2"))
    assert "round 2 of run run-2" in run(hospital).stdout


def test_what_is_shown_is_of_the_kept_parameters(hospital: Path, tmp_path: Path) -> None:
    """The kept model and the same model saved as an adapter say the same of a document."""
    from client_app.reasons import checked_model  # noqa: PLC0415 - of this test alone

    site = load_site(hospital)
    kept = checked_model.last(site)
    model = checked_model.built(kept, site)
    assert all(np.array_equal(array, kept.parameters[name]) for name, array in trainable(model).items())
    save_adapter(model, tmp_path / "adapter")
    ours, saved = run(hospital, "--row", 5).stdout, run(hospital, "--row", 5, "--adapter", tmp_path / "adapter").stdout
    assert "of the folder" in saved
    (here,), (there,) = (re.findall(r"Predicted .*", text) for text in (ours, saved))
    assert here == there


@pytest.mark.parametrize("method", ["leave_one_out", "gradient_norm", "attention_rollout", "occlusion"])
def test_another_method_can_be_asked_for(hospital: Path, method: str) -> None:
    result = run(hospital, "--documents", 1, "--attribution", method)
    assert result.exit_code == 0
    assert method.replace("_", " ") in flat(result)
    assert ("for comparison only" in flat(result)) == (method in ("gradient_norm", "attention_rollout"))
    assert "need not add up" in flat(result)


def test_the_page_is_escaped_whole_and_for_its_owner(hospital: Path) -> None:
    table = hospital.parent / "cohort.csv"
    lines = table.read_text().splitlines()
    patient, _, outcome, sex = lines[1].split(",")
    quoted = EVIL.replace('"', '""')
    table.write_text("\n".join([lines[0], f'{patient},"{quoted}",{outcome},{sex}', *lines[2:]]) + "\n")
    file = hospital.parent / "reasons.html"
    result = run(hospital, "--row", 1, "--html", file)
    assert result.exit_code == 0, result.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert "<script" not in text
    assert "&lt;" in text
    assert "default-src 'none'; style-src 'sha256-" in text
    assert "style=" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "\N{REPLACEMENT CHARACTER}" in text
    assert 'class="f' in text or 'class="a' in text
    assert CANARY not in result.stdout
    assert [path.name for path in hospital.parent.glob("*.partial")] == []


def test_a_note_cannot_steer_the_terminal(hospital: Path) -> None:
    table = hospital.parent / "cohort.csv"
    lines = table.read_text().splitlines()
    patient, _, outcome, sex = lines[1].split(",")
    table.write_text("\n".join([lines[0], f"{patient},[bold]fever[/] \x1b[2J\x9b2J cough,{outcome},{sex}", *lines[2:]]))
    result = run(hospital, "--row", 1)
    assert "[bold]fever[/]" in result.stdout
    assert "\x1b[2J" not in result.stdout
    assert "\x9b" not in result.stdout


def test_a_document_beyond_the_window_is_shown_whole(hospital: Path) -> None:
    table = hospital.parent / "cohort.csv"
    lines = table.read_text().splitlines()
    patient, _, outcome, sex = lines[1].split(",")
    long = " ".join(["fever"] * 700 + ["unseen"])
    table.write_text("\n".join([lines[0], f"{patient},{long},{outcome},{sex}", *lines[2:]]))
    told = flat(run(hospital, "--row", 1))
    assert "unseen" in told
    assert re.search(r"the model does not read the last \d+ characters", told)
    run(hospital, "--row", 1, "--html", hospital.parent / "page.html")
    unread = re.findall(r'<span class="unread">([^<]*)', (hospital.parent / "page.html").read_text())
    assert unread[-1].endswith("unseen")


def test_a_model_that_ignores_its_input(tmp_path: Path, hospital: Path) -> None:
    study = compose_study(TINY).value
    model = build_model(study.model, study.adapter, study.task, seed=study.seed)
    load_trainable(model, {name: np.zeros_like(array) for name, array in trainable(model).items()})
    save_adapter(model, tmp_path / "adapter")
    result = run(hospital, "--documents", 1, "--adapter", tmp_path / "adapter")
    assert "No word has any credit" in result.stdout
    assert "+nan" not in result.stdout


def test_a_model_that_gives_no_finite_answer(tmp_path: Path, hospital: Path) -> None:
    study = compose_study(TINY).value
    model = build_model(study.model, study.adapter, study.task, seed=study.seed)
    load_trainable(model, {name: np.full_like(array, np.inf) for name, array in trainable(model).items()})
    save_adapter(model, tmp_path / "adapter")
    for method in ("integrated_gradients", "leave_one_out"):
        result = run(hospital, "--documents", 1, "--adapter", tmp_path / "adapter", "--attribution", method)
        assert result.exit_code == 0
        assert "no finite answer" in result.stdout
        assert "nan" not in result.stdout.replace("explanations", "")


def test_columns_are_a_table_with_bars(tmp_path: Path) -> None:
    file = write_columns(tmp_path)
    of = [
        "model=logistic",
        "adapter=full",
        "+task.columns=[{name: age, low: 0, high: 100}, {name: pulse, low: 30, high: 180}]",
    ]
    overrides = [*of, "task.inputs=columns"]
    study = compose_study([*TINY, *overrides]).value
    begun = trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))
    Trainer(load_site(file)).train(request(1, begun, *overrides))
    result = run(file, "--documents", 2)
    assert result.exit_code == 0, result.stderr
    assert "\N{FULL BLOCK}" in result.stdout
    assert "missing" in run(file, "--row", 1).stdout
    assert "the middle of its range" in flat(result)
    assert "SITE-E173" in run(file, "--attribution", "occlusion").stderr
    assert run(file, "--html", tmp_path / "page.html").exit_code == 0
    assert "<svg" in (tmp_path / "page.html").read_text()


def write_columns(folder: Path) -> Path:
    file = write_hospital(folder)
    rng = np.random.default_rng(0)
    rows = [
        f"p{n},{'' if n == 0 else 20 + n},{60 + n % 40 + rng.integers(9)},{('recovered', 'deteriorated')[n % 2]},male"
        for n in range(80)
    ]
    (folder / "cohort.csv").write_text("\n".join([f"{CANARY}-mrn,years,bpm,outcome,sex", *rows]))
    text = file.read_text().replace("loader: text", "loader: columns").replace("  text: note\n", "")
    file.write_text(text.replace("  groups:", "  columns: {age: years, pulse: bpm}\n  groups:"))
    return file


def test_the_gates_of_the_last_rounds_worst_first(hospital: Path, start: Arrays) -> None:
    Trainer(load_site(hospital)).train(request(2, start, *LISTS))
    result = run(hospital, "--checks", width=160)
    assert result.exit_code == 0
    assert result.stdout.index("round 2") < result.stdout.index("round 1")
    assert "faithfulness" in result.stdout
    assert "Exact, without noise: do not share." in result.stdout
    (path,) = (hospital.parent / "state").glob("check-2-*.json")
    told = json.loads(path.read_text())
    estimate = {"value": 3.0, "low": 2.0, "high": 4.0}
    broken = {
        "name": "shortcut:\x1b[31mward",
        "passed": False,
        "estimate": estimate,
        "limit": 1.5,
        "reason": "words decide",
    }
    path.write_text(json.dumps({**told, "gates": [*told["gates"], broken]}))
    shown = run(hospital, "--checks", width=160).stdout
    assert "\x1b[31mward" not in shown
    first = next(line for line in shown.splitlines() if "FAILED" in line)
    assert "+3.000 [+2.000, +4.000]" in first


def test_without_any_check(tmp_path: Path) -> None:
    assert "No study has had a model checked here yet." in run(write_hospital(tmp_path), "--checks").stdout


def no_model(file: Path) -> list[object]:
    (kept,) = (file.parent / "state").glob("checked-*.model")
    kept.unlink()
    return []


def damaged_model(file: Path) -> list[object]:
    (kept,) = (file.parent / "state").glob("checked-*.model")
    kept.write_bytes(kept.read_bytes()[:-3] + b"abc")
    return []


def cut_model(file: Path) -> list[object]:
    (kept,) = (file.parent / "state").glob("checked-*.model")
    kept.write_bytes(kept.read_bytes()[:40])
    return []


def beyond(_: Path) -> list[object]:
    return ["--row", 9999]


def no_folder(file: Path) -> list[object]:
    return ["--html", file.parent / "absent" / "page.html"]


def no_adapter(file: Path) -> list[object]:
    return ["--adapter", file.parent]


def damaged_table(file: Path) -> list[object]:
    (file.parent / "cohort.csv").write_text(f"{CANARY}-mrn,note\n{CANARY},fever {CANARY}\n")
    return []


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (no_model, "SITE-E170"),
        (damaged_model, "SITE-E171"),
        (cut_model, "SITE-E171"),
        (beyond, "SITE-E172"),
        (no_folder, "SITE-E174"),
        (no_adapter, "MODEL-E148"),
        (damaged_table, "SITE-E014"),
    ],
)
def test_errors_are_coded_and_hold_nothing_of_a_note(
    hospital: Path,
    spoil: Callable[[Path], list[object]],
    code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = run(hospital, *spoil(hospital))
    assert result.exit_code == 2
    assert code in result.stderr
    assert result.stdout == ""
    assert not [record for record in caplog.records if "fever" in record.getMessage()]


def test_a_study_that_explains_nothing_keeps_no_model(tmp_path: Path, start: Arrays) -> None:
    file = write_hospital(tmp_path)
    Trainer(load_site(file)).train(request(1, start, "explainability=none"))
    assert "SITE-E170" in run(file).stderr


def test_the_kept_model_is_for_the_trainer_alone(hospital: Path) -> None:
    (kept,) = (hospital.parent / "state").glob("checked-*.model")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert CANARY.encode() not in kept.read_bytes()
