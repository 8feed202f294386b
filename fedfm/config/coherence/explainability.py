"""Lists of words that reasons are held against, and settings that ask for what nobody would look at."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

from fedfm.config.problems import Problems, did_you_mean, shown
from fedfm.config.study import Study

MOST_LISTS = 50
"""Most lists of shortcuts, or of swaps: each is two more sums that leave a hospital."""

MOST_PHRASES = 100
"""Most phrases of a list."""

MOST_VOCABULARY = 5000
"""Most terms whose credit is released."""

LONGEST = 80
"""Longest phrase or term, in characters."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def check_explainability(study: Study, problems: Problems) -> None:
    """Add what keeps the reasons of a study's models from being held against what it names."""
    asked = study.explainability
    if asked.attribution == "none":
        _nothing_asked(study, problems)
        return
    columns = [column.name for column in study.task.columns] if study.task.inputs == "columns" else None
    check_lists(asked.shortcuts, asked.swaps, problems, path="explainability", columns=columns)
    _vocabulary(asked.vocabulary, problems, columns=columns)
    _reference(study, problems)


def check_lists(
    shortcuts: Mapping[str, Sequence[str]],
    swaps: Mapping[str, Mapping[str, str]],
    problems: Problems,
    *,
    path: str,
    columns: Collection[str] | None,
) -> None:
    """Add the lists of a study, or of a site, that cannot be looked for.

    Args:
        shortcuts: Name to phrases or columns.
        swaps: Name to what is exchanged for what.
        problems: Where problems are added.
        path: Setting path that both are under.
        columns: Names that may be given where inputs are columns; None where they are text.
    """
    for name, lists in (("shortcuts", shortcuts), ("swaps", swaps)):
        _names(lists, problems, path=f"{path}.{name}")
        for key, phrases in islice(lists.items(), MOST_LISTS):
            _phrases(list(phrases), problems, path=f"{path}.{name}.{key}", columns=columns)
    for key, exchanged in islice(swaps.items(), MOST_LISTS):
        _alternatives(exchanged, problems, path=f"{path}.swaps.{key}", has_columns=columns is not None)


def _names(lists: Collection[str], problems: Problems, *, path: str) -> None:
    if len(lists) > MOST_LISTS:
        problems.add("E030", "too many lists", path=path, found=str(len(lists)), allowed=f"at most {MOST_LISTS}")
    for name in lists:
        if not _NAME.fullmatch(name):
            allowed = "a short plain name: small letters, digits, - and _, a letter first"
            problems.add("E007", "no name for a list", path=path, found=shown(name), allowed=allowed)


def _phrases(phrases: Sequence[str], problems: Problems, *, path: str, columns: Collection[str] | None) -> None:
    if not 1 <= len(phrases) <= MOST_PHRASES:
        allowed = f"1 to {MOST_PHRASES} phrases"
        problems.add("E030", "a list of another length", path=path, found=str(len(phrases)), allowed=allowed)
        return
    _terms(phrases, problems, path=path, columns=columns)


def _terms(phrases: Sequence[str], problems: Problems, *, path: str, columns: Collection[str] | None) -> None:
    """Add the first phrase that could not be found in any text, and the first column that the task does not have."""
    wrong = next((phrase for phrase in phrases if not phrase.strip() or len(phrase) > LONGEST), None)
    if wrong is not None:
        problems.add(
            "E007",
            "a phrase of no use",
            path=path,
            found=f"{len(wrong)} characters" if wrong.strip() else "an empty one",
            allowed=f"a word or more, at most {LONGEST} characters",
        )
        return
    phrase = None if columns is None else next((phrase for phrase in phrases if phrase not in columns), None)
    if phrase is not None and columns is not None:
        fix, allowed = did_you_mean(phrase, columns) or "name a column", ", ".join(columns)[:200]
        problems.add("E030", "no such column", path=path, found=shown(phrase), allowed=allowed, fix=fix)


def _alternatives(exchanged: Mapping[str, str], problems: Problems, *, path: str, has_columns: bool) -> None:
    for phrase, other in exchanged.items():
        if has_columns and other:
            what = "a column is mirrored in its range, so that nothing stands beside it"
            problems.add("E030", what, path=path, found=shown(other), fix='write {column: ""}')
        elif len(other) > LONGEST or (other and not other.strip()):
            allowed = f"nothing, or a word or more, at most {LONGEST} characters"
            problems.add("E007", "an alternative of no use", path=path, found=shown(other), allowed=allowed)
        elif phrase.casefold() == other.casefold():
            fix = "write what stands in its place"
            problems.add("E030", "a phrase is exchanged for itself", path=path, found=shown(phrase), fix=fix)


def _vocabulary(terms: Sequence[str], problems: Problems, *, columns: Collection[str] | None) -> None:
    path = "explainability.vocabulary"
    if len(terms) > MOST_VOCABULARY:
        problems.add("E030", "too many terms", path=path, found=str(len(terms)), allowed=f"at most {MOST_VOCABULARY}")
        return
    _terms(terms, problems, path=path, columns=columns)
    for term in _twice(terms):
        fix = "capital letters make no other term; leave one out"
        problems.add("E030", "a term is given twice", path=path, found=shown(term), fix=fix)


def _twice(terms: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for term in terms:
        folded = " ".join(term.casefold().split())
        if folded in seen:
            yield term
        seen.add(folded)


def _reference(study: Study, problems: Problems) -> None:
    asked = study.explainability
    if asked.action == "stop" and not asked.reference:
        what = "the run can only end over lost reasons that the coordinator sees, and it sees them on public examples"
        fix = "set explainability.reference=/path/of/the/file.csv, or action=report"
        problems.add("E030", what, path="explainability.action", found="no reference", fix=fix)
    if asked.reference and study.standardize.method == "site":
        what = "the coordinator cannot explain a model whose inputs each site standardises by itself"
        fix = "choose standardize=global, or leave the reference out"
        problems.add("E030", what, path="explainability.reference", found="standardize=site", fix=fix)


def _nothing_asked(study: Study, problems: Problems) -> None:
    """Add what promises an answer with attribution = none, and would give none.

    Lists may stay: they say what a study would watch, and explanations may be turned off from the command line.
    """
    asked = study.explainability
    if asked.reference:
        what = "attribution = none looks at no reasons, so that no public example would be looked at"
        fix = "choose explainability=integrated_gradients, or leave it out"
        problems.add("E030", what, path="explainability.reference", found=shown(asked.reference), fix=fix)
    if asked.action == "stop":
        what, fix = "attribution = none looks at no reasons, so that none can be lost", "leave action=report"
        problems.add("E030", what, path="explainability.action", found="stop", fix=fix)
