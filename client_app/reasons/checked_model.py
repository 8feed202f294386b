"""The model whose reasons a site has last checked, in its state folder: so that its people can look at them later.

It is what the site sends, or would have sent: trained here, under the study's noise where it has any. One file for each
run, written whole: a line of JSON that says what it is, and the arrays after it.
"""

import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from client_app import own_files
from client_app.asked import Round
from client_app.reasons.kept_json import parsed
from client_app.reasons.readable import readable_line
from fedfm.arrays import Arrays, check_layout, from_bytes, to_bytes
from fedfm.config.compose import study_from_json
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import ConfigError, DataError, WireError
from fedfm.low_rank import FROZEN
from fedfm.model.build import model_of
from fedfm.model.classifier import Classifier
from fedfm.model.low_rank import frozen_as_built, frozen_with, set_frozen
from fedfm.parameters import load_trainable, trainable

_PARAMETERS, _FROZEN, _STATISTICS = "parameters/", "frozen/", "statistics/"
FIELDS = {"time": str, "run": str, "round": int, "study": str, "sha256": str}


@dataclass(frozen=True)
class CheckedModel:
    """One model.

    Attributes:
        time: When it was checked, in UTC.
        run: Its run's name; the coordinator chose it.
        round: Of the run.
        study: What it was trained by.
        parameters: What was trained, by public name.
        frozen: What the study's combiner had sent beside it.
        statistics: What its inputs are standardised by.
    """

    time: str
    run: str
    round: int
    study: Study
    parameters: Arrays
    frozen: Arrays
    statistics: Arrays


def keep(asked: Round) -> None:
    """Keep the model that is loaded, in the place of that of an earlier round of the run.

    Raises:
        DataError: It cannot be written.
    """
    told = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": asked.request.run,
        "round": asked.request.round,
        "study": asked.request.study,
    }
    model = asked.prepared.model
    arrays = {
        **_begun(_PARAMETERS, trainable(model)),
        **_begun(_FROZEN, asked.request.frozen),
        **_begun(_STATISTICS, model.standard.arrays()),
    }
    data = to_bytes(arrays)
    told["sha256"] = hashlib.sha256(data).hexdigest()
    own_files.keep(asked.kept("checked", ".model"), json.dumps(told).encode() + b"\n" + data)


def last(site: Site) -> CheckedModel:
    """Return the model that was checked last, of any run.

    Raises:
        DataError: There is none, or its file is damaged.
    """
    found = list(Path(site.state).glob("checked-*.model"))
    if not found:
        raise DataError(
            "SITE-E170",
            "no model is kept here yet whose reasons could be shown",
            where=f"state of {site.id}",
            fix="take part in a round of a study with explainability.attribution other than none; or name the folder "
            "of a run's adapter with --adapter",
        )
    return _read(max(found, key=_changed))


def _changed(path: Path) -> int:
    """Return when a file was changed; before all others where that cannot be told, as of one that has just gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def built(kept: CheckedModel, site: Site) -> Classifier:
    """Return the model as it was checked, on the CPU.

    Raises:
        ModelError: The weights below it cannot be had.
        WireError: The arrays do not fit the study.
    """
    study = kept.study
    model = model_of(study, weights=site.weights)
    check_layout(kept.parameters, like=trainable(model))
    frozen = frozen_as_built(model, FROZEN.get(study.combining.rule, ""))
    load_trainable(model, kept.parameters)
    set_frozen(model, frozen_with(model, frozen, kept.frozen))
    model.standard.set(kept.statistics)
    return model


def _begun(prefix: str, arrays: Arrays) -> Arrays:
    return {prefix + name: array for name, array in arrays.items()}


def _of(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _whole(data: bytes, digest: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError("the arrays are not those that the first line names")
    return data


def _read(path: Path) -> CheckedModel:
    try:
        header, _, data = path.read_bytes().partition(b"\n")
        told = parsed(header.decode(), FIELDS)
        arrays = from_bytes(_whole(data, told["sha256"]))
        parts = (_of(prefix, arrays) for prefix in (_PARAMETERS, _FROZEN, _STATISTICS))
        return CheckedModel(told["time"], told["run"], told["round"], study_from_json(told["study"]), *parts)
    except (OSError, ValueError, WireError, ConfigError) as error:
        raise DataError(
            "SITE-E171",
            "a checked model that is kept here cannot be read",
            where=readable_line(path.name),
            found=getattr(error, "strerror", None) or type(error).__name__,
            fix="remove the file, and see that this user may read it; the next round that checks a model keeps another",
        ) from error
