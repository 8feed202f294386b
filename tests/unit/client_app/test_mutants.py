"""Planted faults of the private step: each is caught by the test that is named beside it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client_app import layer_gradients, noise, per_unit_gradients, training
from client_app.noise import secure_normal
from client_app.per_unit_gradients import Batch
from fedfm.config.study import Training
from tests.unit.client_app import test_training as tests


def noise_divided_by_four(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(noise, "secure_normal", lambda count: secure_normal(count) / 4)


def clipping_times_four(patch: pytest.MonkeyPatch) -> None:
    flat = per_unit_gradients.flat
    patch.setitem(per_unit_gradients.CLIPPINGS, "flat", lambda squares, norm: flat(squares, 4 * norm))


def noise_reused_between_steps(patch: pytest.MonkeyPatch) -> None:
    kept: dict[int, np.ndarray] = {}
    patch.setattr(noise, "secure_normal", lambda count: kept.setdefault(count, secure_normal(count)).copy())


def proximal_pull_inside_the_loss(patch: pytest.MonkeyPatch) -> None:
    """The pull as a gradient beside each unit's, before the clipping; and none after the noise."""
    clipped = training.set_clipped_gradients

    def with_pull(model: nn.Module, batch: Batch, *, max_grad_norm: float, clipping: str) -> None:
        clipped(model, batch, max_grad_norm=max_grad_norm, clipping=clipping)  # type: ignore[arg-type]
        for parameter in model.parameters():
            parameter.grad += 0.5 * batch.grouping.units * parameter.detach()

    patch.setattr(training, "set_clipped_gradients", with_pull)

    def no_pull(_parameters: list[nn.Parameter], _start: list[Tensor], _training: Training) -> None:
        return

    patch.setattr(training, "pull", no_pull)


def weights_normalised_by_the_batch(patch: pytest.MonkeyPatch) -> None:
    """As CrossEntropyLoss(weight=..., reduction="mean") does."""
    plain = per_unit_gradients._loss
    patch.setattr(
        per_unit_gradients,
        "_loss",
        lambda logits, labels, factors: plain(logits, labels, factors / factors.sum() * len(factors)),
    )


def weights_after_the_clipping(patch: pytest.MonkeyPatch) -> None:
    """The largest weight of a micro-batch stretches what was clipped."""
    clipped = training.set_clipped_gradients

    def stretched(model: nn.Module, batch: Batch, *, max_grad_norm: float, clipping: str) -> None:
        clipped(model, batch, max_grad_norm=max_grad_norm, clipping=clipping)  # type: ignore[arg-type]
        for parameter in model.parameters():
            parameter.grad *= batch.factors.max()

    patch.setattr(training, "set_clipped_gradients", stretched)


def patients_not_merged(patch: pytest.MonkeyPatch) -> None:
    """Each note is clipped on its own."""

    def by_note(cohort: training.Cohort, batch: training.MicroBatch, precision: str) -> Batch:
        found = tensors(cohort, batch, precision)
        alone = layer_gradients.Grouping(torch.arange(len(batch.examples)), len(batch.examples))
        return Batch(found.states, found.labels, found.factors, alone, precision)

    tensors = training.tensors_of
    patch.setattr(training, "tensors_of", by_note)


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Callable[..., None]]] = {
    "noise / 4": (
        noise_divided_by_four,
        tests.test_noise_has_the_planned_scale_in_every_step_and_an_empty_sample_too,
    ),
    "clip x 4": (clipping_times_four, tests.test_one_patient_moves_the_sum_by_at_most_the_clipping_norm),
    "noise reused": (noise_reused_between_steps, tests.test_noise_is_new_in_every_step_and_at_every_site),
    "FedProx inside the loss": (
        proximal_pull_inside_the_loss,
        tests.test_the_proximal_pull_is_after_the_noise_and_leaves_the_clipping_alone,
    ),
    "batch-normalised weights": (
        weights_normalised_by_the_batch,
        tests.test_a_patient_does_not_move_the_weights_of_others,
    ),
    "weights after clipping": (
        weights_after_the_clipping,
        tests.test_a_weighted_patient_moves_the_sum_by_at_most_the_clipping_norm,
    ),
    "patients not merged": (patients_not_merged, tests.test_one_patient_moves_the_sum_by_at_most_the_clipping_norm),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, test = MUTANTS[mutant]
    test()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        test()
