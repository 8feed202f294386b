"""The hospital's half of Algorithm 1: one training round, one evaluation, in the order of its lines."""

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client_app import checks
from client_app.cohorts import Prepared, device_of
from client_app.ledger import Charge, Ledger, Limits, Split
from client_app.noise import secure_normal, secure_uniform
from client_app.private_step import Mechanism
from client_app.reweighting import REWEIGHTINGS, declared_groups, group_label_table, noisy_table_once, weights_of
from client_app.sampling import Uniform
from client_app.training import Cohort, fine_tune_by_unit, fine_tune_openly
from fedfm.arrays import check_layout, layout, update_of
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import WireError
from fedfm.examples import Example
from fedfm.metrics.counts import columns, patient_cells
from fedfm.model.classifier import Classifier
from fedfm.parameters import load_trainable, trainable
from fedfm.plan import Plan, sd
from fedfm.privacy import Release
from fedfm.schedule import explanation_rounds
from fedfm.wire import Description, EvaluateReply, PrivacySpent, Request, TrainReply

LARGEST_PARAMETER = 1e3
"""Trained parameters stay far below. Larger ones could overflow for one patient's values and not for
another's, and so tell them apart before any clipping."""


@dataclass(frozen=True)
class Round:
    """One request that the site's policy has accepted, with all that is needed to answer it.

    Attributes:
        site: This hospital.
        study: The study, read anew from the request.
        plan: Noise of every release.
        ledger: Where epsilon is charged.
        prepared: Model and data, warm.
        request: What was asked.
    """

    site: Site
    study: Study
    plan: Plan
    ledger: Ledger
    prepared: Prepared
    request: Request

    @property
    def private(self) -> bool:
        """Whether the study has a privacy mechanism."""
        return self.study.privacy.mechanism != "none"

    def charge(self, split: Split, purpose: str, release: Release) -> None:
        """Write a release to the ledger before it is computed.

        Raises:
            PrivacyBudgetExceeded: Nothing was written, and nothing may be computed.
        """
        wanted, total = self.study.privacy, self.site.policy.max_epsilon
        of_run = {"train": wanted.epsilon, "test": wanted.evaluation_epsilon, "audit": wanted.audit_epsilon}[split]
        unprotected = release.noise_multiplier == 0  # only where the policy allows it: client_app.site.accept
        limits = Limits(*(float("inf"),) * 2 if unprotected else (of_run, total), delta=self.plan.delta)
        charge = Charge(self.request.run, self.study.name, self.request.round, split, purpose, release)
        self.ledger.charge(charge, limits)

    def spent(self) -> PrivacySpent:
        """Return what one patient of each split has spent at this site, over all runs and studies."""
        at, run = self.plan.delta, self.request.run
        entries, seal = self.ledger.head()
        return PrivacySpent(
            unit=self.study.privacy.unit if self.private else "none",
            delta=at,
            train=self.ledger.epsilon("train", at),
            audit=self.ledger.epsilon("audit", at),
            test=self.ledger.epsilon("test", at),
            run=self.ledger.epsilon("train", at, run=run),
            planned=self.plan.planned,
            noise_multiplier=self.plan.training.noise_multiplier,
            entries=entries,
            seal=seal,
        )


def describe(asked: Round) -> Description:
    """Say who this site is and that it can take part."""
    site = asked.site
    return Description(
        site=site.id,
        declared_patients=site.declared_patients,
        layout=layout(asked.prepared.start),
        device=device_of(site).type,
        groups=tuple(name for name in asked.study.task.groups if name in site.data.groups),
        privacy=asked.spent(),
    )


def train(asked: Round) -> TrainReply:
    """Charge the ledger, fine-tune on the site's patients, check the result, return the update.

    Raises:
        FedFMError: The site refuses. What was charged before stays charged.
    """
    started = time.monotonic()
    model = asked.prepared.model
    _load_received(asked)  # Algorithm 1, line 7
    before = trainable(model)
    _fine_tune(asked)  # Algorithm 1, line 8; its loss weights are the first half of line 9
    _check_reasons(asked)  # Algorithm 1, line 9
    update = update_of(before, trainable(model))
    return TrainReply(  # Algorithm 1, line 10
        site=asked.site.id,
        round=asked.request.round,
        layout=layout(update),
        update=update,
        declared_patients=asked.site.declared_patients,
        seconds=time.monotonic() - started,
        privacy=asked.spent(),
    )


def evaluate(asked: Round) -> EvaluateReply:
    """Count how the received parameters do on test patients, and sum how faithful their reasons are.

    Raises:
        FedFMError: The site refuses. What was charged before stays charged.
    """
    started = time.monotonic()
    _load_received(asked)
    cells, cells_sd = _count(asked)
    explanation, explanation_sd = _explain(asked)
    return EvaluateReply(
        site=asked.site.id,
        round=asked.request.round,
        cells=cells,
        cells_sd=cells_sd,
        explanation=explanation,
        explanation_sd=explanation_sd,
        seconds=time.monotonic() - started,
        privacy=asked.spent(),
    )


def _load_received(asked: Round) -> None:
    """Put the coordinator's parameters into the model, unless they are made to break or to probe it."""
    received = asked.request.parameters
    check_layout(received, like=asked.prepared.start)
    for name, array in received.items():
        if not (np.abs(array) <= LARGEST_PARAMETER).all():
            raise WireError(
                "SITE-E132",
                "received parameters that are not finite, or too large to compute with safely",
                where=name,
                allowed=f"at most {LARGEST_PARAMETER:g}",
                fix="the coordinator lowers training.learning_rate, or mends its model",
            )
    if asked.request.layout != layout(received):
        raise WireError(
            "SITE-E133",
            "the parameters are not those that the request announces",
            where="layout",
            fix="the coordinator must mend it",
        )
    load_trainable(asked.prepared.model, received)


def _fine_tune(asked: Round) -> None:
    study, site = asked.study, asked.site
    asked.charge("train", "training", asked.plan.training)
    cohort = replace(asked.prepared.train, weights=_loss_weights(asked))
    clip, coins = study.privacy.max_grad_norm, secure_uniform if asked.private else _public_coins(asked)
    if clip is None:  # only without a mechanism: fedfm.config checks it
        fine_tune_openly(
            asked.prepared.model, cohort, training=study.training, micro_batch=asked.prepared.micro_batch, uniform=coins
        )
        return
    fine_tune_by_unit(
        asked.prepared.model,
        cohort,
        training=study.training,
        mechanism=Mechanism(
            noise_multiplier=asked.plan.training.noise_multiplier,
            max_grad_norm=clip,
            expected_units=study.training.sample_rate * site.declared_patients,
            clipping=study.privacy.clipping,
        ),
        micro_batch=asked.prepared.micro_batch,
        uniform=coins,
    )


def _loss_weights(asked: Round) -> torch.Tensor:
    wanted, release = asked.study.reweighting, asked.plan.reweighting
    examples, group = asked.prepared.splits.train, asked.site.data.groups.get(str(wanted.params.get("attribute")))
    if release is None or group is None:  # not asked for, or a hospital that cannot name the attribute
        return asked.prepared.train.weights
    table = noisy_table_once(
        Path(asked.site.state) / f"reweighting-{hashlib.sha256(asked.request.run.encode()).hexdigest()[:16]}.json",
        lambda: _release_table(asked, declared_groups(group), release),
    )
    weights = REWEIGHTINGS[wanted.rule](table, cap=float(wanted.params["cap"]))
    return weights_of(examples, str(wanted.params["attribute"]), declared_groups(group), weights)


def _release_table(asked: Round, groups: Sequence[str], release: Release) -> NDArray[np.float64]:
    attribute = str(asked.study.reweighting.params["attribute"])
    asked.charge("train", "reweighting", release)
    exact = group_label_table(asked.prepared.splits.train, attribute, groups, len(asked.study.task.labels))
    return exact + _noise(exact.shape, release.noise_multiplier)


def _check_reasons(asked: Round) -> None:
    if asked.plan.explanation is None or asked.request.round not in explanation_rounds(asked.study):
        return
    documents = _audit_documents(asked)
    if documents:
        measured = checks.explain(asked.prepared.model, documents, asked.study.explainability)
        checks.report_locally(measured, round_=asked.request.round)


def _count(asked: Round) -> tuple[NDArray[np.float64], float]:
    study, splits, model = asked.study, asked.prepared.splits, asked.prepared.model
    is_last = asked.request.round == study.rounds
    release = asked.plan.last_evaluation if is_last else asked.plan.evaluation
    asked.charge("test", "evaluation", release)
    labels = study.task.labels
    exact = patient_cells(
        _probabilities(model, asked.prepared.test, asked.prepared.micro_batch, classes=len(labels)),
        asked.prepared.test.labels.numpy(),
        _unit_names(splits.test, by_record=study.privacy.unit == "record"),
        bins=columns(len(labels), bins=study.evaluation.bins, is_last=is_last),
        positive=labels.index(study.task.positive) if study.task.positive else len(labels) - 1,
    )
    added = sd(release)
    return exact + _noise(exact.shape, added), added


def _explain(asked: Round) -> tuple[dict[str, float], float]:
    release = asked.plan.explanation
    if release is None or asked.request.round not in explanation_rounds(asked.study):
        return {}, 0.0
    asked.charge("audit", "explanation", release)
    documents = _audit_documents(asked)
    sums = np.zeros(3)
    if documents:
        measured = checks.explain(asked.prepared.model, documents, asked.study.explainability)
        sums = np.array([measured.comprehensiveness.sum(), measured.random_order.sum(), len(documents)])
    # a patient who comes or goes moves each of three sums by at most 1
    added = sd(release) * math.sqrt(3)
    noisy = sums + _noise(sums.shape, added)
    return dict(zip(("comprehensiveness", "random_order", "documents"), map(float, noisy), strict=True)), added


def _audit_documents(asked: Round) -> list[Example]:
    split = asked.site.data.split
    expected = asked.site.declared_patients * split.audit / split.train
    share = asked.study.explainability.documents / expected if expected else 1.0
    return checks.one_per_patient(asked.prepared.splits.audit, share, asked.request.run)


def _probabilities(model: Classifier, cohort: Cohort, micro_batch: int, *, classes: int) -> NDArray[np.float64]:
    if not len(cohort.states):
        return np.zeros((0, classes))
    order = sorted(range(len(cohort.states)), key=lambda i: cohort.states[i].shape[0])
    found = np.zeros((len(order), classes))
    with torch.no_grad():
        for start in range(0, len(order), micro_batch):
            chosen = order[start : start + micro_batch]
            logits = model([cohort.states[i] for i in chosen])
            found[chosen] = logits.double().softmax(dim=1).cpu().numpy()
    # what cannot be computed counts as undecided: no patient may end the evaluation for all
    return np.where(np.isfinite(found).all(axis=1, keepdims=True), found, 1 / classes)


def _unit_names(examples: Sequence[Example], *, by_record: bool) -> list[str]:
    return [str(index) if by_record else example.patient for index, example in enumerate(examples)]


def _noise(shape: tuple[int, ...], scale: float) -> NDArray[np.float64]:
    return secure_normal(math.prod(shape)).reshape(shape) * scale if scale else np.zeros(shape)


def _public_coins(asked: Round) -> Uniform:
    """Coins of a run without privacy: the same wherever the same study runs."""
    site = int.from_bytes(hashlib.sha256(asked.site.id.encode()).digest()[:8], "big")
    return np.random.default_rng([asked.study.seed, asked.request.round, site]).random
