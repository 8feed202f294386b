"""The hospital's half of Algorithm 1: one training round, in the order of its lines."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client_app import checks
from client_app.cohorts import Prepared, device_of
from client_app.data.split import division
from client_app.ledger import Charge, Ledger, Limits, Split
from client_app.low_rank import at_own_rank, check_frozen
from client_app.noise import noised_sums, secure_uniform
from client_app.private_step import Mechanism
from client_app.reweighting import REWEIGHTINGS, group_label_table, groups_to_weigh, noisy_table_once, weights_of
from client_app.sampling import Uniform
from client_app.training import fine_tune_by_unit, fine_tune_openly
from fedfm.arrays import Arrays, check_layout, layout, update_of
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import WireError
from fedfm.examples import Example
from fedfm.model.low_rank import frozen_with, set_frozen
from fedfm.parameters import load_trainable, trainable
from fedfm.plan import Plan
from fedfm.privacy import Release
from fedfm.schedule import explanation_rounds
from fedfm.wire import Description, PrivacySpent, Request, TrainReply

LARGEST_PARAMETER = 100.0
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

    def kept(self, what: str) -> Path:
        """Return the file of a noised release that is made once: of this run, this study and this cohort."""
        told = [self.request.run, self.request.study, self.site.cohort or self.site.id, self.site.declared_patients]
        return Path(self.site.state) / f"{what}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}.json"

    def charge(self, split: Split, purpose: str, release: Release) -> None:
        """Write a release to the ledger before it is computed.

        Raises:
            PrivacyBudgetExceeded: Nothing was written, and nothing may be computed.
        """
        wanted, total = self.study.privacy, self.site.policy.max_epsilon
        of_run = {"train": wanted.epsilon, "test": wanted.evaluation_epsilon, "audit": wanted.audit_epsilon}[split]
        unprotected = release.noise_multiplier == 0  # only where the policy allows it: client_app.site.accept
        limits = Limits(*(float("inf"),) * 2 if unprotected else (of_run, total), delta=self.plan.delta)
        charge = Charge(
            run=self.request.run,
            study=self.study.name,
            round=self.request.round,
            split=split,
            purpose=purpose,
            release=release,
            unit=wanted.unit,
            division=division(self.site.data.split),
        )
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
    load_received(asked)  # Algorithm 1, line 7
    before = trainable(model)
    with at_own_rank(asked.site, asked.study, asked.prepared):
        _fine_tune(asked)  # Algorithm 1, line 8; its loss weights are the first half of line 9
    _check_reasons(asked)  # Algorithm 1, line 9
    update = update_of(before, trainable(model))
    return TrainReply(  # Algorithm 1, line 10
        site=asked.site.id,
        round=asked.request.round,
        layout=layout(update),
        update=update,
        declared_patients=asked.site.declared_patients,
        steps=asked.study.training.local_steps,
        seconds=time.monotonic() - started,
        privacy=asked.spent(),
    )


def load_received(asked: Round) -> None:
    """Put the coordinator's parameters into the model, unless they are made to break or to probe it."""
    received, beside, prepared = asked.request.parameters, asked.request.frozen, asked.prepared
    check_layout(received, like=prepared.start)
    check_frozen(asked.study, prepared.start, beside, built=prepared.frozen)
    _check_sizes(received | beside)
    frozen = frozen_with(prepared.model, prepared.frozen, beside)
    _check_sizes(frozen)  # products of factors that are small enough may be too large
    if asked.request.layout != layout(received):
        raise WireError(
            "SITE-E133",
            "the parameters are not those that the request announces",
            where="layout",
            fix="the coordinator must mend it",
        )
    load_trainable(prepared.model, received)
    set_frozen(prepared.model, frozen)


def _check_sizes(arrays: Arrays) -> None:
    for name, array in arrays.items():
        if not (np.abs(array) <= LARGEST_PARAMETER).all():
            raise WireError(
                "SITE-E132",
                "received parameters that are not finite, or too large to compute with safely",
                where=name,
                allowed=f"at most {LARGEST_PARAMETER:g}",
                fix="the coordinator lowers training.learning_rate, or mends its model",
            )


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
        asked.kept("reweighting"),
        lambda: _release_table(asked, groups_to_weigh(group), release),
    )
    weights = REWEIGHTINGS[wanted.rule](table, cap=float(wanted.params["cap"]))
    return weights_of(examples, str(wanted.params["attribute"]), groups_to_weigh(group), weights)


def _release_table(asked: Round, groups: Sequence[str], release: Release) -> NDArray[np.float64]:
    attribute = str(asked.study.reweighting.params["attribute"])
    asked.charge("train", "reweighting", release)
    exact = group_label_table(asked.prepared.splits.train, attribute, groups, len(asked.study.task.labels))
    return noised_sums(exact, release.noise_multiplier)


def _check_reasons(asked: Round) -> None:
    if asked.plan.explanation is None or asked.request.round not in {
        asked.study.rounds,
        *explanation_rounds(asked.study),
    }:
        return
    documents = audit_documents(asked)
    if documents:
        measured = checks.explain(asked.prepared.model, documents, asked.study.explainability)
        checks.report_locally(measured, round_=asked.request.round)


def audit_documents(asked: Round) -> list[Example]:
    """Return the audit examples whose reasons are looked at: about ``explainability.documents``, by public coins."""
    split = asked.site.data.split
    expected = asked.site.declared_patients * split.audit / split.train
    share = asked.study.explainability.documents / expected if expected else 1.0
    by_record = asked.study.privacy.unit == "record"
    return checks.chosen_documents(asked.prepared.splits.audit, share, asked.request.run, by_record=by_record)


def _public_coins(asked: Round) -> Uniform:
    """Coins of a run without privacy: the same wherever the same study runs."""
    site = int.from_bytes(hashlib.sha256(asked.site.id.encode()).digest()[:8], "big")
    return np.random.default_rng([asked.study.seed, asked.request.round, site]).random
