"""The site's checks of its own models, round by round, in the state folder: exact, for its people and the next round.

A file holds figures of single documents, but neither text nor identifier: a document is known by its row in the
table, and again by a hash of what is in it.
"""

import datetime
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_app import own_files
from client_app.asked import Round
from client_app.reasons.gates import Gate
from client_app.reasons.kept_json import parsed
from client_app.reasons.readable import readable_line
from fedfm.config.site import Site
from fedfm.examples import Example
from fedfm.metrics.performance import Estimate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """One check.

    Attributes:
        time: When, in UTC.
        study: Its name.
        run: Its name.
        round: Of the run.
        full: Whether parameters were drawn anew, too.
        counts: False in the study's first rounds, in which no gate counts.
        rows: N rows of the site's table, the documents.
        keys: N hashes of the documents.
        figures: Name to N numbers.
        gates: What the limits say.
        norms: Lengths of the updates of this run, oldest first, this round's last.
    """

    time: str
    study: str
    run: str
    round: int
    full: bool
    counts: bool
    rows: tuple[int, ...]
    keys: tuple[str, ...]
    figures: Mapping[str, tuple[float, ...]]
    gates: tuple[Gate, ...]
    norms: tuple[float, ...]


def keep(asked: Round, documents: Sequence[Example], figures: Mapping[str, NDArray[np.float64]], **of: Any) -> None:  # noqa: ANN401
    """Keep a check of this round, in the place of an earlier one of the same round.

    Args:
        asked: The request.
        documents: N of them.
        figures: Name to float64[N], finite.
        of: ``full``, ``counts``, ``gates`` and ``norms`` of ``Kept``.

    Raises:
        DataError: It cannot be written.
    """
    told = Kept(
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        study=asked.study.name,
        run=asked.request.run,
        round=asked.request.round,
        rows=tuple(example.row for example in documents),
        keys=keys_of(documents),
        figures={name: tuple(values.tolist()) for name, values in figures.items()},
        **of,
    )
    own_files.keep(_path(asked, asked.request.round), json.dumps(asdict(told), allow_nan=False).encode())


def last_before(asked: Round) -> Kept | None:
    """Return the check of the last round of this run that has one.

    A file that cannot be read is left out, and the log says so: the check begins anew, the training goes on.
    """
    for number in range(asked.request.round - 1, 0, -1):
        path = _path(asked, number)
        if path.exists():
            found = _read(path)
            if found is not None:
                return found
    return None


def kept_checks(site: Site) -> list[Kept]:
    """Return every check that is kept and can be read, of all runs, oldest first."""
    found = [_read(path) for path in Path(site.state).glob("check-*.json")]
    return sorted((one for one in found if one is not None), key=lambda one: (one.time, one.round))


def keys_of(documents: Sequence[Example]) -> tuple[str, ...]:
    """Return a hash of each document, by which the same one is known in another round."""
    told = ([one.patient, one.label, one.text, one.columns, one.row] for one in documents)
    return tuple(hashlib.sha256(json.dumps(one).encode()).hexdigest()[:16] for one in told)


def _path(asked: Round, number: int) -> Path:
    return asked.kept(f"check-{number}")


def _read(path: Path) -> Kept | None:
    try:
        told = _whole(parsed(path.read_text(encoding="utf-8"), FIELDS))
    except (OSError, ValueError):
        logger.warning(
            "%s cannot be read: this check is left out, and the next one is compared with an older one",
            readable_line(path.name),
        )
        return None
    figures = {name: tuple(map(float, values)) for name, values in told["figures"].items()}
    gates = tuple(_gate(**gate) for gate in told["gates"])
    lists = {"rows": tuple(told["rows"]), "keys": tuple(told["keys"]), "norms": tuple(map(float, told["norms"]))}
    return Kept(**{**told, **lists, "figures": figures, "gates": gates})


def _whole(told: dict[str, Any]) -> dict[str, Any]:
    if not {len(told["keys"]), *map(len, told["figures"].values())} <= {len(told["rows"])}:
        raise ValueError("not one of each for every document")
    return told


_ESTIMATE = {"value": float, "low": float, "high": float}
_GATE = {
    "name": str,
    "passed": (bool, NoneType),
    "estimate": (_ESTIMATE, NoneType),
    "limit": float,
    "reason": str,
}
FIELDS = {
    "time": str,
    "study": str,
    "run": str,
    "round": int,
    "full": bool,
    "counts": bool,
    "rows": [int],
    "keys": [str],
    "figures": {str: [float]},
    "gates": [_GATE],
    "norms": [float],
}
"""Each field of ``Kept`` as the file has it (``client_app.reasons.kept_json.is_of``)."""


def _gate(*, estimate: Mapping[str, float] | None, **rest: Any) -> Gate:  # noqa: ANN401
    return Gate(estimate=None if estimate is None else Estimate(**estimate), **rest)
