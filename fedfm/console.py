"""What commands of both sides print: lines as they are, JSON for machines, a doctor's examination."""

import json
import sys
from typing import Any

from rich.console import Console

from fedfm.findings import Examination, as_json, renderables


def say(text: str) -> None:
    """Print one line as it is: no markup, no colours, no line breaks of our own."""
    Console(highlight=False, markup=False, emoji=False, soft_wrap=True).print(text)


def print_json(told: dict[str, Any]) -> None:
    """Print one JSON object on a line of its own; no NaN."""
    sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")


def print_examination(examination: Examination, *, machine: bool) -> None:
    """Print an examination: one JSON object for a machine, else tables and the verdict."""
    if machine:
        print_json(as_json(examination))
        return
    for each in renderables(examination):
        Console(highlight=False, markup=False, emoji=False).print(each)
