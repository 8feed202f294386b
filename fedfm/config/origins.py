"""Which line of which file a value stands in."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from fedfm.config.problems import Place, Problems


@dataclass(frozen=True)
class Source:
    """One YAML file and the places of its values.

    Attributes:
        name: The file as messages name it, for example ``conf/study.yaml``.
        prefix: Setting that the file fills; empty for the whole.
        places: Path of a value, or of an element (``task.columns.0.low``), to its place.
    """

    name: str
    prefix: str = ""
    places: dict[str, Place] = field(default_factory=dict)

    def place(self, path: str) -> Place | None:
        """Where the file says the value of a setting path, or None where it does not."""
        if not self.prefix:
            return self.places.get(path)
        return self.places.get(path.removeprefix(f"{self.prefix}.")) if path.startswith(f"{self.prefix}.") else None


def read_source(path: Path, name: str, problems: Problems, *, prefix: str = "") -> Source:
    """Find the line of every value of a YAML file; what YAML cannot read is added to the problems."""
    source = Source(name, prefix)
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        for inner, place in _walk(node, "", loader, name, problems):
            source.places[inner] = place
    except OSError as error:
        problems.add_at("E032", f"cannot read the file: {error.strerror}", str(path), fix="check its name and rights")
    except UnicodeDecodeError as error:
        problems.add_at(
            "E004", f"not UTF-8 at byte {error.start}", name, fix=f"iconv -f latin1 -t utf-8 {name} > new.yaml"
        )
    except yaml.YAMLError as error:
        _add_yaml_error(error, path, name, problems)
    return source


def _walk(
    node: yaml.Node | None, path: str, loader: yaml.SafeLoader, name: str, problems: Problems
) -> Iterator[tuple[str, Place]]:
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            inner = f"{path}.{number}" if path else str(number)
            yield inner, _place(item, item, name)
            yield from _walk(item, inner, loader, name, problems)
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, item in node.value:
            word = str(loader.construct_object(key, deep=True))
            inner = f"{path}.{word}" if path else word
            line = key.start_mark.line + 1
            if word in first:
                _add_twice(inner, (first[word], line), name, problems)
            first.setdefault(word, line)
            yield inner, _place(key, item, name)
            yield from _walk(item, inner, loader, name, problems)


def _add_twice(path: str, lines: tuple[int, int], name: str, problems: Problems) -> None:
    problems.add_at(
        "E006",
        f"`{path}` is given twice",
        f"{name}:{lines[1]} {path}",
        found=f"lines {lines[0]} and {lines[1]}",
        fix="keep one of them",
    )


def _place(at: yaml.Node, item: yaml.Node, name: str) -> Place:
    plain = isinstance(item, yaml.ScalarNode) and item.style is None
    key = at.value if isinstance(at, yaml.ScalarNode) and at is not item else None
    return Place(f"{name}:{at.start_mark.line + 1}", item.value if plain else None, key)


def _add_yaml_error(error: yaml.YAMLError, path: Path, name: str, problems: Problems) -> None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        problems.add_at("E004", f"not readable as YAML: {error}", name, fix="save the file as plain UTF-8 text")
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    where = f"{name}:{mark.line + 1}"
    if "\t" in line[: len(line) - len(line.lstrip())]:
        problems.add_at("E004", f"line {mark.line + 1} has a TAB", where, fix="YAML needs spaces: replace the TAB")
        return
    what = getattr(error, "problem", None) or "not readable as YAML"
    fix = "look at the indentation, colons, brackets and quotes of this line and the one above"
    problems.add_at("E004", f"not readable as YAML: {what}", where, fix=fix)
