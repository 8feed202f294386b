"""Which columns of its table a site file names, and in which setting."""

from collections.abc import Iterator

from client_app.data.template import parse
from fedfm.config.site import Data


def columns_named(data: Data) -> Iterator[tuple[str, str]]:
    """Yield each setting that names a column of the table, and the column."""
    for setting in ("patient", "label"):
        yield f"data.{setting}", getattr(data, setting)
    yield from columns_read(data)
    yield from ((f"data.groups.{attribute}.column", group.column) for attribute, group in data.groups.items())
    if data.split.column:
        yield "data.split.column", data.split.column


def columns_read(data: Data) -> Iterator[tuple[str, str]]:
    """Yield each setting that names a column which a model reads, and the column."""
    if data.loader == "text":
        yield "data.text", data.text
    if data.loader == "template":
        names = {name for clause in parse(data.template) for name in clause.columns}
        yield from (("data.template", name) for name in sorted(names))
    if data.loader == "columns":
        yield from ((f"data.columns.{wanted}", name) for wanted, name in data.columns.items())
