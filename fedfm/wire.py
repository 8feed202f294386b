"""The four messages of a round and their form inside Flower.

These dataclasses are all that crosses between coordinator and hospital. Docstrings
begin with the direction. This is the only library file that knows Flower's records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays as Arrays  # part of the messages: importable from here too

WIRE_VERSION = 1


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
    """

    unit: str
    delta: float
    train: float
    audit: float
    test: float
    run: float
    planned: float
    noise_multiplier: float


@dataclass(frozen=True)
class Request:
    """Enters the hospital: what the coordinator asks in one round.

    Attributes:
        run: Name of the run; with ``round`` it makes a charge unique in the site's ledger.
        study: Resolved study as JSON (``fedfm.config.compose.study_from_json``).
        round: 1-based number of the round; 0 for the description before the first.
        layout: Fingerprint of names and shapes of ``parameters``.
        parameters: float32 global trainable parameters; empty for a description.
    """

    run: str
    study: str
    round: int
    layout: str
    parameters: Arrays = field(default_factory=dict)


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
    """

    site: str
    round: int
    cells: NDArray[np.float64]
    cells_sd: float
    explanation: Mapping[str, float]
    explanation_sd: float
    seconds: float
    privacy: PrivacySpent
