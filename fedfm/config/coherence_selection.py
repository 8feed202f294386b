"""Parameters of the selection rules and their ranges."""

from fedfm.config.problems import Problems, shown
from fedfm.config.study import Study

_RANGES: dict[str, dict[str, tuple[type, float, float]]] = {
    "fraction": {"fraction": (float, 0.0, 1.0)},
    "power_of_choice": {"fraction": (float, 0.0, 1.0), "candidates": (int, 1, 10_000)},
    "budget_aware": {"fraction": (float, 0.0, 1.0), "longest_rest": (int, 1, 1000)},
}
"""Rule to parameter to kind, lower and upper end; a share lies above its lower end, a whole number also at it."""


def check_selection(study: Study, problems: Problems) -> None:
    """Add parameters of the study's selection that are outside their range."""
    for name, (kind, low, high) in _RANGES.get(study.selection.rule, {}).items():
        value = study.selection.params.get(name)
        if value is not None and not _is_within(value, kind, low, high):
            allowed = f"above {low:g}, at most {high:g}" if kind is float else f"a whole number, {low:g} to {high:g}"
            path = f"selection.params.{name}"
            problems.add("E008", "is outside its range", path=path, found=shown(value), allowed=allowed)


def _is_within(value: object, kind: type, low: float, high: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if kind is int:
        return isinstance(value, int) and low <= value <= high
    return low < value <= high
