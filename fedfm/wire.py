"""The messages of a run and their form inside Flower.

These dataclasses are all that crosses between coordinator and hospital. Docstrings
begin with the direction. Only this file and ``fedfm.records`` know Flower's records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from fedfm.arrays import Arrays as Arrays  # noqa: PLC0414 - part of the messages: importable from here too
from fedfm.records import Table, changed, checked, read, read_arrays, read_numbers, write, write_arrays, write_numbers

WIRE_VERSION = 2


@dataclass(frozen=True)
class PrivacySpent:
    """Leaves the hospital: what one patient of each split has spent at this site, this study included.

    Attributes:
        unit: ``"patient"`` or ``"record"``; ``"none"`` where the study has no mechanism.
        delta: Chance of failure that the epsilons are stated at.
        train: Epsilon of a training patient over all rounds and studies of this cohort.
        audit: The same for an audit patient.
        test: The same for a test patient.
        run: Epsilon of a training patient in this run alone.
        planned: What ``run`` will be after the study's last round.
        noise_multiplier: Noise of the training steps, in clipping norms.
        entries: Length of the site's ledger; never falls. The coordinator keeps it and says it back
            (``Request.ledger_entries``), so that a site notices an older ledger in the place of its own.
        seal: Seal of the ledger's last entry; empty where there is none.
    """

    unit: str
    delta: float
    train: float
    audit: float
    test: float
    run: float
    planned: float
    noise_multiplier: float
    entries: int = 0
    seal: str = ""


@dataclass(frozen=True)
class Request:
    """Enters the hospital: what the coordinator asks in one round.

    Attributes:
        run: Name of the run; with ``round`` it makes a charge unique in the site's ledger.
        study: Resolved study as JSON (``fedfm.config.compose.study_from_json``).
        round: 1-based number of the round; 0 for the description before the first.
        layout: Fingerprint of names and shapes of ``parameters``.
        parameters: float32 global trainable parameters; empty for a description.
        statistics: float32 pooled statistics that the model's input is standardised by; empty where the
            study does not ask for them, and before they are pooled.
        ledger_entries: What the coordinator last heard of this site's ledger: its length; 0 for nothing.
        ledger_seal: The seal of the last of these entries; empty for nothing.
    """

    run: str
    study: str
    round: int
    layout: str
    parameters: Arrays = field(default_factory=dict)
    statistics: Arrays = field(default_factory=dict)
    ledger_entries: int = 0
    ledger_seal: str = ""


@dataclass(frozen=True)
class Description:
    """Leaves the hospital before round 1: who it is and that it can take part.

    Attributes:
        site: The site's id.
        declared_patients: Public, rounded cohort size.
        layout: Fingerprint of the parameters that this site would train.
        device: ``"cpu"`` or ``"cuda"``.
        groups: Protected attributes of the study that this site can name.
        privacy: What has been spent so far, and the plan for this study.
    """

    site: str
    declared_patients: int
    layout: str
    device: str
    groups: tuple[str, ...]
    privacy: PrivacySpent


@dataclass(frozen=True)
class SummariseReply:
    """Leaves the hospital before round 1: sums over training patients, noised where the study has privacy.

    Attributes:
        site: The site's id.
        round: The round that was asked for, which is 0.
        sums: float64[K] as ``fedfm.statistics`` orders them.
        sums_sd: Standard deviation of the noise in each sum; 0 where they are exact.
        seconds: Wall time.
        privacy: Spent so far, these sums included.
    """

    site: str
    round: int
    sums: NDArray[np.float64]
    sums_sd: float
    seconds: float
    privacy: PrivacySpent


@dataclass(frozen=True)
class TrainReply:
    """Leaves the hospital: the update of one round, noised where the study has privacy.

    Attributes:
        site: The site's id.
        round: The round that was asked for.
        layout: Fingerprint of ``update``.
        update: float32 parameters after minus before.
        declared_patients: Public, rounded cohort size.
        seconds: Wall time of the local training.
        privacy: Spent so far, this round included.
    """

    site: str
    round: int
    layout: str
    update: Arrays
    declared_patients: int
    seconds: float
    privacy: PrivacySpent


@dataclass(frozen=True)
class EvaluateReply:
    """Leaves the hospital: sums over test and audit patients, noised where the study says so.

    Attributes:
        site: The site's id.
        round: The round that was asked for.
        cells: float64[C, K]: patients by label and score bin (two classes) or predicted class (more);
            each patient adds 1 in all. May be negative where noise was added.
        cells_sd: Standard deviation of the noise in each cell; 0 where counts are exact.
        explanation: Sums over audit documents, for example ``comprehensiveness``, ``random_order``,
            each clipped to [-1, 1] a document, and ``documents``; empty when not asked.
        explanation_sd: Standard deviation of the noise in each sum.
        seconds: Wall time.
        privacy: Spent so far, this evaluation included.
        groups: ``attribute=group`` to float64[C, C]: test patients of the group by label and predicted
            class; each patient adds 1 to each attribute. Empty when not asked.
        groups_sd: Standard deviation of the noise in each number of ``groups``.
        losses: Sums over audit patients: ``loss``, each clipped to [0, 1] (``fedfm.metrics.counts.clipped_loss``),
            and ``patients``; empty when not asked.
        losses_sd: Standard deviation of the noise in each of ``losses``.
    """

    site: str
    round: int
    cells: NDArray[np.float64]
    cells_sd: float
    explanation: Mapping[str, float]
    explanation_sd: float
    seconds: float
    privacy: PrivacySpent
    groups: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    groups_sd: float = 0.0
    losses: Mapping[str, float] = field(default_factory=dict)
    losses_sd: float = 0.0


# The records of each message and the fields in them; the others ("arrays", "groups" …) are free in their names.
_SPENT_FLOATS = ("delta", "train", "audit", "test", "run", "planned", "noise_multiplier")
_PRIVACY = {**dict.fromkeys(_SPENT_FLOATS, float), "entries": int}
_SPENT = {"unit": str, "seal": str}
_REQUEST: Table = {
    "text": {"run": str, "study": str, "layout": str, "ledger_seal": str},
    "numbers": {"round": int, "ledger_entries": int},
}
_DESCRIPTION: Table = {
    "text": {"site": str, "layout": str, "device": str, "groups": list, **_SPENT},
    "numbers": {"declared_patients": int},
    "privacy": _PRIVACY,
}
_SUMMARISE_REPLY: Table = {
    "text": {"site": str, **_SPENT},
    "numbers": {"round": int, "sums_sd": float, "seconds": float},
    "privacy": _PRIVACY,
}
_TRAIN_REPLY: Table = {
    "text": {"site": str, "layout": str, **_SPENT},
    "numbers": {"round": int, "declared_patients": int, "seconds": float},
    "privacy": _PRIVACY,
}
_EVALUATE_REPLY: Table = {
    "text": {"site": str, **_SPENT},
    "numbers": {
        "round": int,
        **dict.fromkeys(("cells_sd", "explanation_sd", "groups_sd", "losses_sd", "seconds"), float),
    },
    "privacy": _PRIVACY,
}


def request_to_records(request: Request) -> RecordDict:
    """Write a request into Flower's records; arrays as ``.npy`` bytes, never pickle."""
    written = write(_REQUEST, vars(request), version=WIRE_VERSION, kind="request")
    written["arrays"] = write_arrays(request.parameters)
    written["statistics"] = write_arrays(request.statistics)
    return written


def with_ledger(records: RecordDict, entries: int, seal: str) -> RecordDict:
    """Return a written request with another ``ledger_entries`` and ``ledger_seal``; arrays are shared, not copied."""
    return changed(records, text={"ledger_seal": seal}, numbers={"ledger_entries": entries})


def request_from_records(records: RecordDict) -> Request:
    """Read what ``request_to_records`` wrote.

    Raises:
        WireError: Another version or kind, a missing or unexpected field, a wrong type, or unreadable arrays.
    """
    fields = read(_REQUEST, records, version=WIRE_VERSION, kind="request", free={"arrays", "statistics"})
    parameters, statistics = (read_arrays(records, name, np.float32) for name in ("arrays", "statistics"))
    return Request(**fields, parameters=parameters, statistics=statistics)


def description_to_records(description: Description) -> RecordDict:
    """Write a site's description into Flower's records."""
    return write(_DESCRIPTION, _flat(description), version=WIRE_VERSION, kind="description")


def description_from_records(records: RecordDict) -> Description:
    """Read what ``description_to_records`` wrote; raises ``WireError`` like ``request_from_records``."""
    fields = read(_DESCRIPTION, records, version=WIRE_VERSION, kind="description")
    groups = tuple(checked("text.groups", group, str) for group in fields.pop("groups"))
    return Description(**_nested(fields), groups=groups)


def summarise_reply_to_records(reply: SummariseReply) -> RecordDict:
    """Write a site's sums before round 1 into Flower's records."""
    written = write(_SUMMARISE_REPLY, _flat(reply), version=WIRE_VERSION, kind="summarise_reply")
    written["arrays"] = write_arrays({"sums": reply.sums})
    return written


def summarise_reply_from_records(records: RecordDict) -> SummariseReply:
    """Read what ``summarise_reply_to_records`` wrote; raises ``WireError`` like ``request_from_records``."""
    fields = read(_SUMMARISE_REPLY, records, version=WIRE_VERSION, kind="summarise_reply", free={"arrays"})
    return SummariseReply(**_nested(fields | read_arrays(records, "arrays", np.float64, dimensions={"sums": 1})))


def train_reply_to_records(reply: TrainReply) -> RecordDict:
    """Write a site's update into Flower's records."""
    written = write(_TRAIN_REPLY, _flat(reply), version=WIRE_VERSION, kind="train_reply")
    written["arrays"] = write_arrays(reply.update)
    return written


def train_reply_from_records(records: RecordDict) -> TrainReply:
    """Read what ``train_reply_to_records`` wrote; raises ``WireError`` like ``request_from_records``."""
    fields = read(_TRAIN_REPLY, records, version=WIRE_VERSION, kind="train_reply", free={"arrays"})
    return TrainReply(**_nested(fields), update=read_arrays(records, "arrays", np.float32))


def evaluate_reply_to_records(reply: EvaluateReply) -> RecordDict:
    """Write a site's sums into Flower's records."""
    written = write(_EVALUATE_REPLY, _flat(reply), version=WIRE_VERSION, kind="evaluate_reply")
    written["arrays"] = write_arrays({"cells": reply.cells})
    written["groups"] = write_arrays(reply.groups)
    written["explanation"] = write_numbers(reply.explanation)
    written["losses"] = write_numbers(reply.losses)
    return written


def evaluate_reply_from_records(records: RecordDict) -> EvaluateReply:
    """Read what ``evaluate_reply_to_records`` wrote; raises ``WireError`` like ``request_from_records``."""
    free = {"arrays", "groups", "explanation", "losses"}
    fields = read(_EVALUATE_REPLY, records, version=WIRE_VERSION, kind="evaluate_reply", free=free)
    fields |= read_arrays(records, "arrays", np.float64, dimensions={"cells": 2})
    fields |= {name: read_numbers(records, name) for name in ("explanation", "losses")}
    return EvaluateReply(**_nested(fields), groups=read_arrays(records, "groups", np.float64))


def _flat(message: Description | SummariseReply | TrainReply | EvaluateReply) -> dict[str, Any]:
    return {**vars(message), **vars(message.privacy)}


def _nested(fields: dict[str, Any]) -> dict[str, Any]:
    spent = {name: fields.pop(name) for name in (*_SPENT, *_PRIVACY)}
    return {**fields, "privacy": PrivacySpent(**spent)}
