"""Sums over training patients before round 1: noised, charged once for a run, and what the model is standardised by.

With ``standardize=global`` they leave, and what those of all sites say comes back; with ``site`` they stay here.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.asked import Round
from client_app.cohorts import Prepared, load_start
from client_app.noise import noised_sums
from client_app.reweighting import noisy_table_once
from client_app.training import by_length
from fedfm import statistics
from fedfm.arrays import Arrays
from fedfm.config.study import Study
from fedfm.errors import WireError
from fedfm.model.classifier import Classifier
from fedfm.plan import sd
from fedfm.privacy import Release
from fedfm.wire import SummariseReply

Floats = NDArray[np.float64]


def summarise(asked: Round) -> SummariseReply:
    """Charge the ledger, sum over the training patients, add noise; or send again what was sent before.

    Raises:
        FedFMError: The study does not pool statistics, or the budget does not allow it; nothing was computed.
    """
    started, release = time.monotonic(), asked.plan.statistics
    if asked.study.standardize.method != "global" or release is None:
        raise WireError(
            "SITE-E160",
            "the study does not pool statistics, and asks for them",
            where="standardize.method",
            found=asked.study.standardize.method,
            allowed="global",
            fix="the coordinator must mend it",
        )
    return SummariseReply(
        site=asked.site.id,
        round=asked.request.round,
        sums=_noised_once(asked, release),
        sums_sd=_noise_of(asked.study, release),
        seconds=time.monotonic() - started,
        privacy=asked.spent(),
    )


def standardized(asked: Round) -> Round:
    """Set what the model is standardised by, before parameters come into it; return ``asked``.

    Raises:
        FedFMError: Statistics are missing, not asked for by the study, or made to break the model; for ``site``,
            the budget does not allow the site's own.
    """
    method, received = asked.study.standardize.method, asked.request.statistics
    if bool(received) != (method == "global"):
        raise WireError(
            "SITE-E161",
            "the request lacks the pooled statistics" if method == "global" else "statistics that the study has not",
            where="statistics of the request",
            allowed="mean and scale for standardize.method: global, else none",
            fix="the coordinator must mend it",
        )
    if method == "global":
        asked.prepared.model.standard.set(received)
    elif method == "site":
        asked.prepared.model.standard.set(_own(asked))
    return asked


def exact_sums(study: Study, prepared: Prepared, *, micro_batch: int) -> Floats:
    """Return float64[K] sums over the site's training units. Stays at the hospital.

    Guarantees:
        A unit that comes or goes moves the sums by at most ``fedfm.statistics.bound`` in L2 norm, however many
        examples it has and whatever they hold.
    """
    model, cohort = prepared.model, prepared.train
    load_start(prepared)
    if not cohort.units:
        return np.zeros(statistics.width(study, inputs=model.standard.mean.numel()))
    inputs = _inputs(model, cohort.states, micro_batch)
    labels = cohort.labels.numpy()
    if study.task.inputs == "columns":
        values, missing = np.split(inputs, 2, axis=1)
        vectors = statistics.vectors_of_columns(study, values, missing, labels)
    else:
        vectors = statistics.vectors_of_states(study, inputs, labels)
    found: Floats = np.sum([vectors[members].mean(axis=0) for members in cohort.units], axis=0)
    return found


def _own(asked: Round) -> Arrays:
    """Return mean and scale from this site's own noised sums, which never leave it."""
    study, release = asked.study, asked.plan.statistics
    if release is None:
        raise RuntimeError("a study with standardize=site has a plan without statistics")
    sums, noise = _noised_once(asked, release), _noise_of(study, release)
    found = statistics.pooled(study, sums, sums_sd=noise, declared=asked.site.declared_patients)
    return statistics.for_model(found, study)


def _noised_once(asked: Round, release: Release) -> Floats:
    """Return the sums that this run has paid for; pay, compute and keep them the first time."""
    return noisy_table_once(asked.kept("statistics"), lambda: _release(asked, release))


def _release(asked: Round, release: Release) -> Floats:
    asked.charge("train", "statistics", release)
    exact = exact_sums(asked.study, asked.prepared, micro_batch=asked.prepared.micro_batch)
    return noised_sums(exact, _noise_of(asked.study, release))


def _noise_of(study: Study, release: Release) -> float:
    return sd(release) * statistics.bound(study)


def _inputs(model: Classifier, states: Sequence[torch.Tensor], micro_batch: int) -> Floats:
    """Return float64[N, ...] what the standardisation is applied to; of similar length together."""
    rows: dict[int, Floats] = {}
    with torch.no_grad():
        for chosen in by_length(states, micro_batch):
            found = model.unstandardized([states[i] for i in chosen]).double().cpu().numpy()
            rows.update(zip(chosen, found, strict=True))
    return np.stack([rows[i] for i in range(len(states))])
