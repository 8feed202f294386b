"""The local explainability check: Algorithm 1, line 9, before the update is sent.

Its result stays at the hospital, in the trainer's log. What the coordinator learns about
explanations is in the evaluation, with noise.
"""

import hashlib
import logging
import secrets
from collections.abc import Sequence

import numpy as np

from fedfm.config.explainability import Explainability
from fedfm.examples import Example
from fedfm.explain.attribution import Method
from fedfm.explain.audit import Audit, Watched, audit
from fedfm.model.classifier import Classifier

logger = logging.getLogger(__name__)


def chosen_documents(examples: Sequence[Example], share: float, salt: str, *, by_record: bool) -> list[Example]:
    """Return one example of each patient that a public coin chooses, of chance ``share``.

    Each patient's coin is a hash of its own, so that a patient who comes or goes displaces nobody.
    Where the record is the unit, all examples of such a patient: a record that goes must not make room for another.
    """
    chosen = [example for example in examples if _coin(example.patient, salt) < share]
    if by_record:
        return chosen
    first: dict[str, Example] = {}
    for example in chosen:
        first.setdefault(example.patient, example)
    return list(first.values())


def explain(model: Classifier, documents: Sequence[Example], settings: Explainability) -> Audit:
    """Return how faithful the model's reasons are, document by document. Stays at the hospital.

    Guarantees:
        A document's figures do not depend on which others are there: its random order comes from the operating
        system's entropy.
    """
    method = Method(settings.attribution, settings.steps, settings.baseline)
    rng = np.random.default_rng(secrets.randbits(128))
    return audit(model, documents, method=method, watched=Watched(), rng=rng)


def report_locally(measured: Audit, *, round_: int) -> None:
    """Log whether credited words matter more than words in random order, for the site's own people."""
    gain = measured.sums["comprehensiveness"] - measured.sums["random_order"]
    verdict = (
        "reasons hold" if gain.mean() > 0 else "REASONS DO NOT HOLD: credited words matter no more than random ones"
    )
    logger.info("round %d: %s (comprehensiveness %+.3f over random order)", round_, verdict, gain.mean())


def _coin(patient: str, salt: str) -> float:
    digest = hashlib.sha256(f"{salt}\0{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
