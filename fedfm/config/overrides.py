"""What a person types after a command: ``model=minilm privacy.epsilon=3``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from fedfm.config.problems import Problems, did_you_mean


@dataclass(frozen=True)
class Change:
    """One override that can be read.

    Attributes:
        text: As it was typed.
        key: Group or setting path.
        written: The value as it was typed.
        hydra: The same for Hydra. A setting is forced in, so that an unknown key reaches
            the checks, which know what was meant, instead of ending in Hydra.
        paths: Setting paths that get a value from it; empty for the choice of an option.
    """

    text: str
    key: str
    written: str
    hydra: str
    paths: tuple[str, ...]


def read_overrides(texts: Sequence[str], groups: Mapping[str, Sequence[str]], problems: Problems) -> list[Change]:
    """Read every override that can be read; add a problem for each of the others.

    Args:
        texts: For example ``["model=minilm", "privacy.epsilon=3"]``; blank ones are left out.
        groups: Group to its options.
        problems: Where problems are added.
    """
    parser = OverridesParser.create()
    found = (_read(parser, text.strip(), groups, problems) for text in texts if text.strip())
    return [change for change in found if change]


def _read(parser: OverridesParser, text: str, groups: Mapping[str, Sequence[str]], problems: Problems) -> Change | None:
    key, has_value, written = text.partition("=")
    try:
        override = parser.parse_override(text)
    except HydraException:
        _add_unreadable(text, f"""write '{key}="{written}"'""" if has_value else f"write {key}=value", problems)
        return None
    if override.is_sweep_override():
        _add_unreadable(text, f"""one text: '{key}="{written}"'; a list: '{key}=[{written}]'""", problems)
        return None
    if override.is_delete() or override.package is not None or override.key_or_group.split(".")[0] == "hydra":
        what = "an override gives a setting a value, or chooses an option"
        fix = "leave it out, or write setting=value"
        problems.add_at("E033", what, f"override {text!r}", allowed="setting=value, group=option", fix=fix)
        return None
    key = override.key_or_group
    if key in groups:
        return _choice(override, text, groups, problems)
    if "/" in key:
        fix = did_you_mean(key, groups) or f"write {key.replace('/', '.')}={written}"
        problems.add_at("E034", f"unknown group {key!r}", f"override {text!r}", allowed=", ".join(groups), fix=fix)
        return None
    return Change(text, key, written, f"++{text.lstrip('+')}", tuple(_paths(key, override.value())))


def _add_unreadable(text: str, fix: str, problems: Problems) -> None:
    what = "this override cannot be read"
    problems.add_at("E033", what, f"override {text!r}", allowed="setting=value, group=option", fix=fix)


def _choice(override: Override, text: str, groups: Mapping[str, Sequence[str]], problems: Problems) -> Change | None:
    group, option = override.key_or_group, override.value()
    allowed = groups[group]
    if option not in allowed:
        fix = did_you_mean(str(option), allowed) or f"choose one, or set a value of it: {group}.setting=value"
        what = f"{group} has no option {str(option)!r}"
        problems.add_at("E034", what, f"override {text!r}", allowed=", ".join(allowed), fix=fix)
        return None
    return Change(text, group, str(option), f"{group}={option}", ())


def _paths(key: str, value: object) -> list[str]:
    """The setting paths that an override of ``key`` fills: itself, or all inside a map."""
    if not isinstance(value, dict) or not value:
        return [key]
    return [path for word, inner in value.items() for path in _paths(f"{key}.{word}", inner)]
