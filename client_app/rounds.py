"""The hospital's half of Algorithm 1: one training round, in the order of its lines."""

import time
from dataclasses import replace

import numpy as np

from client_app import personal
from client_app.asked import Round as Round  # noqa: PLC0414 - what every call here takes: importable from here too
from client_app.cohorts import device_of
from client_app.fine_tuning import fine_tune, steps_of
from client_app.loss_weights import loss_weights
from client_app.low_rank import check_frozen
from client_app.reasons import before_sending
from fedfm.arrays import Arrays, check_layout, layout, update_of
from fedfm.errors import WireError
from fedfm.model.low_rank import frozen_with, set_frozen
from fedfm.parameters import load_trainable, trainable
from fedfm.wire import Description, TrainReply

LARGEST_PARAMETER = 100.0
"""Trained parameters stay far below. Larger ones could overflow for one patient's values and not for
another's, and so tell them apart before any clipping."""


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
        Withheld: The site keeps the update back, as its policy says.
        FedFMError: The site refuses. What was charged before stays charged.
    """
    started = time.monotonic()
    asked.check_time()  # loading model and data may have taken all of it, and nothing is charged yet
    model = asked.prepared.model
    load_received(asked)  # Algorithm 1, line 7
    before = trainable(model)
    asked.charge("train", "training", replace(asked.plan.training, steps=steps_of(asked)))
    begun = before_sending.begin(asked)
    cohort = replace(asked.prepared.train, weights=loss_weights(asked))  # the first half of line 9
    noise = asked.plan.training.noise_multiplier  # of the full plan, however few steps this site takes
    fine_tune(asked, cohort, noise_multiplier=noise, number=asked.request.round)  # Algorithm 1, line 8
    update = update_of(before, trainable(model))
    checked = before_sending.finish(asked, begun, update)  # Algorithm 1, line 9
    reply = TrainReply(  # Algorithm 1, line 10
        site=asked.site.id,
        round=asked.request.round,
        layout=layout(update),
        update=update,
        declared_patients=asked.site.declared_patients,
        steps=steps_of(asked),
        seconds=time.monotonic() - started,
        privacy=asked.spent(),
        **vars(checked),
    )
    personal.train_beside(asked, cohort)  # after the update is made, so that nothing of it is in there
    return reply


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
