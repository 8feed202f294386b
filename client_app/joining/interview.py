"""The questions of ``fedfm-site init``, in the order in which a person knows the answers."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from cryptography import x509

from client_app.data.tables import canonical, column, read_table
from client_app.data.template import parse
from client_app.joining.answers import Answers, Weights
from client_app.joining.columns import Guess, describe, guess, labels_to_show, rounded_patients, sex_words
from client_app.joining.questions import Asking, Question, unusable
from fedfm.config.settings import settings_of
from fedfm.config.site import Site
from fedfm.errors import ConfigError, FedFMError

_TRAIN = 0.7  # the share of training patients in the site file that is written
_DEVICES = ("cpu", "cuda", "auto")  # one of several GPUs is named in the file
_ADDRESS = re.compile(r"[A-Za-z0-9.-]+:(\d{1,5})|\[[0-9A-Fa-f:]+\]:(\d{1,5})")


@dataclass(frozen=True)
class Given:
    """Answers that were given as options; None where a question is open."""

    id: str | None = None
    display_name: str | None = None
    table: str | None = None
    data_folder: str | None = None
    patient: str | None = None
    label: str | None = None
    label_map: str | None = None
    loader: str | None = None
    reads: str | None = None
    sex: str | None = None
    sex_values: str | None = None
    age: str | None = None
    declared_patients: str | None = None
    coordinator: str | None = None
    authority: str | None = None
    weights: str | None = None
    device: str | None = None


def interview(given: Given, asking: Asking, *, propose_id: str) -> Answers:
    """Ask all that a site file needs. The table is read for the kinds of its columns; no value of a patient is shown.

    Args:
        given: Answers of the command line.
        asking: Who answers the others.
        propose_id: The id that is proposed.

    Raises:
        FedFMError: An answer is missing or cannot be used, or the table cannot be read.
    """
    ask = asking.ask
    name = ask(
        Question("--id", "Short name of this hospital, as the coordinator will know it", propose_id), given.id, _id
    )
    shown = ask(Question("--display-name", "Its name for people", name), given.display_name, str.strip)
    path, table = ask(Question("--table", "File with the patients' table (.csv or .parquet)"), given.table, _table)
    folder = str(path.resolve().parent)
    found = guess(describe(table))
    patient, label, label_map = _patients(given, asking, table, found)
    loader, reads = _what_is_read(given, asking, table, found)
    sex, words = _sex(given, asking, table, found, patients=table[patient])
    age_text = "Column with the age in years, for fairness (empty: none)"
    age = ask(Question("--age", age_text, found.age), given.age, _optional(table, "--age"))
    declared = str(rounded_patients(int(table[patient].nunique()), train=_TRAIN))
    return Answers(
        id=name,
        display_name=shown,
        table=path.name,
        patient=patient,
        label=label,
        label_map=label_map,
        loader=loader,
        reads=reads,
        sex=sex,
        sex_words=words,
        age=age,
        data_folder=ask(
            Question("--data-folder", "Folder of that file on this host", folder), given.data_folder, _host
        ),
        declared_patients=ask(
            Question("--declared-patients", "Training patients, rounded; public", declared),
            given.declared_patients,
            _rounded,
        ),
        coordinator=ask(Question("--coordinator", "Coordinator, host:port"), given.coordinator, _address),
        authority=ask(Question("--authority", "The coordinator's ca.crt", "ca.crt"), given.authority, _authority),
        weights=ask(
            Question("--weights", "Folder with models to copy, each in a folder of its own (empty: none yet)", ""),
            given.weights,
            _weights,
        ),
        device=ask(
            Question("--device", "Compute on: cpu, or cuda for a GPU", "cpu"),
            given.device,
            _one_of("--device", _DEVICES),
        ),
    )


def _patients(given: Given, asking: Asking, table: pd.DataFrame, found: Guess) -> tuple[str, str, Mapping[str, str]]:
    """Ask for the columns of patient and outcome, and what its values are in the words of the study."""
    patient = asking.ask(
        Question("--patient", "Column with the patient's identifier", found.patient or None),
        given.patient,
        _existing(table, "--patient"),
    )
    label = asking.ask(
        Question("--label", "Column with the outcome", found.label or None), given.label, _existing(table, "--label")
    )
    values = labels_to_show(table[label], table[patient])
    text = "The outcome's values and the study's words for them, value=word with commas between"
    proposed = ",".join(f"{value}={value}" for value in values) or None
    return (
        patient,
        label,
        asking.ask(Question("--label-map", text, proposed), given.label_map, _label_map(table[label])),
    )


def _what_is_read(given: Given, asking: Asking, table: pd.DataFrame, found: Guess) -> tuple[str, str]:
    """Ask whether a study reads a note, a sentence made of columns, or numbers, and which."""
    proposed = "text" if found.text else "columns"
    text = "What a model reads: text (a note), columns (numbers), template (a sentence of columns)"
    loader = asking.ask(
        Question("--loader", text, proposed), given.loader, _one_of("--loader", _choices("data.loader"))
    )
    question, read = {
        "text": (Question("--reads", "Column with the note", found.text or None), _existing(table, "--reads")),
        "columns": (
            Question("--reads", "Columns that studies may use, with commas between", ",".join(found.numbers) or None),
            _several(table),
        ),
        "template": (Question("--reads", "Template, for example: {age}-year-old {sex}"), _template(table)),
    }[loader]
    return loader, asking.ask(question, given.reads, read)


def _sex(
    given: Given, asking: Asking, table: pd.DataFrame, found: Guess, *, patients: "pd.Series[str]"
) -> tuple[str, Mapping[str, str]]:
    question = Question("--sex", "Column with the sex, for fairness (empty: none)", found.sex)
    sex = asking.ask(question, given.sex, _optional(table, "--sex"))
    if not sex:
        return "", {}
    proposed = ",".join(f"{value}={group}" for value, group in sex_words(table[sex], patients).items())
    text = "Its values and the groups' names, value=name with commas between (empty: leave it out)"
    return sex, asking.ask(Question("--sex-values", text, proposed), given.sex_values, _pairs("--sex-values"))


def _id(text: str) -> str:
    pattern = next(str(entry.rule["pattern"]) for entry in settings_of(Site) if entry.path == "id")
    if not re.fullmatch(pattern, text):
        raise unusable(
            "--id", "not a short name", found=repr(text), allowed="2 to 32 of a-z 0-9 -, a letter or digit first"
        )
    return text


def _table(text: str) -> tuple[Path, pd.DataFrame]:
    path = Path(text).expanduser()
    try:
        return path, read_table(path)
    except FedFMError as problem:  # a person is asked again; the code stays that of the table
        raise ConfigError.received(problem.code, str(problem)) from None


def _host(text: str) -> Path:
    if not Path(text).is_absolute() or set(text) & set("'\n"):  # in .env it stands between single quotes
        allowed = "a path that begins with /, without quotation marks"
        raise unusable("--data-folder", "not a whole path", found=text, allowed=allowed)
    return Path(text)


def _rounded(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 10 or int(text) % 10:
        allowed = "a multiple of 10, for an exact count tells of single patients"
        raise unusable("--declared-patients", "not a rounded number of patients", found=text, allowed=allowed)
    return int(text)


def _address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if not match or not 0 < int(match[1] or match[2]) < 65536:
        allowed = "host:port without https://, for example fl.example.org:9092"
        raise unusable("--coordinator", "not an address", found=text, allowed=allowed)
    return text


def _authority(text: str) -> Path:
    path = Path(text).expanduser()
    try:
        x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            "SITE-E233",
            "this is no certificate of an authority",
            where=text,
            found="no file that can be read" if isinstance(error, OSError) else "no PEM certificate",
            fix="name the ca.crt that the coordinator sent",
        ) from None
    return path


def _weights(text: str) -> Weights | None:
    """Read which models are there, by their hashes."""
    if not text:
        return None
    folder = Path(text).expanduser()
    files = sorted(folder.glob("*/model.safetensors"))
    if not files:
        allowed = "a folder with NAME/model.safetensors in it, for each model"
        raise unusable("--weights", "no models are there", found=str(folder), allowed=allowed)
    models = {}
    for file in files:
        with file.open("rb") as content:
            models[hashlib.file_digest(content, "sha256").hexdigest()] = file.parent.name
    return Weights(folder, models)


def _choices(path: str) -> tuple[str, ...]:
    return next(tuple(entry.rule["choices"]) for entry in settings_of(Site) if entry.path == path)


def _one_of(option: str, words: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise unusable(option, "not one of the words", found=repr(text), allowed=", ".join(words))
        return text

    return read


def _existing(table: pd.DataFrame, option: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        try:
            column(table, text, setting=option)
        except FedFMError as problem:
            raise ConfigError.received(problem.code, str(problem).replace("site.yaml ", "")) from None
        return text

    return read


def _optional(table: pd.DataFrame, option: str) -> Callable[[str], str]:
    return lambda text: _existing(table, option)(text) if text else ""


def _several(table: pd.DataFrame) -> Callable[[str], str]:
    def read(text: str) -> str:
        return ",".join(_existing(table, "--reads")(name.strip()) for name in text.split(","))

    return read


def _template(table: pd.DataFrame) -> Callable[[str], str]:
    def read(text: str) -> str:
        for name in {name for clause in parse(text) for name in clause.columns}:
            _existing(table, "--reads")(name)
        return text

    return read


def _pairs(option: str) -> Callable[[str], dict[str, str]]:
    def read(text: str) -> dict[str, str]:
        halves = [part.partition("=") for part in text.split(",") if part.strip()]
        if any(not (sign and value.strip() and word.strip()) for value, sign, word in halves):
            raise unusable(option, "not pairs", allowed="value=word with commas between, for example 0=alive,1=died")
        return {value.strip(): word.strip() for value, _, word in halves}

    return read


def _label_map(cells: "pd.Series[str]") -> Callable[[str], dict[str, str]]:
    def read(text: str) -> dict[str, str]:
        pairs = _pairs("--label-map")(text)
        known = {canonical(value) for value in pairs}
        if not pairs or not all(canonical(value) in known for value in map(str, cells.dropna().unique())):
            what, fix = "values of the column lead to no word", "look into the file: rare values are not shown here"
            raise unusable("--label-map", what, allowed="every value of the column", fix=fix)
        return pairs

    return read
