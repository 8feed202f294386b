"""What the parameters of selection rules may be."""

from collections.abc import Mapping

from fedfm.config.coherence.parameters import Number, check_parameters
from fedfm.config.problems import Problems
from fedfm.config.study import Study

_SHARE = Number(0, 1, above=True)

SELECTION: Mapping[str, Mapping[str, Number]] = {
    "all": {},
    "fraction": {"fraction": _SHARE},
    "power_of_choice": {"fraction": _SHARE, "candidates": Number(1, 10_000, is_whole=True)},
    "budget_aware": {"fraction": _SHARE, "longest_rest": Number(1, 1000, is_whole=True)},
}
"""Selection rule to its parameters; all must be written. The names are those of ``server_app.selection``."""


def check_selection(study: Study, problems: Problems) -> None:
    """Add what is wrong with the parameters of the study's selection."""
    if study.selection.rule in SELECTION:  # others are named by check_rules
        check_parameters(study.selection.params, SELECTION[study.selection.rule], "selection.params", problems)
