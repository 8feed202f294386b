"""What `fedfm-study config` prints: the resolved study, and where each value comes from. `explain`: one setting."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from fedfm.config.checks import bounds
from fedfm.config.compose import Composed, compose_study
from fedfm.config.problems import did_you_mean
from fedfm.config.settings import REQUIRED, Setting, settings_of
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import ConfigError


def show(overrides: Sequence[str], as_json: bool, *, console: Console | None = None) -> None:
    """Print the study that ``conf/`` and the overrides make.

    Args:
        overrides: For example ``["model=minilm", "privacy.epsilon=3"]``.
        as_json: One JSON object for machines, in place of tables for people.
        console: Where to print; the terminal where None.

    Raises:
        ConfigErrors: Every problem of the study at once.
    """
    composed = compose_study(overrides)
    console = console or Console()
    if as_json:
        console.print_json(json.dumps(as_machine_form(composed)))
    else:
        console.print(Group(_choices(composed), _settings(composed)))


def explain(setting: str, *, console: Console | None = None) -> None:
    """Print what one setting of a study or a site means, its unit, range and default.

    Args:
        setting: For example ``privacy.epsilon`` or ``policy.max_epsilon``.
        console: Where to print; the terminal where None.

    Raises:
        ConfigError: There is no such setting.
    """
    known = {entry.path: entry for schema in (Study, Site) for entry in settings_of(schema)}
    if setting not in known:
        fix = did_you_mean(setting, known) or "fedfm-study settings lists them all"
        raise ConfigError("STUDY-E001", f"no setting {setting!r}", fix=fix)
    entry = known[setting]
    default = "none; it must be set" if entry.default == REQUIRED else _plain(entry.default)
    lines = {
        "meaning": entry.rule["meaning"],
        "unit": entry.rule["unit"],
        "allowed": allowed(entry),
        "default": default,
    }
    table = Table(title=setting, show_header=False, title_justify="left")
    for name, text in lines.items():
        if text:
            table.add_row(name, Text(text))
    (console or Console()).print(table)


def as_machine_form(composed: Composed) -> dict[str, Any]:
    """The study, the options chosen, and for each setting its value, unit, meaning and origin."""
    values = _values(composed.value)
    settings = [
        {
            "setting": entry.path,
            "value": values[entry.path],
            "unit": entry.rule["unit"],
            "meaning": entry.rule["meaning"],
            "origin": composed.origins[entry.path],
        }
        for entry in settings_of(Study)
        if entry.path in values
    ]
    return {"study": asdict(composed.value), "choices": composed.choices, "settings": settings}


def allowed(entry: Setting) -> str:
    """What may stand in a setting, in words; empty where anything of its type may."""
    rule = entry.rule
    if rule["choices"]:
        return ", ".join(rule["choices"])
    if rule["pattern"]:
        return f"text like {rule['pattern']}"
    return bounds(rule["low"], rule["high"], rule["above"])


def _choices(composed: Composed) -> Table:
    table = Table(title="options chosen (group=option)", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("group")
    table.add_column("option")
    for group, option in sorted(composed.choices.items()):
        table.add_row(group, Text(option))
    return table


def _settings(composed: Composed) -> Table:
    values = _values(composed.value)
    table = Table(title="settings (setting=value)", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("setting", no_wrap=True)
    for name in ("value", "unit", "from"):
        table.add_column(name, overflow="fold")
    section = ""
    for entry in settings_of(Study):
        if entry.path in values:
            owner = entry.path.rpartition(".")[0]
            if owner != section:
                table.add_section()
                section = owner
            table.add_row(
                entry.path, Text(_plain(values[entry.path])), entry.rule["unit"], Text(composed.origins[entry.path])
            )
    return table


def _values(study: Study) -> dict[str, Any]:
    """Setting path to value, for every setting that is not inside a list or map."""
    values: dict[str, Any] = {}
    for entry in settings_of(Study):
        if "[]" not in entry.path:
            value: Any = asdict(study)
            for name in entry.path.split("."):
                value = value[name]
            values[entry.path] = value
    return values


def _plain(value: object) -> str:
    if value is None or value in ("", [], {}):
        return "(empty)"
    if isinstance(value, list):
        words = [item["name"] if isinstance(item, dict) else str(item) for item in value]
        more = f" and {len(words) - 12} more" if len(words) > 12 else ""
        return ", ".join(words[:12]) + more
    if isinstance(value, dict):
        return ", ".join(f"{name}: {inner}" for name, inner in value.items())
    return str(value)
