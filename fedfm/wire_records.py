"""The messages of a run inside Flower. Only this file and ``fedfm.records`` know Flower's records."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, RecordDict

from fedfm.errors import WireError
from fedfm.records import Table, changed, checked, read, read_arrays, read_numbers, write, write_arrays, write_numbers
from fedfm.wire import (
    WIRE_VERSION,
    Description,
    EvaluateReply,
    Heads,
    PrivacySpent,
    Request,
    SummariseReply,
    TrainReply,
)

# The records of each message and the fields in them; the others ("arrays", "groups" …) are free in their names.
_SPENT_FLOATS = ("delta", "train", "audit", "test", "run", "planned", "noise_multiplier")
_PRIVACY = {**dict.fromkeys(_SPENT_FLOATS, float), "entries": int, "audit_entries": int}
_SPENT = {"unit": str, "seal": str, "audit_seal": str}
_EVALUATE_FLOATS = (
    *("cells_sd", "explanation_sd", "groups_sd", "losses_sd", "audit_groups_sd", "alone_sd"),
    *("terms_sd", "term_documents_sd", "seconds"),
)
_TABLES = ("cells", "alone", "terms")
_REQUEST: Table = {
    "text": {"run": str, "study": str, "layout": str, "ledger_seal": str, "audit_seal": str},
    "numbers": {"round": int, "evaluates": int, "ledger_entries": int, "audit_entries": int},
}
_REFUSAL = "refusal"
_REQUEST_ARRAYS = {"arrays": "parameters", "frozen": "frozen", "statistics": "statistics"}
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
    "text": {"site": str, "layout": str, "downweighted": bool, **_SPENT},
    "numbers": {"round": int, "declared_patients": int, "steps": int, "seconds": float, "check_sd": float},
    "privacy": _PRIVACY,
}
_EVALUATE_REPLY: Table = {
    "text": {"site": str, **_SPENT},
    "numbers": {
        "round": int,
        **dict.fromkeys(_EVALUATE_FLOATS, float),
    },
    "privacy": _PRIVACY,
}


def request_to_records(request: Request) -> RecordDict:
    """Write a request into Flower's records; arrays as ``.npy`` bytes, never pickle."""
    written = write(_REQUEST, vars(request), version=WIRE_VERSION, kind="request")
    written["arrays"] = write_arrays(request.parameters)
    written["frozen"] = write_arrays(request.frozen)
    written["statistics"] = write_arrays(request.statistics)
    return written


def with_heads(records: RecordDict, heads: Heads) -> RecordDict:
    """Return a written request that says back these heads of the site's files; arrays are shared, not copied."""
    return changed(
        records,
        text={"ledger_seal": heads.ledger.seal, "audit_seal": heads.audit.seal},
        numbers={"ledger_entries": heads.ledger.entries, "audit_entries": heads.audit.entries},
    )


def request_from_records(records: RecordDict) -> Request:
    """Read what ``request_to_records`` wrote.

    Raises:
        WireError: Another version or kind, a missing or unexpected field, a wrong type, or unreadable arrays.
    """
    fields = read(_REQUEST, records, version=WIRE_VERSION, kind="request", free=set(_REQUEST_ARRAYS))
    arrays: dict[str, Any] = {field: read_arrays(records, name, np.float32) for name, field in _REQUEST_ARRAYS.items()}
    return Request(**fields, **arrays)


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
    written["check"] = write_numbers(reply.check)
    return written


def train_reply_from_records(records: RecordDict) -> TrainReply:
    """Read what ``train_reply_to_records`` wrote; raises ``WireError`` like ``request_from_records``."""
    fields = read(_TRAIN_REPLY, records, version=WIRE_VERSION, kind="train_reply", free={"arrays", "check"})
    update, check = read_arrays(records, "arrays", np.float32), read_numbers(records, "check")
    return TrainReply(**_nested(fields), update=update, check=check)


def evaluate_reply_to_records(reply: EvaluateReply) -> RecordDict:
    """Write a site's sums into Flower's records."""
    written = write(_EVALUATE_REPLY, _flat(reply), version=WIRE_VERSION, kind="evaluate_reply")
    written["arrays"] = write_arrays({name: getattr(reply, name) for name in _TABLES})
    written["groups"] = write_arrays(reply.groups)
    written["audit_groups"] = write_arrays(reply.audit_groups)
    written["explanation"] = write_numbers(reply.explanation)
    written["losses"] = write_numbers(reply.losses)
    return written


def evaluate_reply_from_records(records: RecordDict) -> EvaluateReply:
    """Read what ``evaluate_reply_to_records`` wrote; raises ``WireError`` like ``request_from_records``."""
    free = {"arrays", "groups", "audit_groups", "explanation", "losses"}
    fields = read(_EVALUATE_REPLY, records, version=WIRE_VERSION, kind="evaluate_reply", free=free)
    fields |= read_arrays(records, "arrays", np.float64, dimensions=dict.fromkeys(_TABLES, 2))
    fields |= {name: read_arrays(records, name, np.float64) for name in ("groups", "audit_groups")}
    fields |= {name: read_numbers(records, name) for name in ("explanation", "losses")}
    return EvaluateReply(**_nested(fields))


def both_to_records(parts: Mapping[str, RecordDict | str]) -> RecordDict:
    """Write the answers to several questions into one message: by name, each a reply's records or a refusal's text."""
    written = RecordDict()
    for name, part in parts.items():
        if isinstance(part, str):
            written[f"{name}.{_REFUSAL}"] = ConfigRecord({"text": part})
        else:
            written.update({f"{name}.{record}": part[record] for record in part})
    return written


def both_from_records(records: RecordDict) -> dict[str, RecordDict | str]:
    """Read what ``both_to_records`` wrote.

    Raises:
        WireError: A record that belongs to no answer, or a refusal without a text.
    """
    found: dict[str, RecordDict | str] = {}
    for key, record in records.items():
        name, dot, part = key.partition(".")
        before = found.setdefault(name, RecordDict())
        if not dot or isinstance(before, str):
            raise WireError("WIRE-E001", "not the answers to several questions", found=key[:80])
        if part != _REFUSAL:
            before[part] = record
            continue
        text = record.get("text")
        if before or not isinstance(text, str):
            raise WireError("WIRE-E001", "not a refusal", found=key[:80])
        found[name] = text
    return found


def _flat(message: Description | SummariseReply | TrainReply | EvaluateReply) -> dict[str, Any]:
    return {**vars(message), **vars(message.privacy)}


def _nested(fields: dict[str, Any]) -> dict[str, Any]:
    spent = {name: fields.pop(name) for name in (*_SPENT, *_PRIVACY)}
    return {**fields, "privacy": PrivacySpent(**spent)}
