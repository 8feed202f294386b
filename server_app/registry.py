"""From the name of a rule and its parameters to a function; a misfit is found before round 1."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import ParamSpec, TypeVar

from fedfm.config.study import Rule
from fedfm.errors import ConfigError

_P = ParamSpec("_P")
_R = TypeVar("_R")


def bind(registry: Mapping[str, Callable[_P, _R]], rule: Rule, *, group: str) -> Callable[_P, _R]:
    """Return the function that ``rule`` names, with its parameters filled in.

    A rule's parameters are its keyword-only arguments; those without a default must be set.

    Args:
        registry: Name to function; the names are the files of ``conf/<group>/``.
        rule: Name and parameters, from the study.
        group: Setting that holds the rule, for messages, for example ``weighting``.

    Raises:
        ConfigError: No such rule, or parameters that are not the rule's.
    """
    if rule.rule not in registry:
        near = difflib.get_close_matches(rule.rule, registry, n=1)
        raise ConfigError(
            "STUDY-E070",
            f"no {group} rule of this name",
            where=f"{group}.rule",
            found=rule.rule,
            allowed=", ".join(sorted(registry)),
            fix=f"did you mean {near[0]}?" if near else "",
        )
    function = registry[rule.rule]
    known = {
        name: argument
        for name, argument in inspect.signature(function).parameters.items()
        if argument.kind is inspect.Parameter.KEYWORD_ONLY
    }
    missing = {name for name, argument in known.items() if argument.default is inspect.Parameter.empty}
    missing -= set(rule.params)
    unknown = set(rule.params) - set(known)
    if missing or unknown:
        raise ConfigError(
            "STUDY-E071",
            f"the parameters do not fit the {group} rule {rule.rule}",
            where=f"{group}.params",
            found=f"missing: {_listed(missing)}; unknown: {_listed(unknown)}",
            allowed=_listed(set(known)),
        )
    return partial(function, **rule.params)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
