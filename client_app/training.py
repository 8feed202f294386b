"""Local fine-tuning from cached states: what one round of Algorithm 1, line 8, does at a site."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from client_app.layer_gradients import Grouping
from client_app.per_unit_gradients import Batch, loss, set_clipped_gradients, set_no_gradients
from client_app.private_step import Mechanism, SecureDPOptimizer, forget_gradients
from client_app.sampling import Uniform, poisson_sample
from fedfm.config.study import Training
from fedfm.model.classifier import Classifier

ENOUGH, STRETCH = 12, 1.2
"""A micro-batch of so many examples takes no example that is so many times as long as its shortest unit."""


@dataclass(frozen=True)
class Cohort:
    """Examples behind the frozen part of the model, gathered by unit of privacy.

    Attributes:
        states: N tensors, what ``Classifier.encode`` returned.
        labels: int64[N].
        units: For each patient (or record), the indices of its examples; disjoint, together [0, N).
        weights: float32[N] loss weight of each example; the same as 1 unless reweighted.
    """

    states: Sequence[Tensor]
    labels: Tensor
    units: Sequence[NDArray[np.intp]]
    weights: Tensor


@dataclass(frozen=True)
class MicroBatch:
    """Whole units that fit in memory together.

    Attributes:
        examples: int[B] indices of the examples.
        unit_of: int64[B] the unit of each, counted from 0 within this micro-batch.
        units: Number of units.
        shares: float32[B] 1 / (number of examples of its unit).
    """

    examples: NDArray[np.intp]
    unit_of: Tensor
    units: int
    shares: Tensor


def sgd(parameters: Sequence[nn.Parameter], training: Training, size: float) -> torch.optim.Optimizer:
    """Return SGD with momentum on gradients divided by ``size``."""
    return torch.optim.SGD(parameters, lr=training.learning_rate / size, momentum=training.momentum)


def adam(parameters: Sequence[nn.Parameter], training: Training, size: float) -> torch.optim.Optimizer:
    """Return Adam, the same for gradients of any ``size`` (Kingma and Ba 2015, arXiv:1412.6980)."""
    betas = (training.momentum, 0.999)
    return torch.optim.Adam(parameters, lr=training.learning_rate, betas=betas, eps=1e-8 * size)


OPTIMIZERS: dict[str, Callable[[Sequence[nn.Parameter], Training, float], torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
}


def fine_tune_by_unit(
    model: Classifier,
    cohort: Cohort,
    *,
    training: Training,
    mechanism: Mechanism,
    micro_batch: int,
    uniform: Uniform,
) -> None:
    """Take ``training.local_steps`` steps on gradients clipped by unit and noised, in place.

    A step of SGD is ``learning_rate / (C * mechanism.expected_units)`` times the noised sum, so that the step
    length does not depend on the clipping norm C (Bu et al. 2023, arXiv:2206.07136); Adam's does not anyway.

    Args:
        model: Its trainable parameters change.
        cohort: The site's training units.
        training: Steps, sample rate, step length, momentum and the pulls after the noise.
        mechanism: Noise, clipping norm, and the public number of units in a step. Noise 0 gives the
            same steps without privacy, to compare with.
        micro_batch: Examples in memory at once; does not change the result.
        uniform: Source of the sampling coins.

    Guarantees:
        Adding or removing one unit moves the sum before the noise by at most C in L2 norm,
        however many examples it has; every step adds noise, an empty sample too; weight decay
        and the proximal pull use no data and come after the noise.
    """
    parameters, start = trained(model)
    for _ in private_steps(
        model, cohort, training=training, mechanism=mechanism, micro_batch=micro_batch, uniform=uniform
    ):
        pull(parameters, start, training)


def private_steps(
    model: Classifier,
    cohort: Cohort,
    *,
    training: Training,
    mechanism: Mechanism,
    micro_batch: int,
    uniform: Uniform,
) -> Generator[None]:
    """Take the steps of ``fine_tune_by_unit``, yield after each, for what follows the noise. Exhaust or close it."""
    parameters, _ = trained(model)
    optimizer = SecureDPOptimizer(
        OPTIMIZERS[training.optimizer](parameters, training, mechanism.max_grad_norm * mechanism.expected_units),
        noise_multiplier=mechanism.noise_multiplier,
        max_grad_norm=mechanism.max_grad_norm,
        expected_batch_size=None,
        loss_reduction="sum",
    )
    try:
        for _ in range(training.local_steps):
            optimizer.zero_grad()
            sample = poisson_sample(len(cohort.units), training.sample_rate, uniform)
            batches = [
                tensors_of(cohort, batch, training.precision) for batch in micro_batches(cohort, sample, micro_batch)
            ]
            gather_gradients(model, batches, mechanism=mechanism, optimizer=optimizer)
            optimizer.step()
            yield
    finally:
        forget_gradients(parameters)


def gather_gradients(
    model: Classifier, batches: Sequence[Batch], *, mechanism: Mechanism, optimizer: SecureDPOptimizer
) -> None:
    """Leave the clipped sums of one step's micro-batches with the optimiser, for its next ``step``."""
    for number, batch in enumerate(batches, start=1):
        set_clipped_gradients(model, batch, max_grad_norm=mechanism.max_grad_norm, clipping=mechanism.clipping)
        if number < len(batches):
            optimizer.signal_skip_step()
            optimizer.step()
            optimizer.zero_grad()
    if not batches:
        set_no_gradients(optimizer.params)


def fine_tune_openly(
    model: Classifier, cohort: Cohort, *, training: Training, micro_batch: int, uniform: Uniform
) -> None:
    """Take ``training.local_steps`` plain steps on the mean loss of the sampled units.

    No privacy whatsoever. An empty sample takes no step.
    """
    parameters, start = trained(model)
    for _ in open_steps(model, cohort, training=training, micro_batch=micro_batch, uniform=uniform):
        pull(parameters, start, training)


def open_steps(
    model: Classifier, cohort: Cohort, *, training: Training, micro_batch: int, uniform: Uniform
) -> Generator[None]:
    """Take the steps of ``fine_tune_openly`` and yield after each. Exhaust or close it."""
    parameters, _ = trained(model)
    optimizer = OPTIMIZERS[training.optimizer](parameters, training, 1.0)
    try:
        for _ in range(training.local_steps):
            optimizer.zero_grad()
            sample = poisson_sample(len(cohort.units), training.sample_rate, uniform)
            for batch in micro_batches(cohort, sample, micro_batch):
                torch.autograd.backward(loss(model, tensors_of(cohort, batch, training.precision)) / len(sample))
            if len(sample):
                optimizer.step()
                yield
    finally:
        optimizer.zero_grad()


def micro_batches(cohort: Cohort, sample: NDArray[np.intp], size: int) -> list[MicroBatch]:
    """Divide the sampled units into micro-batches of about ``size`` examples, never dividing a unit.

    Units are sorted by their longest example, and a micro-batch of ``ENOUGH`` examples ends where notes become much
    longer than its first, so that little is padded. That is exact: a sum of clipped gradients does not depend on how
    it is divided.
    """
    lengths = {unit: max(len(cohort.states[i]) for i in cohort.units[unit]) for unit in sample.tolist()}
    groups: list[list[NDArray[np.intp]]] = []
    shortest = room = 0
    for unit in sorted(lengths, key=lengths.__getitem__):
        members = cohort.units[unit]
        held = sum(map(len, groups[-1])) if groups else 0
        if len(members) > room or (held >= ENOUGH and lengths[unit] > STRETCH * shortest):
            groups.append([])
            shortest, room = lengths[unit], max(size, len(members))
        groups[-1].append(members)
        room -= len(members)
    return [_micro_batch(group) for group in groups]


def by_length(states: Sequence[Tensor], size: int) -> Iterator[list[int]]:
    """Yield the indices of all states, at most ``size`` at a time, shortest first, so that little is padded."""
    order = sorted(range(len(states)), key=lambda i: states[i].shape[0])
    for start in range(0, len(order), size):
        yield order[start : start + size]


def pull(parameters: Sequence[nn.Parameter], start: Sequence[Tensor], training: Training) -> None:
    """Pull parameters to where the round began and to zero; uses no data.

    The pull of FedProx (Li et al. 2020, arXiv:1812.06127, equation 2), which is that of mean-regularised training
    (MR-MTL, Liu et al. 2022, arXiv:2206.07902) within a round.
    """
    if not (training.proximal or training.weight_decay):
        return
    with torch.no_grad():
        for parameter, origin in zip(parameters, start, strict=True):
            back = training.proximal * (parameter - origin) + training.weight_decay * parameter
            parameter.sub_(training.learning_rate * back)


def trained(model: Classifier) -> tuple[list[nn.Parameter], list[Tensor]]:
    """Return the parameters that are trained, and copies of what they are now."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return parameters, [parameter.detach().clone() for parameter in parameters]


def _micro_batch(units: Sequence[NDArray[np.intp]]) -> MicroBatch:
    sizes = np.array([len(members) for members in units])
    return MicroBatch(
        examples=np.concatenate(units),
        unit_of=torch.from_numpy(np.repeat(np.arange(len(units)), sizes)),
        units=len(units),
        shares=torch.from_numpy(np.repeat(1.0 / sizes, sizes).astype(np.float32)),
    )


def tensors_of(cohort: Cohort, batch: MicroBatch, precision: str) -> Batch:
    """Return the micro-batch with a loss that is the sum over units of the mean loss of a unit's examples."""
    return Batch(
        states=[cohort.states[i] for i in batch.examples],
        labels=cohort.labels[batch.examples],
        factors=batch.shares * cohort.weights[batch.examples],
        grouping=Grouping(batch.unit_of, batch.units),
        precision=precision,
    )
