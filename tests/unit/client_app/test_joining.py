"""``fedfm-site init``: what is guessed, what is asked, what is written; and no patient's value on the screen."""

import hashlib
import os
import pty
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from client_app.cli import app
from client_app.joining.answers import Answers, site_yaml
from client_app.joining.columns import describe, guess, labels_to_show, rounded_patients, sex_words
from client_app.joining.folder import MODES
from fedfm.config.compose import load_site
from fedfm.node_keys import fingerprint
from server_app.certificates import make_certificates

CANARY = "ZZPATIENT"
TEXT = st.sampled_from(["a", "$x", "a: b", "no", 'a "b"', "\\\\"])
FILES = {"site.yaml", "policy.yaml", "ca.crt", "node.key", "site.pub", "superexec.secret", ".env"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """120 patients with two notes each, a canary in every free text."""
    rows = [
        f"{CANARY}-{n // 2:04d},{'FM'[n % 2]},{20 + n % 70},a long note about {CANARY} of the ward number {n},{n % 2}"
        for n in range(240)
    ]
    path = tmp_path / "cohort.csv"
    path.write_text("\n".join(["MRN,Gender,age,Note Text,outcome", *rows]) + "\n")
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return make_certificates(tmp_path / "certificates").authority


def run(*arguments: object) -> Result:
    """The command's result; no canary was shown, and nothing but a code ended it."""
    result = CliRunner().invoke(app, ["init", *map(str, arguments)])
    assert CANARY not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def joined(folder: Path, table: Path, authority: Path, *more: object) -> Result:
    usual = ["--table", table, "--authority", authority, "--coordinator", "fl.example.org:9092", "--yes"]
    return run(folder, *usual, *more)


def test_a_folder_is_written_that_the_trainer_accepts(tmp_path: Path, table: Path, authority: Path) -> None:
    folder = tmp_path / "hospital-a"
    result = joined(folder, table, authority, "--label-map", "0=recovered,1=deteriorated")
    assert result.exit_code == 0, result.output
    assert {path.name for path in folder.iterdir()} == FILES | {"weights"} == set(MODES) | {"weights"}
    site = load_site(folder / "site.yaml")
    assert (site.id, site.declared_patients, site.data.loader) == ("hospital-a", 80, "text")
    assert (site.data.patient, site.data.label, site.data.text) == ("MRN", "outcome", "Note Text")
    assert site.data.label_map == {"0": "recovered", "1": "deteriorated"}
    assert site.data.groups["sex"].values == {"F": "female", "M": "male"}
    assert site.data.groups["age_band"].column == "age"
    assert (site.data.path, site.state) == ("/data/cohort.csv", "/var/lib/fedfm")
    assert site.network.coordinator == "fl.example.org:9092"
    assert f"FEDFM_DATA='{tmp_path}'" in (folder / ".env").read_text()


def test_models_are_named_by_their_hash(tmp_path: Path, table: Path, authority: Path) -> None:
    model = tmp_path / "models" / "tiny" / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    folder = tmp_path / "hospital-a"
    assert joined(folder, table, authority, "--weights", tmp_path / "models").exit_code == 0
    digest = hashlib.sha256(b"weights").hexdigest()
    assert load_site(folder / "site.yaml").weights == {digest: "/weights/tiny"}
    assert "FEDFM_WEIGHTS='./weights'" in (folder / ".env").read_text()
    copied = folder / "weights" / "tiny" / "model.safetensors"
    assert copied.read_bytes() == b"weights"
    assert stat.S_IMODE(copied.stat().st_mode) == 0o644


def test_keys_are_a_pair_and_for_their_user_only(tmp_path: Path, table: Path, authority: Path) -> None:
    folder = tmp_path / "hospital-a"
    result = joined(folder, table, authority)
    private = load_ssh_private_key((folder / "node.key").read_bytes(), password=None)
    assert private.public_key() == load_ssh_public_key((folder / "site.pub").read_bytes())
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in FILES}
    assert modes["node.key"] == 0o400
    assert modes["superexec.secret"] == 0o440
    assert not any(mode & 0o022 for mode in modes.values())
    if os.geteuid() == 0:
        owner = (folder / "node.key").stat()
        assert (owner.st_uid, owner.st_gid) == (10003, 10000)
    else:
        assert "chown 10003:10000" in result.output
    assert (folder / "site.pub").read_text().strip() in result.output
    assert fingerprint((folder / "site.pub").read_text()) in result.output
    assert (folder / "node.key").read_text() not in result.output


def test_the_fingerprint_is_the_one_of_ssh_keygen() -> None:
    """A key of no one's, and what ``ssh-keygen -lf`` says of it."""
    line = (
        "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAA"
        "BhBBd20T80L+E6s7Ouk5A3PsOrz0OkZ9ZRh2eOV8pjVyWMymqrpt0gE41+No2MsdChuMlsUW6xt3C8DW"
        "Vrqx3mu3hVYrS3ovXfhewid9BaTJKZufj6z7qbNNTeOiI8Em0xSA== host"
    )
    assert fingerprint(line) == "SHA256:9M9iTxUw2D3aQLeC4sYoV4RrrVnyqMeAm8+Aj6J+rtE"


def test_a_second_time_says_what_is_there_and_changes_nothing(tmp_path: Path, table: Path, authority: Path) -> None:
    folder = tmp_path / "hospital-a"
    joined(folder, table, authority)
    before = {name: (folder / name).read_bytes() for name in FILES}
    result = joined(folder, table, authority)
    assert result.exit_code == 2
    assert "SITE-E232" in result.output
    assert fingerprint(before["site.pub"].decode()) in result.output
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, table: Path, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("client_app.joining.folder.make_secret", full)
    before = set(tmp_path.iterdir())
    result = joined(tmp_path / "hospital-a", table, authority)
    assert "SITE-E234" in result.output
    assert "No space left on device" in result.output
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("--id", "Hospital A", "SITE-E231"),
        ("--coordinator", "https://fl.example.org:9092", "SITE-E231"),
        ("--coordinator", "fl.example.org", "SITE-E231"),
        ("--coordinator", "fl.example.org:99999", "SITE-E231"),
        ("--declared-patients", "84", "SITE-E231"),
        ("--declared-patients", "0", "SITE-E231"),
        ("--patient", "mrm", "SITE-E014"),
        ("--label-map", "0", "SITE-E231"),
        ("--label-map", "0=alive", "SITE-E231"),
        ("--loader", "image", "SITE-E231"),
        ("--device", "tpu", "SITE-E231"),
        ("--display-name", "${oc.env:HOME}", "SITE-E031"),
        ("--data-folder", "cohort", "SITE-E231"),
        ("--authority", "nowhere.crt", "SITE-E233"),
        ("--table", "nowhere.csv", "SITE-E011"),
        ("--weights", "nowhere", "SITE-E231"),
    ],
)
def test_an_answer_that_cannot_be_used_is_named(
    tmp_path: Path, table: Path, authority: Path, option: str, value: str, code: str
) -> None:
    result = joined(tmp_path / "hospital-a", table, authority, option, value)
    assert result.exit_code == 2
    assert result.stderr.startswith(code), result.output
    assert not (tmp_path / "hospital-a").exists()


def test_without_a_terminal_an_open_question_ends_it(tmp_path: Path, table: Path) -> None:
    result = run(tmp_path / "hospital-a", "--id", "hospital-a", "--display-name", "A", "--table", table)
    assert result.exit_code == 2
    assert "SITE-E230" in result.stderr
    assert "give the option --patient, or --yes for what is proposed: MRN" in result.stderr
    assert "no person is at a terminal to answer: Column with the patient's identifier" in result.stderr
    assert "got:" not in result.stderr, "a question is nothing that was found"


@pytest.mark.slow
def test_a_person_is_asked_again_until_the_answer_can_be_used(tmp_path: Path, table: Path, authority: Path) -> None:
    """On a real terminal; return takes what is proposed."""
    answers = ["", "", str(table), "nothing", "", "", "0=well,1=ill", "", "", "", "", "", "", "", "x", "h:1"]
    answers += [str(authority), "", "", "y"]
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "typer", "client_app.cli", "run", "init", str(tmp_path / "hospital-a")]
    with subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as person:
        os.write(master, ("\n".join(answers) + "\n").encode())
        output = person.communicate(timeout=60)[0]
    assert person.returncode == 0, output
    assert CANARY not in output
    assert "SITE-E014" in output
    assert "SITE-E231" in output
    site = load_site(tmp_path / "hospital-a" / "site.yaml")
    assert site.data.label_map == {"0": "well", "1": "ill"}
    assert site.network.coordinator == "h:1"


def frame(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype="str")


def test_a_rare_outcome_hides_all_values_of_it(tmp_path: Path, authority: Path) -> None:
    values = ["alive"] * 40 + ["dead"] * 30 + [f"{CANARY}-cause"] * 10
    assert shown(values) == []
    assert shown([*values, values[-1]]) == ["ZZPATIENT-cause", "alive", "dead"]
    table = tmp_path / "t.csv"
    rows = [f"p{n},{value},{n}.5" for n, value in enumerate(values)]
    table.write_text("\n".join(["pid,outcome,lactate", *rows]) + "\n")
    hidden = joined(tmp_path / "site", table, authority)  # the canary would be seen
    assert "--label-map" in hidden.stderr
    assert "alive" not in hidden.output
    partly = joined(tmp_path / "site", table, authority, "--label-map", "alive=recovered,dead=died")
    assert "SITE-E231" in partly.stderr


def shown(values: list[str], patients: list[str] | None = None) -> list[str]:
    rows = frame(y=values, p=patients or [f"p{n}" for n in range(len(values))])
    return labels_to_show(rows["y"], rows["p"])


def test_one_patient_with_many_rows_does_not_make_a_value_common() -> None:
    values = ["alive"] * 40 + ["dead"] * 11
    everyone = [f"p{n}" for n in range(51)]
    assert shown(values, everyone) == ["alive", "dead"]
    assert shown(values, [*everyone[:-1], everyone[-2]]) == [], "ten patients died, in eleven rows"
    sex = frame(s=["F"] * 20 + ["M"] * 20, p=["one"] * 20 + [f"p{n}" for n in range(20)])
    assert sex_words(sex["s"], sex["p"]) == {}


def test_columns_without_a_note_are_numbers_and_identifiers_are_not_among_them() -> None:
    table = frame(
        patient_id=[str(n) for n in range(60)],
        sex=["0", "1"] * 30,
        age=[str(n) for n in range(60)],
        lactate=["1.5", ""] * 30,
        ward=["4b", "icu"] * 30,
        died=["yes", "no"] * 30,
    ).replace("", None)
    found = guess(describe(table))
    assert (found.patient, found.label, found.text) == ("patient_id", "died", "")
    assert found.numbers == ("age", "lactate")
    assert sex_words(table["sex"], table["patient_id"]) == {}
    everyone = pd.Series([f"p{n}" for n in range(40)])
    words = frame(s=["Female ", "male"] * 11)["s"]
    assert sex_words(words, everyone[:22]) == {"Female ": "female", "male": "male"}
    assert sex_words(frame(s=["F"] * 30 + ["M"] * 10)["s"], everyone) == {}


@given(st.integers(1, 100_000), st.integers(0, 9))
def test_declared_patients_tell_no_exact_count(patients: int, more: int) -> None:
    rounded = rounded_patients(patients, train=0.7)
    assert rounded % 10 == 0
    assert rounded >= 10
    assert abs(rounded - patients * 0.7) <= max(10, 0.13 * patients)
    assert len({rounded_patients(patients + extra, train=0.7) for extra in range(more)}) <= 2


@settings(deadline=None, max_examples=40)
@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(
        lambda text: "${" not in text
    ),
    st.dictionaries(
        st.text(st.characters(max_codepoint=0x1FAFF, exclude_categories=("Cs", "Cc")), min_size=1), TEXT, min_size=1
    ),
)
def test_whatever_a_hospital_is_called_its_site_file_says_it(name: str, labels: dict[str, str]) -> None:
    said = Answers(
        **{"id": "no", "display_name": name, "declared_patients": 100, "table": "t.csv", "data_folder": Path("/d")},
        **{"loader": "text", "reads": name, "patient": name, "label": "y", "label_map": labels, "sex": "s"},
        **{"sex_words": {"F": "female"}, "age": name, "coordinator": "h:1", "authority": Path("ca.crt")},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "site.yaml"
        path.write_text(site_yaml(said), encoding="utf-8")
        site = load_site(path)
    assert (site.id, site.display_name, site.data.patient, site.data.text) == ("no", name, name, name)
    assert site.data.label_map == labels
    assert site.data.groups["age_band"].column == name


def test_fedfm_site_starts_where_there_is_neither_torch_nor_pandas() -> None:
    """As in the SuperNode's image, which looks at keys and network."""
    script = "import sys; sys.modules['torch'] = sys.modules['pandas'] = None; import client_app.cli"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
