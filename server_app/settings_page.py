"""The reference of every setting of a study and a site, made from their schemas: ``docs/settings.md``."""

import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from fedfm.config.settings import REQUIRED, Setting, settings_of
from fedfm.config.site import Site
from fedfm.config.study import Study
from server_app.config_command import allowed

_INTRO = """# Settings

Made by `fedfm-study settings --markdown` from the schemas in `fedfm/config/`; a test holds this page against them.

`required` means that somebody must write a value; for the groups of a study, the files of `conf/` do. `[]` stands for
each entry of a list or map. Put text in quotes where YAML would read it as something else (`"no"`, `"1e3"`).
"""

_STUDY = """## Study

Owned by the coordinator: `conf/study.yaml` and one folder of `conf/` for each group. `fedfm-study config` shows what
they make together and where each value comes from. On the command line, `group=option` takes a file of the group, and
`setting=value` changes one value.
"""

_SITE = """## Site

Owned by the hospital: one `site.yaml`, to be begun from `conf/site/example.yaml` and checked with `fedfm-site check`.
Nothing of it enters a study. What `policy` says, no study can exceed; it may stand in a `policy.yaml` of its own beside
`site.yaml` (`conf/site/policy.yaml`), without the word `policy`, and then in no other place.
"""

_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any value"}
_MANY = {str: "texts", int: "whole numbers", float: "numbers"}


def settings_page() -> str:
    """Return the page as Markdown: for each setting its type, default, unit, allowed values and meaning."""
    parts = [_INTRO, _STUDY, *_tables(Study), _SITE, *_tables(Site)]
    return "\n".join(parts)


def _tables(schema: type[Any]) -> Iterator[str]:
    """One table for what stands at the top of the file, then one for each map below it."""
    sections: dict[str, list[Setting]] = {}
    for entry in settings_of(schema):
        sections.setdefault(entry.path.partition(".")[0] if "." in entry.path else "", []).append(entry)
    meanings = {entry.name: entry.metadata["meaning"] for entry in fields(schema)}
    inner = {name for name, kind in get_type_hints(schema).items() if is_dataclass(kind)}
    for section in sorted(sections, key=lambda name: name != ""):
        heading = f"### {section}: {meanings[section]}\n" if section in inner else "### At the top of the file\n"
        header = "| Setting | Type | Default | Unit | Allowed | Meaning |\n|---|---|---|---|---|---|"
        yield "\n".join([heading, header, *map(_row, sections[section]), ""])


def _row(entry: Setting) -> str:
    cells = (
        f"`{entry.path}`",
        type_in_words(entry.kind),
        _default(entry.default),
        entry.rule["unit"],
        f"text like `{entry.rule['pattern']}`" if entry.rule["pattern"] else allowed(entry),
        entry.rule["meaning"],
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def type_in_words(kind: Any) -> str:  # noqa: ANN401 - a type, or what typing makes of several
    """Return, for example, ``number or empty`` for ``float | None``, ``list of texts`` for ``list[str]``."""
    arguments = get_args(kind)
    if get_origin(kind) is types.UnionType:
        return " or ".join("empty" if part is types.NoneType else type_in_words(part) for part in arguments)
    if get_origin(kind) is list:
        return f"list of {_MANY.get(arguments[0], 'maps')}"
    if get_origin(kind) is dict:
        return f"map to {_WORDS.get(arguments[1], 'maps')}"
    return _WORDS[kind]


def _default(value: object) -> str:
    if value == REQUIRED:
        return "required"
    if value is None or value in ("", [], {}):
        return "empty"
    if isinstance(value, list):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{str(value).lower() if isinstance(value, bool) else f'{value:g}' if isinstance(value, float) else value}`"
