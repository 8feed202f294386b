"""A hospital's own words do not leave in an error; what it says stays readable."""

from dataclasses import replace

import pytest

from client_app.data.labels import check_labels
from client_app.trainer.incidents import LONGEST_TEXT, as_refusal
from client_app.trainer.own_words import without_own_words
from fedfm.config.site import Data, Explanations, Group, Network, Policy, Site, Split
from fedfm.config.study import Task
from fedfm.errors import DataError, FedFMError

DATA = Data(
    path="/data/Jane Doe export.csv",
    loader="template",
    patient="mrn",
    label="ZZPATIENT-000007",
    label_map={"died 'old'": "died", "1": "survived"},
    template="{age_of_jane} years; weighs {kg}",
    words={"ward": {"7": "cardiology"}},
    columns={"age": "AGE_JANE"},
    groups={"sex": Group(column="gender", values={"f": "female"}, bands=[])},
    split=Split(0.7, 0.1, 0.2, column="which"),
)
SITE = Site(
    "hospital-a",
    declared_patients=400,
    data=DATA,
    policy=Policy(),
    network=Network(),
    explanations=Explanations({"scanner of Jane": ["portable film"]}, {"names": {"Jane": "Mary"}}),
    state="/var/lib/Jane Doe/state",
    weights={"ab" * 32: "/weights/of Jane/minilm"},
    cohort="jane-ward",
)
OWN = (
    "scanner of Jane",
    "portable film",
    "names",
    "Jane",
    "Mary",
    "mrn",
    "ZZPATIENT-000007",
    "died 'old'",
    "1",
    "age_of_jane",
    "kg",
    "weighs {kg}",
    "ward",
    "7",
    "AGE_JANE",
    "gender",
    "f",
    "which",
)


@pytest.mark.parametrize("word", OWN)
def test_a_name_in_quotes_is_hidden(word: str) -> None:
    error = DataError("SITE-E014", f"no column '{word}'", where="site.yaml data.label", fix="write it as it stands")
    told = without_own_words(error, SITE)
    assert str(told) == "SITE-E014 no column '…' — site.yaml data.label — fix: write it as it stands"
    assert told.code == "SITE-E014"


@pytest.mark.parametrize("name", ["Jane Doe export.csv", "/data/Jane Doe export.csv", "Jane Doe export"])
def test_the_file_is_hidden_wherever_it_stands(name: str) -> None:
    error = DataError("SITE-E011", "there is no such file", where="site.yaml data.path", found=name)
    assert "Jane" not in str(without_own_words(error, SITE))


def test_what_names_nothing_of_the_hospital_stays_as_it_is() -> None:
    error = DataError("SITE-E023", "the site does not offer column 'weight'", where="site.yaml data.columns")
    assert without_own_words(error, SITE) is error


@pytest.mark.parametrize(
    "column", ["Frau\u00a0ZZPATIENT", "Frau\tZZPATIENT", "Frau\u200bZZPATIENT", "ZZPATIENT cohort"]
)
def test_a_name_is_hidden_as_it_stands_in_the_site_file(column: str) -> None:
    """Before letters are made printable, and before the file's name is taken out of it."""
    data = replace(SITE, data=replace(DATA, path="/data/cohort.csv", text=column))
    told = as_refusal(without_own_words(DataError("SITE-E014", f"no column '{column}'"), data))
    assert str(told) == "SITE-E014 no column '…'"


def test_a_name_is_hidden_before_the_text_is_cut() -> None:
    told = as_refusal(without_own_words(DataError("SITE-E014", "x" * (LONGEST_TEXT - 15) + " 'AGE_JANE'"), SITE))
    assert "JANE" not in str(told)
    assert "AGE" not in str(told)


def test_what_the_hospital_maps_its_outcomes_to_is_its_own_too() -> None:
    data = replace(DATA, label_map={"1": "Jane Doe died"})
    with pytest.raises(FedFMError) as raised:
        check_labels(data, Task(labels=["died", "survived"]))
    assert "Jane" in str(raised.value)
    assert "Jane" not in str(without_own_words(raised.value, replace(SITE, data=data)))


@pytest.mark.parametrize(
    "text",
    [
        "cannot write — /var/lib/Jane Doe/state/audit.jsonl:3 — got: No space left on device",
        "cannot write — /var/lib/Jane Doe/state — got: No space left on device",
        "cannot read — /weights/of Jane/minilm/Jane's copy of it.json",
        "cannot read — where: '/srv/of/Jane'",
        "cannot read /home/Jane/x.csv, which is gone",
        "line 3 — state of site.yaml: ledger-jane-ward.jsonl:3",
        "cannot read — /data/Jane Doe export.csv",
    ],
)
def test_no_path_of_the_hospital_leaves(text: str) -> None:
    told = str(without_own_words(DataError("SITE-E150", text), SITE))
    assert "jane" not in told.lower()
    assert told.startswith(f"SITE-E150 {text.split(' ', maxsplit=1)[0]}")
    assert told.count("—") >= text.count(" — got")


@pytest.mark.parametrize(
    "text",
    [
        "got 3/4 — allowed: package/folder — fix: see docs/how-to/several-gpus.md, or https://example.org/a/b",
        "the weights — model.location sentence-transformers/all-MiniLM-L6-v2 — state of site.yaml: audit.jsonl:3",
    ],
)
def test_what_only_looks_like_a_path_stays(text: str) -> None:
    error = DataError("SITE-E150", text)
    assert without_own_words(error, replace(SITE, state="state")) is error
