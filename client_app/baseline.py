"""The same model trained by this site alone, once in a run, so that gain by joining can be told.

The model stays here; with privacy its training is noised and charged like any other, and the noised count of its
answers leaves with the closing evaluation.
"""

import logging
from dataclasses import replace

import numpy as np

from client_app.asked import Round
from client_app.cohorts import Prepared, load_start
from client_app.fine_tuning import fine_tune, steps_of
from client_app.loss_weights import fixed_weights
from client_app.noise import noised_sums
from client_app.own_files import keep_model, kept_model
from client_app.reweighting import Table, noisy_table_once
from client_app.rounds import load_received
from client_app.scores import logits_of, owners_of, positive_of, probabilities_of
from fedfm.arrays import Arrays
from fedfm.errors import PrivacyBudgetExceeded
from fedfm.metrics.counts import columns, patient_cells
from fedfm.parameters import load_trainable, trainable
from fedfm.plan import sd
from fedfm.privacy import Release
from fedfm.schedule import closing_round

logger = logging.getLogger(__name__)


def count_alone(asked: Round) -> tuple[Table, float]:
    """Return test patients by label and score of the model trained alone, and the noise in each number.

    In the closing evaluation of a study that asks for it; else float64[C, 0] and 0. Asked again, the site sends the
    same numbers and charges nothing. Where the budget does not allow it, as after a round that was trained twice, there
    is none either: the ledger says so, which knows no data, and the rest of the evaluation is paid for already.

    Guarantees:
        The model's parameters are afterwards those that the request brought.

    Raises:
        FedFMError: It cannot be kept; what was charged before stays charged.
    """
    counting, nothing = asked.plan.alone_count, np.zeros((len(asked.study.task.labels), 0))
    if counting is None or asked.request.round != closing_round(asked.study):
        return nothing, 0.0
    added = sd(counting)
    try:
        return noisy_table_once(asked.kept("alone"), lambda: _release(asked, counting, added)), added
    except PrivacyBudgetExceeded as refusal:
        logger.warning("round %d: nothing is said of training alone: %s", asked.request.round, refusal)
        return nothing, 0.0
    finally:
        load_received(asked)


def kept_alone(asked: Round) -> Arrays | None:
    """Return the model that this site trained alone in this run; None before the closing evaluation."""
    return kept_model(asked.kept("alone", ".safetensors"))


def load_alone(prepared: Prepared, parameters: Arrays) -> None:
    """Put a model trained alone into the model: beside its parameters, all is as built."""
    load_start(prepared)
    load_trainable(prepared.model, parameters)


def _release(asked: Round, counting: Release, added: float) -> Table:
    load_alone(asked.prepared, kept_alone(asked) or _trained(asked))
    asked.charge("test", "alone_count", counting)
    prepared, study = asked.prepared, asked.study
    classes = len(study.task.labels)
    found = probabilities_of(logits_of(prepared.model, prepared.test, prepared.micro_batch, classes))
    exact = patient_cells(
        found,
        prepared.test.labels.numpy(),
        owners_of(prepared.splits.test, by_record=study.privacy.unit == "record"),
        bins=columns(classes, bins=study.evaluation.bins, is_last=True),
        positive=positive_of(study),
    )
    return noised_sums(exact, added)


def _trained(asked: Round) -> Arrays:
    """Train from the study's start for as many rounds and steps as with the others, and keep the model."""
    release, study, model = asked.plan.alone, asked.study, asked.prepared.model
    if release is None:
        raise RuntimeError("a plan counts the answers of a model that it does not train")
    asked.charge("train", "alone", replace(release, steps=study.rounds * steps_of(asked)))
    cohort = replace(asked.prepared.train, weights=fixed_weights(asked))
    load_start(asked.prepared)
    for number in range(1, study.rounds + 1):
        fine_tune(asked, cohort, noise_multiplier=release.noise_multiplier, number=number)
    parameters = trainable(model)
    keep_model(asked.kept("alone", ".safetensors"), parameters)
    return parameters
