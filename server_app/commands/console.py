"""How every command of ``fedfm-study`` speaks of errors."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from fedfm.errors import EngineError, FedFMError


@contextmanager
def friendly() -> Iterator[None]:
    """Show an error of ours as text: exit 1 where a run failed, 2 where it could not begin."""
    try:
        yield
    except EngineError as problem:
        complain(problem)
        raise typer.Exit(1) from problem
    except FedFMError as problem:
        complain(problem)
        raise typer.Exit(2) from problem


def complain(problem: FedFMError) -> None:
    """Print an error on stderr, its parts on lines of their own."""
    Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True).print(str(problem).replace(" — ", "\n  "))
