"""One round of the study's training on the model that is loaded: as the federation, the site alone, or for itself."""

import hashlib
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

import numpy as np

from client_app.asked import Round
from client_app.low_rank import at_own_rank
from client_app.noise import secure_uniform
from client_app.private_step import Mechanism
from client_app.sampling import Uniform
from client_app.training import Cohort, open_steps, private_steps, pull, trained
from fedfm.config.study import Training


def fine_tune(asked: Round, cohort: Cohort, *, noise_multiplier: float, number: int) -> None:
    """Take the steps of one round, with a fresh optimiser; what they release must have been charged.

    Args:
        asked: The request; its study says how long the steps are, and whether they are clipped.
        cohort: The site's training units, with their loss weights.
        noise_multiplier: Noise in clipping norms; 0 only where the study has no mechanism, or for what stays here.
        number: The round whose public coins are thrown in a study without a mechanism.

    Raises:
        PolicyError: It took longer than the policy allows; what was charged stays charged.
    """
    model, training = asked.prepared.model, training_of(asked)
    with at_own_rank(asked.site, asked.study, asked.prepared):
        parameters, start = trained(model)
        with closing(steps(asked, cohort, noise_multiplier=noise_multiplier, number=number)) as taken:
            for _ in taken:
                pull(parameters, start, training)


def steps(asked: Round, cohort: Cohort, *, noise_multiplier: float, number: int) -> Generator[None]:
    """Take the steps of one round on the model that is loaded and yield after each. Exhaust or close it.

    Arguments are those of ``fine_tune``. The clock is read once a step, between two of them, so that a step is not
    slower; the one that is under way when the time is over is finished, and nothing is made of it. Every training
    of a request has the same deadline: one more, alone or beside, has no minutes of its own.

    Raises:
        PolicyError: The request took longer than the policy allows.
    """
    with closing(_unlimited(asked, cohort, noise_multiplier=noise_multiplier, number=number)) as taken:
        for _ in taken:
            asked.check_time()
            yield


def _unlimited(asked: Round, cohort: Cohort, *, noise_multiplier: float, number: int) -> Generator[None]:
    prepared, mechanism = asked.prepared, mechanism_of(asked, noise_multiplier)
    training, coins = training_of(asked), coins_of(asked, number)
    if mechanism is None:  # only without a mechanism of the study: fedfm.config checks it
        return open_steps(prepared.model, cohort, training=training, micro_batch=prepared.micro_batch, uniform=coins)
    return private_steps(
        prepared.model,
        cohort,
        training=training,
        mechanism=mechanism,
        micro_batch=prepared.micro_batch,
        uniform=coins,
    )


def steps_of(asked: Round) -> int:
    """Return the steps of a round here: the study's, or fewer where the site file says so. Public."""
    wanted, most = asked.study.training.local_steps, asked.site.max_steps
    return min(wanted, most) if most else wanted


def training_of(asked: Round) -> Training:
    """Return the study's training with the steps that this site takes."""
    return replace(asked.study.training, local_steps=steps_of(asked))


def mechanism_of(asked: Round, noise_multiplier: float) -> Mechanism | None:
    """Return clipping and noise; None where the study has no clipping norm."""
    study, clip = asked.study, asked.study.privacy.max_grad_norm
    if clip is None:
        return None
    return Mechanism(
        noise_multiplier=noise_multiplier,
        max_grad_norm=clip,
        expected_units=study.training.sample_rate * asked.site.declared_patients,
        clipping=study.privacy.clipping,
    )


def coins_of(asked: Round, number: int) -> Uniform:
    """Return the coins of sampling: the operating system's; without privacy the same wherever the study runs."""
    if asked.private:
        return secure_uniform
    site = int.from_bytes(hashlib.sha256(asked.site.id.encode()).digest()[:8], "big")
    return np.random.default_rng([asked.study.seed, number, site]).random
