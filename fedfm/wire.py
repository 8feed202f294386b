"""The messages of a run: these dataclasses are all that crosses between coordinator and hospital.

Docstrings begin with the direction. How they travel inside Flower: ``fedfm.wire_records``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays as Arrays  # noqa: PLC0414 - part of the messages: importable from here too

WIRE_VERSION = 6

REFUSED = 1000
"""Flower error code of a coded refusal; its reason is the text of a ``FedFMError``."""


class Head(NamedTuple):
    """How long a site's ledger or audit log is, and the seal of its last entry; empty where there is none."""

    entries: int = 0
    seal: str = ""


class Heads(NamedTuple):
    """What a site tells of its files with each answer, and hears back with each request."""

    ledger: Head = Head()
    audit: Head = Head()


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
        audit_entries: Length of the site's audit log when the answer was made: the request is in it, the answer is
            not yet. 0 where the site keeps none (a trainer inside the ClientApp's process). Said back like ``entries``.
        audit_seal: Seal of the last of these entries; empty for none.
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
    audit_entries: int = 0
    audit_seal: str = ""


@dataclass(frozen=True)
class Request:
    """Enters the hospital: what the coordinator asks in one round.

    Attributes:
        run: Name of the run; with ``round`` it makes a charge unique in the site's ledger.
        study: Resolved study as JSON (``fedfm.config.compose.study_from_json``).
        round: 1-based number of the round; 0 for the description before the first.
        layout: Fingerprint of names and shapes of ``parameters``.
        parameters: float32 global trainable parameters; empty for a description.
        frozen: float32 parameters that sites load and do not train, where the coordinator changes them between
            rounds (``lora_A`` of FedSVD; factors of a residual of FedEx-LoRA); empty where they stay as built.
        statistics: float32 pooled statistics that the model's input is standardised by; empty where the
            study does not ask for them, and before they are pooled.
        evaluates: Number of a round after which ``parameters`` are the model, which is to be evaluated before it is
            trained: two questions in one message, which the ClientApp asks the trainer one after the other; 0 for one.
        ledger_entries: What the coordinator last heard of this site's ledger: its length; 0 for nothing.
        ledger_seal: The seal of the last of these entries; empty for nothing.
        audit_entries: What the coordinator last heard of this site's audit log: its length; 0 for nothing.
        audit_seal: The seal of the last of these entries; empty for nothing.
    """

    run: str
    study: str
    round: int
    layout: str
    parameters: Arrays = field(default_factory=dict)
    frozen: Arrays = field(default_factory=dict)
    statistics: Arrays = field(default_factory=dict)
    evaluates: int = 0
    ledger_entries: int = 0
    ledger_seal: str = ""
    audit_entries: int = 0
    audit_seal: str = ""


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
        steps: Optimiser steps taken: what the study asks, or fewer where the site file says so (``max_steps``).
        seconds: Wall time of the local training.
        privacy: Spent so far, this round included.
        check: Sums over audit documents of the model that is sent, before it is: ``check_names`` of
            ``fedfm.explanations``; empty when not asked.
        check_sd: Standard deviation of the noise in each of ``check``.
        downweighted: The site asks that its update count half, because these sums do not pass a gate of the model
            (``fedfm.explain.sum_gates``): which, the coordinator judges by the sums.
    """

    site: str
    round: int
    layout: str
    update: Arrays
    declared_patients: int
    steps: int
    seconds: float
    privacy: PrivacySpent
    check: Mapping[str, float] = field(default_factory=dict)
    check_sd: float = 0.0
    downweighted: bool = False


@dataclass(frozen=True)
class EvaluateReply:
    """Leaves the hospital: sums over test and audit patients, noised where the study says so.

    Attributes:
        site: The site's id.
        round: The round that was asked for.
        cells: float64[C, K]: patients by label and score bin (two classes) or predicted class (more);
            each patient adds 1 in all. May be negative where noise was added. Exact counts that would show a
            small cell are coarser (K = 2 for two classes) or withheld (K = 0).
        cells_sd: Standard deviation of the noise in each cell; 0 where counts are exact.
        explanation: Sums over audit documents of the global model: ``sum_names`` of ``fedfm.explanations``; empty
            when not asked.
        explanation_sd: Standard deviation of the noise in each sum.
        seconds: Wall time.
        privacy: Spent so far, this evaluation included.
        groups: ``attribute=group`` to float64[C, C]: test patients of the group by label and predicted
            class (C columns) or score bin; each patient adds 1 to each attribute. ``a*b=x*y`` for an
            intersection. Empty when not asked.
        groups_sd: Standard deviation of the noise in each number of ``groups``.
        losses: Sums over audit patients: ``loss``, each clipped to [0, 1] (``fedfm.metrics.counts.clipped_loss``),
            and ``patients``; empty when not asked.
        losses_sd: Standard deviation of the noise in each of ``losses``.
        audit_groups: As ``groups`` with C columns, over audit patients and one attribute: what a weighting rule
            asks for. Empty when not asked.
        audit_groups_sd: Standard deviation of the noise in each number of ``audit_groups``.
        alone: As ``cells``, of a model that the site has trained without the others, for ``baseline.method:
            alone``; float64[C, 0] when not asked or withheld.
        alone_sd: Standard deviation of the noise in each number of ``alone``.
        terms: float64[2, V] of the study's ``explainability.vocabulary``, in its order: the sum over audit documents
            of a term's credit, each document's clipped to length 1, and the documents that hold the term;
            float64[2, 0] when not asked or withheld. A term of too few documents is 0 in both.
        terms_sd: Standard deviation of the noise in each credit.
        term_documents_sd: Standard deviation of the noise in each number of documents.
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
    audit_groups: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    audit_groups_sd: float = 0.0
    alone: NDArray[np.float64] = field(default_factory=lambda: np.zeros((1, 0)))
    alone_sd: float = 0.0
    terms: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 0)))
    terms_sd: float = 0.0
    term_documents_sd: float = 0.0
