"""The dataclasses of ``fedfm.wire`` to the messages of ``trainer.proto``, and back. Free of torch."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from client_app.trainer import trainer_pb2 as pb
from fedfm.arrays import Arrays, from_bytes, to_bytes
from fedfm.wire import WIRE_VERSION, Description, EvaluateReply, PrivacySpent, Request, SummariseReply, TrainReply


def request_to_proto(request: Request) -> pb.Request:
    """Return the message that carries ``request`` to the trainer."""
    return pb.Request(
        wire_version=WIRE_VERSION,
        run=request.run,
        study_json=request.study,
        round=request.round,
        layout=request.layout,
        parameters=_packed(request.parameters),
        statistics=_packed(request.statistics),
        ledger_entries=request.ledger_entries,
        ledger_seal=request.ledger_seal,
        audit_entries=request.audit_entries,
        audit_seal=request.audit_seal,
        frozen=_packed(request.frozen),
    )


def request_from_proto(message: pb.Request) -> Request:
    """Return the request that ``message`` carries.

    Raises:
        WireError: Parameters that are no safetensors of float32.
    """
    return Request(
        run=message.run,
        study=message.study_json,
        round=message.round,
        layout=message.layout,
        parameters=_unpacked(message.parameters),
        statistics=_unpacked(message.statistics),
        ledger_entries=message.ledger_entries,
        ledger_seal=message.ledger_seal,
        audit_entries=message.audit_entries,
        audit_seal=message.audit_seal,
        frozen=_unpacked(message.frozen),
    )


def description_to_proto(description: Description) -> pb.Description:
    """Return the message that carries ``description`` out of the trainer."""
    return pb.Description(
        site=description.site,
        declared_patients=description.declared_patients,
        layout=description.layout,
        device=description.device,
        groups=description.groups,
        privacy=_spent_to_proto(description.privacy),
    )


def description_from_proto(message: pb.Description) -> Description:
    """Return the description that ``message`` carries."""
    return Description(
        site=message.site,
        declared_patients=message.declared_patients,
        layout=message.layout,
        device=message.device,
        groups=tuple(message.groups),
        privacy=_spent_from_proto(message.privacy),
    )


def summarise_reply_to_proto(reply: SummariseReply) -> pb.SummariseReply:
    """Return the message that carries ``reply`` out of the trainer."""
    return pb.SummariseReply(
        site=reply.site,
        round=reply.round,
        sums=reply.sums.tolist(),
        sums_sd=reply.sums_sd,
        seconds=reply.seconds,
        privacy=_spent_to_proto(reply.privacy),
    )


def summarise_reply_from_proto(message: pb.SummariseReply) -> SummariseReply:
    """Return the reply that ``message`` carries."""
    return SummariseReply(
        site=message.site,
        round=message.round,
        sums=np.array(message.sums, dtype=np.float64),
        sums_sd=message.sums_sd,
        seconds=message.seconds,
        privacy=_spent_from_proto(message.privacy),
    )


def train_reply_to_proto(reply: TrainReply) -> pb.TrainReply:
    """Return the message that carries ``reply`` out of the trainer."""
    return pb.TrainReply(
        site=reply.site,
        round=reply.round,
        layout=reply.layout,
        update=to_bytes(reply.update),
        declared_patients=reply.declared_patients,
        steps=reply.steps,
        seconds=reply.seconds,
        privacy=_spent_to_proto(reply.privacy),
        check=dict(reply.check),
        check_sd=reply.check_sd,
        downweighted=reply.downweighted,
    )


def train_reply_from_proto(message: pb.TrainReply) -> TrainReply:
    """Return the reply that ``message`` carries."""
    return TrainReply(
        site=message.site,
        round=message.round,
        layout=message.layout,
        update=from_bytes(message.update),
        declared_patients=message.declared_patients,
        steps=message.steps,
        seconds=message.seconds,
        privacy=_spent_from_proto(message.privacy),
        check=dict(message.check),
        check_sd=message.check_sd,
        downweighted=message.downweighted,
    )


def evaluate_reply_to_proto(reply: EvaluateReply) -> pb.EvaluateReply:
    """Return the message that carries ``reply`` out of the trainer."""
    return pb.EvaluateReply(
        site=reply.site,
        round=reply.round,
        labels=reply.cells.shape[0],
        cells=reply.cells.ravel().tolist(),
        cells_sd=reply.cells_sd,
        explanation=dict(reply.explanation),
        explanation_sd=reply.explanation_sd,
        groups=_tables_to_proto(reply.groups),
        groups_sd=reply.groups_sd,
        losses=dict(reply.losses),
        losses_sd=reply.losses_sd,
        audit_groups=_tables_to_proto(reply.audit_groups),
        audit_groups_sd=reply.audit_groups_sd,
        alone=reply.alone.ravel().tolist(),
        alone_sd=reply.alone_sd,
        terms=reply.terms.ravel().tolist(),
        terms_sd=reply.terms_sd,
        term_documents_sd=reply.term_documents_sd,
        seconds=reply.seconds,
        privacy=_spent_to_proto(reply.privacy),
    )


def evaluate_reply_from_proto(message: pb.EvaluateReply) -> EvaluateReply:
    """Return the reply that ``message`` carries."""
    return EvaluateReply(
        site=message.site,
        round=message.round,
        cells=_table(message.labels, message.cells),
        cells_sd=message.cells_sd,
        explanation=dict(message.explanation),
        explanation_sd=message.explanation_sd,
        groups=_tables_from_proto(message.groups),
        groups_sd=message.groups_sd,
        losses=dict(message.losses),
        losses_sd=message.losses_sd,
        audit_groups=_tables_from_proto(message.audit_groups),
        audit_groups_sd=message.audit_groups_sd,
        alone=_table(message.labels, message.alone),
        alone_sd=message.alone_sd,
        terms=_table(2, message.terms),
        terms_sd=message.terms_sd,
        term_documents_sd=message.term_documents_sd,
        seconds=message.seconds,
        privacy=_spent_from_proto(message.privacy),
    )


def _packed(arrays: Arrays) -> bytes:
    return to_bytes(arrays) if arrays else b""


def _unpacked(data: bytes) -> Arrays:
    return from_bytes(data) if data else {}


def _tables_to_proto(tables: Mapping[str, NDArray[np.float64]]) -> dict[str, pb.Table]:
    return {name: pb.Table(rows=len(table), cells=table.ravel().tolist()) for name, table in tables.items()}


def _tables_from_proto(tables: Mapping[str, pb.Table]) -> dict[str, NDArray[np.float64]]:
    return {name: _table(table.rows, table.cells) for name, table in tables.items()}


def _table(rows: int, cells: Iterable[float]) -> NDArray[np.float64]:
    return np.array(cells, dtype=np.float64).reshape(rows, -1)


def _spent_to_proto(spent: PrivacySpent) -> pb.PrivacySpent:
    return pb.PrivacySpent(
        unit=spent.unit,
        delta=spent.delta,
        train=spent.train,
        audit=spent.audit,
        test=spent.test,
        run=spent.run,
        planned=spent.planned,
        noise_multiplier=spent.noise_multiplier,
        entries=spent.entries,
        seal=spent.seal,
        audit_entries=spent.audit_entries,
        audit_seal=spent.audit_seal,
    )


def _spent_from_proto(message: pb.PrivacySpent) -> PrivacySpent:
    return PrivacySpent(
        unit=message.unit,
        delta=message.delta,
        train=message.train,
        audit=message.audit,
        test=message.test,
        run=message.run,
        planned=message.planned,
        noise_multiplier=message.noise_multiplier,
        entries=message.entries,
        seal=message.seal,
        audit_entries=message.audit_entries,
        audit_seal=message.audit_seal,
    )
