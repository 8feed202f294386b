"""Reading a table as text, whatever the file format guessed."""

import gzip
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_app.data.tables import canonical, column, read_table
from fedfm.errors import DataError


def code_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert path.name in str(caught.value)
    return caught.value.code


def test_csv_gz_and_parquet_say_the_same(tmp_path: Path) -> None:
    text = 'mrn,age,note\n007,63.0," fever, cough "\n12,,?\n'
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    frame = pd.DataFrame({"mrn": ["007", "12"], "age": [63.0, None], "note": ["fever, cough", None]})
    frame.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.csv.gz", "a.parquet"):
        table = read_table(tmp_path / name)
        assert table["mrn"].tolist() == ["007", "12"], name
        assert table["age"].tolist()[0] == "63.0"
        assert table["note"].tolist()[0] == "fever, cough"
        assert table.isna().to_numpy().tolist() == [[False, False, False], [False, True, True]]


def test_whole_numbers_beside_a_gap_stay_whole_in_parquet(tmp_path: Path) -> None:
    big = 2**53 + 1  # a float would lose the last digit
    pd.DataFrame({"mrn": pd.array([big, None], dtype="Int64")}).to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet")["mrn"].tolist()[0] == str(big)


def test_quoted_line_breaks_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfmrn,note\n1,"two\nlines"\n')
    table = read_table(tmp_path / "a.csv")
    assert list(table.columns) == ["mrn", "note"]
    assert table["note"].tolist() == ["two\nlines"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.csv", b"", "SITE-E011"),
        ("header.csv", b"mrn,note\n", "SITE-E011"),
        ("blank.csv", b"\n\n", "SITE-E011"),
        ("longer-later.csv", b"mrn,note\n1,a\n2,b,c\n", "SITE-E011"),
        ("longer-first.csv", b"mrn,note\n1,a,c\n2,b,c\n", "SITE-E011"),
        ("broken.parquet", b"PAR1 nonsense", "SITE-E011"),
        ("broken.csv.gz", b"\x1f\x8b nonsense", "SITE-E011"),
        ("cut.csv.gz", gzip.compress(b"mrn,note\n" + b"1,a\n" * 5000)[:-20], "SITE-E011"),
        ("table.xlsx", b"mrn,note\n1,a\n", "SITE-E011"),
        ("latin.csv", "mrn,note\n1,Müller\n".encode("latin-1"), "SITE-E013"),
    ],
)
def test_unreadable_files_have_a_code(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert code_of(tmp_path / name) == code


def test_a_missing_file_and_a_folder_have_a_code(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert code_of(tmp_path / "none.csv") == "SITE-E011"
    assert code_of(tmp_path / "folder.csv") == "SITE-E011"


def test_a_file_without_the_right_to_read_has_a_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "no")

    (tmp_path / "a.csv").write_text("mrn\n1\n")
    monkeypatch.setattr(pd, "read_csv", refuse)
    assert code_of(tmp_path / "a.csv") == "SITE-E012"


@pytest.mark.parametrize("packed", [False, True])
def test_the_first_byte_that_is_not_utf8_is_named_in_the_log(
    tmp_path: Path, packed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    content = b"mrn,note\n1,abc\n2,M\xfcller\n"
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match="SITE-E013") as caught:
        read_table(path)
    assert f"byte {content.index(0xFC)}" in caplog.text
    assert str(content.index(0xFC)) not in caught.value.what + caught.value.found


def test_the_nearest_name_is_in_the_log_and_not_in_the_refusal(caplog: pytest.LogCaptureFixture) -> None:
    told = set()
    for table in (pd.DataFrame({"note_text": ["a"], "mrn": ["1"]}), pd.DataFrame({"a": ["1"]})):
        with pytest.raises(DataError, match=r"SITE-E014.*note_txt.*data\.text") as caught:
            column(table, "note_txt", setting="data.text")
        told.add(str(caught.value))
    assert len(told) == 1  # whatever columns there are
    assert "data.text: no column 'note_txt' in a file of 2 columns; the nearest is 'note_text'" in caplog.text


def test_a_name_that_is_not_alike_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """A file without a first line of names has a patient's values there."""
    table = pd.DataFrame({"ZZPATIENT": ["a"], "fever and cough": ["1"]})
    with pytest.raises(DataError, match="SITE-E014") as caught:
        column(table, "note", setting="data.text")
    assert "ZZPATIENT" not in str(caught.value) + caplog.text
    assert "fever" not in str(caught.value) + caplog.text


def test_a_column_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("mrn,note,note\n1,a,b\n")
    with pytest.raises(DataError, match="more than once"):
        column(read_table(tmp_path / "a.csv"), "note", setting="data.text")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", "1"), ("1.0", "1"), (" 01 ", "1"), (".70", "0.7"), ("1e2", "100"), ("-0", "0"), ("F", "F"), ("1 2", "1 2")],
)
def test_numbers_have_one_spelling(value: str, expected: str) -> None:
    assert canonical(value) == expected


@given(st.integers(-(10**14), 10**14))
def test_whole_numbers_agree_with_their_decimal_form(number: int) -> None:
    assert canonical(str(number)) == canonical(f"{number}.0") == str(number)


@given(st.text())
def test_one_spelling_is_final(value: str) -> None:
    assert canonical(canonical(value)) == canonical(value)


def test_long_identifiers_keep_all_their_digits() -> None:
    assert canonical("12345678901234567") == "12345678901234567"
