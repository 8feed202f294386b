"""No error says anything that stands in a patient's row, not even in what it was raised from."""

import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from client_app.data.catalog import load_splits
from fedfm.config.site import Data, Group, Policy, Site, Split
from fedfm.config.study import Column, Task
from fedfm.errors import FedFMError

CANARY = "ZZPATIENT-123456"
GOOD = pd.DataFrame(
    {
        "mrn": [f"{CANARY}-{row}" for row in range(30)],
        "note": [f"{CANARY} note {row}" for row in range(30)],
        "outcome": [f"{CANARY} {row % 2}" for row in range(30)],
        "sex": [f"{CANARY} sex"] * 30,
        "part": ["train"] * 30,
    }
)
TEXT_TASK = Task(labels=["no", "yes"])
NUMBER_TASK = Task(inputs="columns", labels=["no", "yes"], columns=[Column("note", 0, 1)])
LABELS = {f"{CANARY} 0": "no", f"{CANARY} 1": "yes"}

Case = Callable[[Path, Data], tuple[Data, Task]]


def _write(path: Path, content: bytes, data: Data) -> tuple[Data, Task]:
    path.write_bytes(content)
    return replace(data, path=str(path)), TEXT_TASK


def _frame(path: Path, frame: pd.DataFrame, data: Data) -> tuple[Data, Task]:
    frame.to_csv(path, index=False)
    return replace(data, path=str(path)), TEXT_TASK


CASES: dict[str, tuple[str, Case]] = {
    "headless": ("E014", lambda at, data: _write(at, GOOD.to_csv(index=False, header=False).encode(), data)),
    "ragged": ("E011", lambda at, data: _write(at, f"mrn,note\n1,2\n{CANARY},{CANARY},{CANARY}\n".encode(), data)),
    "ragged first": ("E011", lambda at, data: _write(at, f"mrn,note\n{CANARY},2,{CANARY}\n".encode(), data)),
    "open quote": ("E011", lambda at, data: _write(at, f'mrn,note\n1,2\n1,"{CANARY}\n'.encode(), data)),
    "latin-1": ("E013", lambda at, data: _write(at, f"mrn,note\n{CANARY},Mü\n".encode("latin-1"), data)),
    "one column": ("E014", lambda at, data: _write(at, f"mrn;note\n{CANARY};{CANARY}\n".encode(), data)),
    "twice": ("E014", lambda at, data: _write(at, f"mrn,mrn\n{CANARY},{CANARY}\n".encode(), data)),
    "unmapped": ("E015", lambda at, data: (replace(data, label_map={"0": "no"}), TEXT_TASK)),
    "no map": ("E002", lambda at, data: (replace(data, label_map={}), TEXT_TASK)),
    "one class": ("E016", lambda at, data: _frame(at, GOOD.assign(outcome=f"{CANARY} 1"), data)),
    "no patient": ("E017", lambda at, data: _frame(at, GOOD.assign(mrn=["", *GOOD.mrn[1:]]), data)),
    "no note": ("E019", lambda at, data: _frame(at, GOOD.assign(note=""), data)),
    "bad split": ("E018", lambda at, data: (replace(data, split=Split(column="sex")), TEXT_TASK)),
    "torn": (
        "E018",
        lambda at, data: _frame(
            at, pd.concat([GOOD, GOOD.assign(part="test")]), replace(data, split=Split(column="part"))
        ),
    ),
    "none trains": (
        "E021",
        lambda at, data: _frame(at, GOOD.assign(part="test"), replace(data, split=Split(column="part"))),
    ),
    "not a number": (
        "E024",
        lambda at, data: (replace(data, loader="columns", columns={"note": "note"}), NUMBER_TASK),
    ),
    "not offered": ("E023", lambda at, data: (replace(data, loader="columns", columns={"a": "mrn"}), NUMBER_TASK)),
    "wrong kind": ("E025", lambda at, data: (data, NUMBER_TASK)),
    "no word": (
        "E015",
        lambda at, data: (replace(data, loader="template", template="{sex}", words={"sex": {"F": "f"}}), TEXT_TASK),
    ),
    "group column": ("E014", lambda at, data: (replace(data, groups={"age": Group(column="age")}), TEXT_TASK)),
}


@pytest.mark.parametrize("name", CASES)
def test_no_error_quotes_a_patient(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code, case = CASES[name]
    GOOD.to_csv(tmp_path / "good.csv", index=False)
    data = Data(str(tmp_path / "good.csv"), "text", "mrn", "outcome", LABELS, "note", split=Split())
    wrong, task = case(tmp_path / "bad.csv", data)
    site = Site(id="h", declared_patients=10, data=wrong, policy=Policy(), state=str(tmp_path))
    with caplog.at_level(logging.DEBUG), pytest.raises(FedFMError) as caught:
        load_splits(site, task)
    assert caught.value.code == f"SITE-{code}"
    assert CANARY not in everything_told(caught.value)
    assert CANARY not in caplog.text


def test_the_good_table_loads(tmp_path: Path) -> None:
    """Else the cases above could all fail for another reason than theirs."""
    GOOD.to_csv(tmp_path / "good.csv", index=False)
    data = Data(str(tmp_path / "good.csv"), "text", "mrn", "outcome", LABELS, "note", split=Split())
    splits = load_splits(Site(id="h", declared_patients=10, data=data, policy=Policy(), state=""), TEXT_TASK)
    assert len(splits.train) + len(splits.audit) + len(splits.test) == len(GOOD)


def everything_told(error: BaseException | None) -> str:
    """Return the text of an error and of every error behind it, shown or hidden by ``from None``."""
    told = ""
    while error is not None:
        told += str(error) + repr(error) + str(vars(error)) + "".join(traceback.format_exception(error))
        assert error.__cause__ is None
        error = error.__context__
    return told


def test_the_check_itself_sees_hidden_errors() -> None:
    hidden = FedFMError("SITE-E999", "hidden")
    hidden.__context__ = ValueError(CANARY)
    hidden.__suppress_context__ = True
    assert CANARY in everything_told(hidden)
