"""How a study is shown to the person who approves it: plain words, at most 100 columns, nothing of a patient."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from client_app.plain import plain
from client_app.study_card import Card, Change, Leaving, Spent
from client_app.study_words import words_of
from fedfm.config.study import Study

_WHAT = {
    "training": "the update: trained parameters, after minus before",
    "statistics": "sums of the inputs, to standardise by",
    "reweighting": "groups and labels, counted to weigh the examples",
    "alone": "a model trained here alone, to compare with",
    "evaluation": "test patients by label and score",
    "last_evaluation": "test patients by label and score, more precise",
    "groups": "test patients by group, label and score",
    "last_groups": "test patients by group, label and score, more precise",
    "alone_count": "test patients by label and score of the model trained alone",
    "loss": "sum of the losses, and how many",
    "audit_groups": "patients by group, label and predicted class",
    "group_losses": "losses by group, to weigh the examples",
    "explanation": "figures of the global model's reasons",
    "terms": "credits of the study's public vocabulary",
    "check": "figures of the reasons of this site's model",
}
"""Field of a plan to what it releases, in words."""

_LONGEST_VALUE = 60  # letters of a changed value that a person gets to see
_MOST_CHANGES = 60


def page(card: Card) -> Iterator[RenderableType]:
    """Yield the parts of the page, from what the study is for to why it would be refused."""
    yield _heading(f"Study {card.study.name}, asked of {card.site}")
    yield _pairs(_facts(card))
    yield _note(_NOT_THE_CODE)
    yield _heading("What it asks for, in plain words")
    yield _pairs(words_of(card.study))
    if card.leaving:
        yield _heading("What leaves this hospital, of whom, and its noise")
        yield _releases(card.leaving, card.study)
        yield _note(
            "Noise is in units of what one patient can change. Beside it leaves what is public: this site's id,"
        )
        yield _note("declared patients, names of groups, seconds, epsilon spent, length and seal of the ledger.")
    if card.spent:
        yield _heading(f"What one patient can lose: epsilon at delta {card.delta:.3g}")
        yield _epsilons(card.spent)
        yield _note("The study's figures hold when every round runs once. Each further run of it spends anew.")
        yield from map(_note, card.warnings)
    yield _heading("Settings that are not the defaults, or have none")
    yield _changed(card.differing, "default", "here")
    yield _note("Of long values the beginning is shown; --json has all.")
    yield _heading("What differs from the last approved study")
    yield from _difference(card)
    if card.refusals:
        yield _heading("The policy refuses this study")
        yield from (_note(plain(refusal)) for refusal in card.refusals)


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    study, model = card.study, card.study.model
    yield "purpose", plain(study.purpose) or "not stated"
    inputs = "text" if study.task.inputs == "text" else f"{len(study.task.columns)} columns"
    yield "predicts", f"{plain(' | '.join(study.task.labels))}, from {inputs}"
    yield "groups", plain(", ".join([*study.task.groups, *study.task.intersections])) or "none"
    yield "model", f"{model.backbone} from {model.source} {plain(model.location)}".rstrip()
    yield "trains", _training(study)
    yield "hides", _HIDES[study.privacy.unit] if study.privacy.mechanism != "none" else "NOTHING: there is no privacy"
    yield "sites", f"at least {study.min_sites}" + (f": {plain(', '.join(study.sites))}" if study.sites else "")
    yield "weights", model.sha256 or "no pinned weights"
    for name, told in (
        ("study", "study hash"),
        ("task", "task hash"),
        ("code", "code hash"),
        ("policy", "policy hash"),
    ):
        yield told, card.hashes[name]
    yield "wire version", f"{card.wire_version}, of fedfm {card.fedfm}"


_NOT_THE_CODE = (
    "What you approve is every setting of the study, under this wire version. It is not the code: release and code "
    "hash are noted with your decision, and told here the next time where they have changed. What binds the code is "
    "the image that you run, by its digest: docs/how-to/approve-a-study.md."
)


def _training(study: Study) -> str:
    rank = f" of rank {study.adapter.rank}" if "lora" in study.adapter.method or study.adapter.method == "dora" else ""
    return f"{study.adapter.method}{rank}, {study.rounds} rounds of {study.training.local_steps} steps"


_HIDES = {"patient": "whether a patient took part", "record": "whether a RECORD took part, not a patient with several"}


def _releases(leaving: Sequence[Leaving], study: Study) -> Table:
    table = _table("when", "what", "of whom", "noise")
    for one in leaving:
        what = _WHAT[one.release] + ("" if one.leaves else " (stays here)")
        per_step = " in each step" if one.release in ("training", "alone") else ""
        noise = f"{one.noise:.2f}{per_step}" if one.noise else "NONE"
        table.add_row(_when(one.rounds, study), what, f"{one.split} patients", noise)
    return table


def _when(rounds: Sequence[int], study: Study) -> str:
    if tuple(rounds) == (0,):
        return "before round 1"
    if min(rounds) > study.rounds or list(rounds) == [study.rounds]:
        return "at the end"
    if list(rounds) == list(range(1, study.rounds + 1)):
        return f"each of {study.rounds} rounds"
    return "rounds " + ", ".join(map(str, rounds)) if len(rounds) <= 4 else f"{len(rounds)} times"


def _epsilons(spent: Sequence[Spent]) -> Table:
    table = _table("one of the", "this study", "spent before", "after it", "cap", "then left", numbers=5)
    for one in spent:
        figures = (one.run, one.before, one.after)
        table.add_row(f"{one.split} patients", *map(_epsilon, figures), f"{one.cap:g}", f"{one.left:.3f}")
    return table


def _epsilon(value: float) -> str:
    return "NO LIMIT" if math.isinf(value) else f"{value:.3f}"


def _difference(card: Card) -> Iterator[RenderableType]:
    if card.last is None:
        yield _note("Nothing has been approved here before.")
        return
    yield _note(f"Compared with {card.last.name}, approved {card.last.time[:10]} by {card.last.by}.")
    if card.last.fedfm not in ("", card.fedfm):
        yield _note(f"fedfm here has changed since: {card.last.fedfm} -> {card.fedfm}")
    for name, old in (("code", card.last.code), ("policy", card.last.policy)):
        if old != card.hashes[name]:
            yield _note(f"The {name} here has changed since: {old[:12]} -> {card.hashes[name][:12]}")
    if not card.changes:
        yield _note("No setting differs.")
        return
    yield _changed(card.changes[:_MOST_CHANGES], "then", "now")
    if len(card.changes) > _MOST_CHANGES:
        yield _note(f"And {len(card.changes) - _MOST_CHANGES} more settings; --json has all.")


def _changed(found: Sequence[Change], old: str, new: str) -> Table:
    table = _table("setting", old, new)
    for change in found:
        table.add_row(plain(change.setting), _value(change.old), _value(change.new))
    return table


def _value(value: Any) -> str:  # noqa: ANN401 - what JSON holds
    if value is None:
        return "·"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return plain(text, most=_LONGEST_VALUE)


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _note(text: str) -> Padding:
    return Padding(Text(text), (0, 0, 0, 2))


def _pairs(pairs: Iterator[tuple[str, str]]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(f"  {name}"), Text(value))
    return Group(table)


def _table(*columns: str, numbers: int = 0) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for place, name in enumerate(columns):
        is_number = place >= len(columns) - numbers
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    return table
