"""Each line of Algorithm 1 that does something is cited once, and a reader meets the lines in order."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER, CLIENT = ROOT / "server_app" / "strategy.py", ROOT / "client_app" / "rounds.py"
LINES_OF_THE_SERVER = [3, 4, 5, 6, 12, 13, 15]
LINES_OF_THE_SITE = [7, 8, 9, 10]  # 1 and 2 are inputs; 11 and 14 end loops

CITATION = re.compile(r"# Algorithm 1, line (\d+)\b")


def cited(file: Path) -> list[int]:
    return [int(line) for line in CITATION.findall(file.read_text())]


def test_the_two_halves_cite_each_line_once() -> None:
    assert sorted(cited(SERVER)) == LINES_OF_THE_SERVER
    assert cited(CLIENT) == LINES_OF_THE_SITE


@pytest.mark.parametrize(
    "order",
    [[3, 4, 15], [5, 6], [12], [13]],
    ids=["the run", "asking", "combining", "evaluating"],
)
def test_lines_of_one_function_stand_in_order(order: list[int]) -> None:
    functions = re.split(r"\n    def ", SERVER.read_text())
    assert order in [[int(line) for line in CITATION.findall(body)] for body in functions]


def test_no_other_module_claims_a_line_in_a_comment() -> None:
    files = [file for part in ("fedfm", "server_app", "client_app") for file in (ROOT / part).rglob("*.py")]
    assert {file for file in files if cited(file)} == {SERVER, CLIENT}
