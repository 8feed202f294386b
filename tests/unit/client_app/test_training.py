"""The private step: bounded by patient, noised as planned, equal to a loop over patients without noise."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client_app import noise
from client_app.noise import secure_uniform
from client_app.private_step import Mechanism
from client_app.training import Cohort, fine_tune_by_unit, fine_tune_openly, micro_batches
from fedfm.config.settings import settings_of
from fedfm.config.study import Study, Training

CLIPS = [entry for entry in settings_of(Study) if entry.path == "privacy.max_grad_norm"]
TINY_NOISE = 1e-12  # Opacus takes no zero; this is below float32's resolution


class Linear(nn.Module):
    """A stand-in with the one method of a Classifier that training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 3)
        self.head = nn.Linear(3, 2)
        generator = torch.Generator().manual_seed(1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.hidden(torch.stack(list(states)))))
        return logits


def cohort_of(notes: Sequence[int], *, seed: int = 0, scale: float = 1.0) -> Cohort:
    """A cohort whose patients have that many notes each."""
    generator = np.random.default_rng(seed)
    total = sum(notes)
    ends = np.cumsum(notes)
    return Cohort(
        states=[torch.tensor(row, dtype=torch.float32) for row in generator.normal(size=(total, 4)) * scale],
        labels=torch.tensor(generator.integers(0, 2, total)),
        units=[np.arange(end - count, end) for end, count in zip(ends, notes, strict=True)],
        weights=torch.ones(total),
    )


def settings(**changes: float | str) -> Training:
    values: dict[str, float | str] = {
        "local_steps": 1,
        "sample_rate": 1.0,
        "learning_rate": 1.0,
        "momentum": 0.0,
    } | changes
    return Training(**values)  # type: ignore[arg-type]


def moved(cohort: Cohort, mechanism: Mechanism, *, micro_batch: int = 64, **changes: float | str) -> Tensor:
    """The update of all parameters as one vector, times C * expected units: the noised sum of a single step."""
    model = Linear()
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    fine_tune_by_unit(
        model,  # type: ignore[arg-type]
        cohort,
        training=settings(**changes),
        mechanism=mechanism,
        micro_batch=micro_batch,
        uniform=secure_uniform,
    )
    after = nn.utils.parameters_to_vector(model.parameters()).detach()
    return (before - after) * mechanism.max_grad_norm * mechanism.expected_units


def clipped_sum_by_loop(cohort: Cohort, clip: float) -> Tensor:
    """One patient at a time, with plain autograd: the definition."""
    model, total = Linear(), torch.zeros(0)
    for unit in cohort.units:
        model.zero_grad()
        logits = model([cohort.states[i] for i in unit])
        losses = nn.functional.cross_entropy(logits, cohort.labels[unit], reduction="none")
        (losses * cohort.weights[unit]).mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        gradient = gradient * min(1.0, clip / (float(gradient.norm()) + 1e-6))
        total = gradient if len(total) == 0 else total + gradient
    return total


@pytest.mark.parametrize("micro_batch", [1, 5, 64])
@pytest.mark.parametrize("clip", [0.05, 100.0])
def test_step_equals_a_loop_over_patients(micro_batch: int, clip: float) -> None:
    cohort = cohort_of([1, 3, 2, 5, 1, 1])
    found = moved(cohort, Mechanism(TINY_NOISE, clip, expected_units=6), micro_batch=micro_batch)
    expected = clipped_sum_by_loop(cohort, clip)
    assert (found - expected).norm() / expected.norm() < 1e-5


def moved_by_one(clip: float) -> float:
    """By how much an extreme patient moves the sum, in clipping norms."""
    usual = cohort_of([2, 1, 3])
    extreme = cohort_of([2, 1, 3, 8])
    states = list(usual.states) + [state * 1e6 for state in extreme.states[6:]]
    with_extreme = Cohort(states, torch.cat([usual.labels, extreme.labels[6:]]), extreme.units, extreme.weights)
    mechanism = Mechanism(TINY_NOISE, clip, expected_units=3)
    difference = moved(with_extreme, mechanism) - moved(usual, mechanism)
    return float(difference.norm()) / clip


def test_one_patient_moves_the_sum_by_at_most_the_clipping_norm() -> None:
    assert 0.5 < moved_by_one(0.05) <= 1 + 1e-4  # the bound is reached, so the test can fail


@pytest.mark.parametrize("clip", [entry.rule[end] for entry in CLIPS for end in ("low", "high")])
def test_the_bound_holds_at_both_ends_of_what_a_study_may_ask(clip: float) -> None:
    """A smaller norm would be lost in the rounding of float32, and one patient would move the sum by more."""
    assert moved_by_one(clip) <= 1 + 1e-4


def test_a_patient_does_not_move_the_weights_of_others() -> None:
    usual = cohort_of([1, 2, 1])
    weighted = Cohort(usual.states, usual.labels, usual.units, torch.tensor([0.5, 1.0, 2.0, 0.2]))
    longer = cohort_of([1, 2, 1, 1])
    heavy = Cohort(
        [*usual.states, longer.states[4]],
        torch.cat([usual.labels, longer.labels[4:]]),
        longer.units,
        torch.cat([weighted.weights, torch.tensor([5.0])]),
    )
    mechanism = Mechanism(TINY_NOISE, 100.0, expected_units=3)  # nothing is clipped
    alone = Cohort(heavy.states[4:], heavy.labels[4:], [np.array([0])], heavy.weights[4:])
    difference = moved(heavy, mechanism) - moved(weighted, mechanism)
    assert torch.allclose(difference, moved(alone, mechanism), atol=1e-3)


def moved_by_a_heavy_one() -> float:
    """By how much a patient whose examples weigh a thousand moves the sum, in clipping norms."""
    usual, more = cohort_of([2, 1, 3]), cohort_of([2, 1, 3, 2])
    weights, labels = torch.cat([torch.ones(6), torch.full((2,), 1000.0)]), torch.cat([usual.labels, more.labels[6:]])
    heavy = Cohort(more.states, labels, more.units, weights)
    mechanism = Mechanism(TINY_NOISE, 0.05, expected_units=3)
    return float((moved(heavy, mechanism) - moved(usual, mechanism)).norm()) / 0.05


def test_a_weighted_patient_moves_the_sum_by_at_most_the_clipping_norm() -> None:
    """Whatever the reweighting says of it: weights come before the clipping."""
    assert 0.5 < moved_by_a_heavy_one() <= 1 + 1e-4


def test_noise_has_the_planned_scale_in_every_step_and_an_empty_sample_too() -> None:
    mechanism = Mechanism(noise_multiplier=2.0, max_grad_norm=0.5, expected_units=10)
    empty = cohort_of([1] * 10)
    draws = torch.cat([moved(empty, mechanism, sample_rate=1e-9) for _ in range(300)])
    assert abs(float(draws.mean())) < 4 * 1.0 / len(draws) ** 0.5
    assert float(draws.std()) == pytest.approx(2.0 * 0.5, rel=4 / (2 * len(draws)) ** 0.5)


def test_noise_is_new_in_every_step_and_at_every_site() -> None:
    mechanism = Mechanism(noise_multiplier=5.0, max_grad_norm=1.0, expected_units=1)
    torch.manual_seed(0)
    first = torch.cat([moved(cohort_of([1]), mechanism) for _ in range(50)])
    torch.manual_seed(0)
    second = torch.cat([moved(cohort_of([1]), mechanism) for _ in range(50)])
    correlation = np.corrcoef(first.numpy(), second.numpy())[0, 1]
    assert abs(correlation) < 4 / len(first) ** 0.5


def test_every_step_draws_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []
    real = noise.secure_normal

    def counted(count: int) -> np.ndarray:
        draws.append(real(count))
        return draws[-1]

    monkeypatch.setattr(noise, "secure_normal", counted)
    moved(cohort_of([1, 2, 1, 3]), Mechanism(1.0, 1.0, expected_units=4), local_steps=3, micro_batch=2)
    assert len(draws) == 3 * 4  # one draw a step for each parameter, not one a micro-batch
    assert len({float(draw[0]) for draw in draws}) == len(draws)


def test_the_proximal_pull_is_after_the_noise_and_leaves_the_clipping_alone() -> None:
    cohort = cohort_of([1, 1])
    plain = moved(cohort, Mechanism(TINY_NOISE, 0.1, expected_units=2))
    pulled = moved(cohort, Mechanism(TINY_NOISE, 0.1, expected_units=2), proximal=0.5)
    # one step from the origin: the pull halves what the step did
    assert torch.allclose(pulled, plain * 0.5, rtol=1e-3, atol=1e-6)


def test_a_step_of_adam_is_adam_on_the_noised_mean_whatever_the_clipping_norm() -> None:
    cohort, steps = cohort_of([1, 3, 2]), {"local_steps": 3, "learning_rate": 0.01, "momentum": 0.9}
    found = []
    for clip in (1e-3, 1e-4):  # everything is clipped, so that the sums differ by their length alone
        model = Linear()
        fine_tune_by_unit(
            model,  # type: ignore[arg-type]
            cohort,
            training=settings(optimizer="adam", **steps),
            mechanism=Mechanism(TINY_NOISE, clip, expected_units=3),
            micro_batch=8,
            uniform=secure_uniform,
        )
        found.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    start = nn.utils.parameters_to_vector(Linear().parameters()).detach()
    assert float((found[0] - start).abs().max()) <= 3 * 0.01 * 1.01
    assert torch.allclose(found[0], found[1], atol=2e-3)
    reference = Linear()
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01, betas=(0.9, 0.999), eps=1e-8)
    total = clipped_sum_by_loop(cohort, 1e-3)
    for parameter, part in zip(
        reference.parameters(), total.split([p.numel() for p in reference.parameters()]), strict=True
    ):
        parameter.grad = part.view_as(parameter) / (1e-3 * 3)
    optimizer.step()
    one = Linear()
    fine_tune_by_unit(
        one,  # type: ignore[arg-type]
        cohort,
        training=settings(optimizer="adam", **steps | {"local_steps": 1}),
        mechanism=Mechanism(TINY_NOISE, 1e-3, expected_units=3),
        micro_batch=8,
        uniform=secure_uniform,
    )
    for parameter, expected in zip(one.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(parameter, expected, atol=1e-5)


def test_the_open_step_is_plain_sgd_on_the_mean_loss() -> None:
    cohort = cohort_of([1] * 12)
    model = Linear()
    fine_tune_openly(
        model,  # type: ignore[arg-type]
        cohort,
        training=settings(local_steps=3, learning_rate=0.1, momentum=0.9),
        micro_batch=5,
        uniform=np.random.default_rng(1).random,
    )
    reference = Linear()
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(reference(cohort.states), cohort.labels).backward()
        optimizer.step()
    for found, expected in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


def test_hooks_are_gone_after_a_round_and_a_second_round_works() -> None:
    model, cohort = Linear(), cohort_of([1, 2])
    for _ in range(2):
        fine_tune_by_unit(
            model,  # type: ignore[arg-type]
            cohort,
            training=settings(),
            mechanism=Mechanism(1.0, 1.0, expected_units=2),
            micro_batch=8,
            uniform=secure_uniform,
        )
        model(cohort.states).sum().backward()
        assert all(getattr(p, "grad_sample", None) is None for p in model.parameters())


def test_micro_batches_cover_the_sample_once_and_never_divide_a_patient() -> None:
    cohort = cohort_of([3, 1, 4, 1, 5, 9, 2, 6])
    sample = np.array([0, 2, 3, 5, 7])
    batches = micro_batches(cohort, sample, 6)
    assert sorted(np.concatenate([b.examples for b in batches])) == sorted(
        np.concatenate([cohort.units[unit] for unit in sample])
    )
    assert sum(batch.units for batch in batches) == len(sample)
    assert max(len(batch.examples) for batch in batches) <= 9


def test_a_patient_whose_gradient_overflows_moves_nobody_elses_part() -> None:
    # a coordinator that sends parameters made to overflow for one patient must not learn whether it is there
    usual, mechanism = cohort_of([1, 2, 1]), Mechanism(TINY_NOISE, 0.1, expected_units=3)
    states = [*usual.states, torch.full((4,), float("inf")), torch.full((4,), float("nan"))]
    poisoned = Cohort(
        states, torch.cat([usual.labels, torch.tensor([0, 1])]), cohort_of([1, 2, 1, 2]).units, torch.ones(6)
    )
    with_patient, without = moved(poisoned, mechanism), moved(usual, mechanism)
    assert torch.isfinite(with_patient).all()
    assert float((with_patient - without).norm()) <= 0.1 * (1 + 1e-4)
