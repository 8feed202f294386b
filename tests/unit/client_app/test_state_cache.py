"""Cached states are bit for bit those that were computed, and any change of model or text makes new ones."""

import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from client_app.state_cache import cached_states
from fedfm.config.compose import compose_study
from fedfm.config.study import Study
from fedfm.examples import Example

NOTES = [Example("1", 0, text="fever"), Example("2", 1, text="cough and fever")]


class Encoder:
    """Counts its calls; states of different lengths, or one vector each."""

    def __init__(self, *, pooled: bool = False) -> None:
        self.calls, self.pooled = 0, pooled

    def __call__(self, examples: Sequence[Example]) -> list[Tensor]:
        self.calls += 1
        generator = torch.Generator().manual_seed(self.calls)
        shapes = [(3,) if self.pooled else (len(str(example.text).split()), 3) for example in examples]
        return [torch.randn(shape, generator=generator) for shape in shapes]


def study(*overrides: str) -> Study:
    value = compose_study(["model=tiny", *overrides]).value
    assert isinstance(value, Study)
    return value


@pytest.mark.parametrize("pooled", [False, True])
def test_second_call_returns_the_same_bits_without_encoding(tmp_path: Path, pooled: bool) -> None:
    encoder = Encoder(pooled=pooled)
    first = cached_states(tmp_path, study(), NOTES, encoder)
    second = cached_states(tmp_path, study(), NOTES, encoder)
    assert encoder.calls == 1
    assert all(torch.equal(a, b) and a.shape == b.shape for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("override", ["adapter.layers=1", "model.max_tokens=16", "seed=2", "adapter=head"])
def test_another_frozen_part_is_encoded_anew(tmp_path: Path, override: str) -> None:
    encoder = Encoder()
    cached_states(tmp_path, study("adapter.layers=2"), NOTES, encoder)
    cached_states(tmp_path, study("adapter.layers=2", override), NOTES, encoder)
    assert encoder.calls == 2


def test_changed_or_reordered_notes_are_encoded_anew(tmp_path: Path) -> None:
    encoder = Encoder()
    for notes in (NOTES, NOTES[::-1], [NOTES[0], Example("2", 1, text="cough")]):
        cached_states(tmp_path, study(), notes, encoder)
    assert encoder.calls == 3


def test_a_damaged_file_is_made_anew_and_old_ones_go(tmp_path: Path) -> None:
    encoder = Encoder()
    cached_states(tmp_path, study(), NOTES, encoder)
    (kept,) = tmp_path.glob("states-*")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.write_bytes(kept.read_bytes()[:20])
    cached_states(tmp_path, study(), NOTES, encoder)
    assert encoder.calls == 2
    for seed in range(3, 11):
        cached_states(tmp_path, study(f"seed={seed}"), NOTES, encoder)
    assert len(list(tmp_path.glob("states-*"))) == 6
