"""How the federated model, the site's own and the one trained alone do here: exact figures, for this site's people.

They are made of test patients without noise, kept in the state folder, and never part of an answer.
"""

import datetime
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from client_app import own_files
from client_app.asked import Round
from client_app.baseline import kept_alone, load_alone
from client_app.personal import kept_personal
from client_app.plain import plain
from client_app.rounds import load_received
from client_app.scores import logits_of, owners_of, positive_of, probabilities_of
from fedfm.config.site import Site
from fedfm.errors import DataError
from fedfm.parameters import load_trainable
from fedfm.schedule import closing_round

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """How one model does on the site's test patients.

    Attributes:
        model: ``federated``, ``personal`` or ``alone``.
        accuracy: Share of right answers, each patient counting 1; None without a test patient.
        auroc: Chance that a positive scores above a negative, ties half; None but for two classes that both occur.
    """

    model: str
    accuracy: float | None
    auroc: float | None


@dataclass(frozen=True)
class Compared:
    """The models of one run.

    Attributes:
        time: When, in UTC.
        study: Its name.
        run: Its name.
        patients: Test patients.
        models: Their figures.
    """

    time: str
    study: str
    run: str
    patients: int
    models: tuple[Figures, ...]


def keep_figures(asked: Round) -> None:
    """Compare the models of this run on the site's test patients after its closing evaluation; keep the figures here.

    Guarantees:
        The model's parameters are afterwards those that the request brought.

    Raises:
        FedFMError: A kept model cannot be read, or the figures cannot be kept.
    """
    study, model = asked.study, asked.prepared.model
    if asked.request.round != closing_round(study) or (study.personal.method, study.baseline.method) == ("none",) * 2:
        return
    figures = [replace(_figures(asked), model="federated")]
    personal, alone = kept_personal(asked), kept_alone(asked)
    if personal is not None:
        load_trainable(model, personal)
        figures.append(replace(_figures(asked), model="personal"))
    if alone is not None:
        load_alone(asked.prepared, alone)
        figures.append(replace(_figures(asked), model="alone"))
    load_received(asked)
    told = Compared(
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        study=study.name,
        run=asked.request.run,
        patients=len({example.patient for example in asked.prepared.splits.test}),
        models=tuple(figures),
    )
    own_files.keep(asked.kept("comparison"), json.dumps(asdict(told), allow_nan=False).encode())


def kept_figures(site: Site) -> list[Compared]:
    """Return what is kept of all runs, oldest first.

    Raises:
        DataError: A file of it is damaged.
    """
    return sorted((_read(path) for path in Path(site.state).glob("comparison-*.json")), key=lambda told: told.time)


def as_json(site: Site, told: Sequence[Compared]) -> dict[str, Any]:
    """Return all of it for machines."""
    return {"site": site.id, "runs": [asdict(one) for one in told]}


def tables(told: Sequence[Compared]) -> Iterator[Table]:
    """Yield one table for each run."""
    for one in told:
        # as plain Text: the coordinator chose these names, and may not style this screen
        title = Text(f"{plain(one.run)} ({one.study}): {one.patients} test patients, {one.time[:10]}")
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in ("model", "accuracy", "AUROC"):
            table.add_column(name, justify="left" if name == "model" else "right")
        for figures in one.models:
            table.add_row(figures.model, _text(figures.accuracy), _text(figures.auroc))
        yield table


def auroc(scores: Floats, positives: NDArray[np.bool_], shares: Floats) -> float | None:
    """Return the area under the ROC curve from all pairs, ties half; None where one class is absent.

    Args:
        scores: float64[N].
        positives: bool[N].
        shares: float64[N], how much each example counts; > 0.
    """
    levels, level = np.unique(scores, return_inverse=True)
    of_positives, of_negatives = (
        np.bincount(level, weights=shares * chosen, minlength=len(levels)) for chosen in (positives, ~positives)
    )
    below = np.cumsum(of_negatives) - of_negatives
    pairs = of_positives.sum() * of_negatives.sum()
    return float((of_positives * (below + of_negatives / 2)).sum() / pairs) if pairs > 0 else None


def _figures(asked: Round) -> Figures:
    """Return the figures of the model as it is loaded."""
    study, prepared = asked.study, asked.prepared
    examples, classes = prepared.splits.test, len(study.task.labels)
    if not examples:
        return Figures("", None, None)
    found = probabilities_of(logits_of(prepared.model, prepared.test, prepared.micro_batch, classes))
    labels, positive = prepared.test.labels.numpy(), positive_of(study)
    owners = owners_of(examples, by_record=study.privacy.unit == "record")
    notes = Counter(owners)
    shares = np.array([1 / notes[owner] for owner in owners])
    if classes > 2:
        return Figures("", float(np.average(found.argmax(axis=1) == labels, weights=shares)), None)
    scores, positives = found[:, positive], labels == positive
    right = (scores >= 0.5) == positives
    return Figures("", float(np.average(right, weights=shares)), auroc(scores, positives, shares))


def _read(path: Path) -> Compared:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Compared(**{**told, "models": tuple(Figures(**figures) for figures in told["models"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            "SITE-E164",
            "kept figures cannot be read",
            where=path.name,
            fix="remove the file; the next run writes figures of its own",
        ) from error


def _text(figure: float | None) -> str:
    return "·" if figure is None else f"{figure:.3f}"
