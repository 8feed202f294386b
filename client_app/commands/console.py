"""How every command of ``fedfm-site`` speaks: arguments, lines, JSON, pages, errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fedfm.errors import DataError, FedFMError
from fedfm.findings import without_controls
from fedfm.private_files import replace_private

SiteFile = Annotated[Path, typer.Argument(help="The hospital's site.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


def write_page(path: Path, text: str) -> None:
    """Write a page whole, readable by its owner alone.

    Raises:
        DataError: It cannot be written.
    """
    try:
        replace_private(path, text.encode("utf-8"))
    except OSError as error:
        raise DataError(
            "SITE-E174",
            "the page cannot be written",
            where=str(path),
            found=error.strerror or type(error).__name__,
            fix="name a file in a folder that is there and that this user may write",
        ) from error


@contextmanager
def friendly() -> Iterator[None]:
    """Turn a ``FedFMError`` into its text and exit code 2."""
    try:
        yield
    except FedFMError as error:
        complain(error)
        raise typer.Exit(2) from None


def complain(*errors: FedFMError) -> None:
    """Print errors on stderr, each with its parts on lines of their own; nothing in them acts on the terminal."""
    console = Console(stderr=True, style="red", highlight=False, markup=False, soft_wrap=True)
    for error in errors:
        console.print(without_controls(str(error)).replace(" — ", "\n  "))
