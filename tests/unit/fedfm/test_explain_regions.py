"""Patches of images as units, credited by the project's own methods through a small convolutional network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fedfm.config.study import Adapter, Model, Task
from fedfm.examples import Example
from fedfm.explain.attribution import Method, attribute
from fedfm.explain.regions import images_of, modality_shares, patches
from fedfm.model.classifier import Classifier, Inputs, Recipe
from fedfm.model.standardization import of_states

SIDE, SIZE = 8, 4


class Convolution(Classifier):
    """Looks for bright spots, and adds up what it finds above and below: class 1 where a spot is in the image."""

    def __init__(self) -> None:
        super().__init__(Recipe(Model(), Adapter(), Task(labels=["no", "yes"]), seed=1))
        self.filter = nn.Conv2d(1, 1, 3, padding=1)
        self.head, self.standard = nn.Linear(1, 2), of_states(1)
        with torch.no_grad():
            self.filter.weight.fill_(1 / 9)
            self.filter.bias.fill_(-0.2)  # type: ignore[union-attr]
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            self.head.bias.zero_()

    def see(self, images: Tensor) -> Inputs:
        units = patches(images, SIZE)
        present = torch.ones(units.shape[:2], dtype=torch.bool)
        words = torch.arange(units.shape[1]).expand(present.shape)
        return Inputs(units, torch.zeros_like(units), present, present, words, ())

    def logits_from_inputs(self, values: Tensor, present: Tensor) -> Tensor:
        images = images_of(values * present.unsqueeze(-1), height=SIDE, width=SIDE, size=SIZE)
        found: Tensor = self.head(self.filter(images.permute(0, 3, 1, 2)).relu().sum((1, 2, 3))[:, None])
        return found

    def encode(self, examples: Sequence[Example]) -> list[Tensor]:
        raise NotImplementedError

    def gather(self, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def features(self, *gathered: Tensor) -> Tensor:
        raise NotImplementedError

    def classify(self, *gathered: Tensor) -> Tensor:
        raise NotImplementedError

    def inputs(self, examples: Sequence[Example], *, baseline: str = "pad") -> Inputs:
        raise NotImplementedError


def spots() -> Tensor:
    """Return four images with a bright square of 2 x 2 pixels in the middle of one patch each."""
    images = torch.zeros(4, SIDE, SIDE, 1)
    for patch in range(4):
        top, left = (patch // 2) * SIZE + 1, (patch % 2) * SIZE + 1
        images[patch, top : top + 2, left : left + 2] = 3.0
    return images


@given(shape=st.tuples(*[st.integers(1, n) for n in (3, 9, 9, 3)]), size=st.integers(1, 10), seed=st.integers(0, 2**31))
def test_images_come_back_whole(shape: tuple[int, ...], size: int, seed: int) -> None:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    units = patches(images, size)
    assert units.shape == (shape[0], -(-shape[1] // size) * -(-shape[2] // size), size * size * shape[3])
    assert torch.equal(images_of(units, height=shape[1], width=shape[2], size=size), images)
    assert units.double().sum().item() == pytest.approx(images.double().sum().item(), rel=1e-6)


def test_patches_stand_row_by_row() -> None:
    units = patches(torch.arange(16.0).view(1, 4, 4, 1), 2)
    assert units[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert patches(torch.ones(1, 1, 3, 1), 2)[0].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]


def test_the_patch_with_the_spot_holds_the_credit() -> None:
    model = Convolution()
    inputs = model.see(spots())
    found = attribute(model, inputs, Method(steps=50))
    assert found.target.tolist() == [1] * 4
    assert found.credits.argmax(1).tolist() == [0, 1, 2, 3]
    kept = torch.eye(4, dtype=torch.bool)
    shares = modality_shares(found.credits.detach().double().numpy(), np.arange(4))
    np.testing.assert_allclose(shares, np.eye(4), atol=1e-6)
    # Taking the patch out, as occlusion does, takes all of the evidence.
    whole = model.logits_from_inputs(inputs.values, inputs.present)[:, 1]
    without = model.logits_from_inputs(inputs.values, ~kept)[:, 1]
    elsewhere = model.logits_from_inputs(inputs.values, ~kept.roll(1, 0))[:, 1]
    assert (whole > 0).all()
    torch.testing.assert_close(without, torch.zeros(4))
    torch.testing.assert_close(elsewhere, whole)


def test_shares_of_modalities_by_hand() -> None:
    found = modality_shares(np.array([[3.0, -1.0, 0.0, 4.0], [0.0, 0.0, 0.0, 0.0]]), np.array([0, 0, 1, 2]))
    np.testing.assert_allclose(found, [[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]])
    empty: Any = modality_shares(np.zeros((2, 0)), np.zeros(0, np.int64))
    assert empty.shape == (2, 0)
    assert modality_shares(np.zeros((0, 2)), np.array([0, 1])).shape == (0, 2)
    assert np.isfinite(modality_shares(np.array([[np.nan, np.inf, 1.0]]), np.array([0, 1, 1]))).all()
