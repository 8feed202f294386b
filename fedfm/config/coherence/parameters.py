"""What the parameters of a rule may be."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedfm.config.problems import Problems, did_you_mean, shown


@dataclass(frozen=True)
class Number:
    """A parameter that is a finite number from ``low`` to ``high``; where it is above or below, the end is not in."""

    low: float
    high: float
    above: bool = False
    below: bool = False
    is_whole: bool = False

    def allowed(self) -> str:
        """Return the range in words."""
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        return f"a {'whole ' * self.is_whole}number {low}, {'below' if self.below else 'at most'} {self.high:g}"

    def holds(self, value: float) -> bool:
        """Whether a number is in the range; not-a-number is not."""
        is_low = value > self.low if self.above else value >= self.low
        return is_low and (value < self.high if self.below else value <= self.high)


@dataclass(frozen=True)
class Word:
    """A parameter that is one of these words; any text where there are none."""

    words: tuple[str, ...] = ()


def check_parameters(
    params: Mapping[str, object],
    known: Mapping[str, Number] | Mapping[str, Number | Word],
    path: str,
    problems: Problems,
) -> None:
    """Add the parameters that are missing, unknown, of another type, or outside their range."""
    for name in (name for name in params if name not in known):
        fix = did_you_mean(name, known) or "leave it out, or choose the rule by its file: group=rule"
        allowed = ", ".join(known) or "none: the rule has no parameters"
        problems.add("E001", f"unknown parameter {name[:80]!a}", path=path, allowed=allowed, fix=fix)
    for name, kind in known.items():
        if name not in params:
            problems.add("E002", f"`{path}.{name}` is required", path=path, fix=f"add `{name}:`")
        elif isinstance(kind, Word):
            _word(params[name], kind, f"{path}.{name}", problems)
        else:
            _number(params[name], kind, f"{path}.{name}", problems)


def _number(value: object, kind: Number, path: str, problems: Problems) -> None:
    kinds = int if kind.is_whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        what = f"must be a {'whole ' * kind.is_whole}number"
        problems.add("E003", what, path=path, found=shown(value), allowed=kind.allowed())
    elif not kind.holds(value):
        problems.add("E008", "is outside its range", path=path, found=shown(value), allowed=kind.allowed())


def _word(value: object, kind: Word, path: str, problems: Problems) -> None:
    if not isinstance(value, str):
        problems.add("E003", "must be text", path=path, found=shown(value), allowed=", ".join(kind.words) or "text")
    elif kind.words and value not in kind.words:
        fix = did_you_mean(value, kind.words)
        allowed = ", ".join(kind.words)
        problems.add("E009", "is none of the allowed words", path=path, found=shown(value), allowed=allowed, fix=fix)
