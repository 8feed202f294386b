"""Combiners of low-rank products against dense products in float64."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedfm.arrays import Arrays
from fedfm.low_rank import LORA_A, LORA_B, RESIDUAL_A, RESIDUAL_B, residual_of
from server_app.combining import low_rank
from server_app.combining.low_rank import fedex, ffa_svd, flexlora
from server_app.combining.received import Combined, Received
from tests.unit.server_app.test_combining import received

EXACT = 1e-6  # relative, of products of float32 factors
OUT, SIZE, RANK = 9, 7, 3
LAYERS = ("top.query", "top.value")
SEEDS = st.integers(0, 9999)
SITES = st.integers(1, 6)

Matrix = NDArray[np.float64]


def factors(chance: np.random.Generator, scale: float = 1.0) -> Arrays:
    """Two adapted layers and a head."""
    found: Arrays = {"head.weight": chance.normal(size=(2, OUT)).astype(np.float32)}
    for layer in LAYERS:
        found[layer + LORA_B] = (scale * chance.normal(size=(OUT, RANK))).astype(np.float32)
        found[layer + LORA_A] = (scale * chance.normal(size=(RANK, SIZE))).astype(np.float32)
    return found


def weights(chance: np.random.Generator, sites: int) -> Matrix:
    found = chance.uniform(size=sites)
    weights: Matrix = found / found.sum()
    return weights


class Asked:
    """A round of so many sites; ``run`` lets a combiner answer it."""

    def __init__(self, seed: int, sites: int, *, trained: tuple[str, ...] = ("",)) -> None:
        chance = np.random.default_rng(seed)
        self.before = {name: array for name, array in factors(chance).items() if name.endswith(trained)}
        self.updates = {
            f"site-{k}": {n: u for n, u in factors(chance, 0.5).items() if n in self.before} for k in range(sites)
        }
        self.weights, self.frozen = weights(chance, sites), Arrays()
        self.a = {layer: factors(chance)[layer + LORA_A] for layer in LAYERS}

    def run(self, combine: Any) -> Combined:
        with received(self.updates, self.weights) as asked:
            combined: Combined = combine(Received(self.before, self.frozen, asked.updates, asked.weights))
        return combined

    def products(self, layer: str) -> list[Matrix]:
        """Each site's product after its training."""
        found = []
        for _, update in sorted(self.updates.items()):
            after = {name: array.astype(float) + update[name] for name, array in self.before.items()}
            found.append(after[layer + LORA_B] @ after.get(layer + LORA_A, self.a[layer].astype(float)))
        return found

    def average(self, layer: str) -> Matrix:
        return sum(c * p for c, p in zip(self.weights, self.products(layer), strict=True))  # type: ignore[return-value]

    def after(self, combined: Combined) -> Arrays:
        """As the coordinator adds it up."""
        return {name: (a.astype(float) + combined.update[name]).astype(np.float32) for name, a in self.before.items()}


def product(arrays: Arrays, layer: str) -> Matrix:
    dense: Matrix = arrays[layer + LORA_B].astype(float) @ arrays[layer + LORA_A].astype(float)
    return dense


def distance(found: Matrix, expected: Matrix) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def check_head(asked: Asked, combined: Combined) -> None:
    mean = sum(c * u["head.weight"] for c, (_, u) in zip(asked.weights, sorted(asked.updates.items()), strict=True))
    np.testing.assert_allclose(combined.update["head.weight"], mean, rtol=1e-6, atol=1e-6)


@given(SEEDS, SITES)
def test_fedsvd_is_the_average_of_the_products_and_a_is_orthonormal(seed: int, sites: int) -> None:
    asked = Asked(seed, sites, trained=("weight",))
    asked.before = {n: a for n, a in asked.before.items() if not n.endswith(LORA_A)}
    asked.updates = {s: {n: a for n, a in u.items() if n in asked.before} for s, u in asked.updates.items()}
    asked.frozen = {layer + LORA_A: a for layer, a in asked.a.items()}
    combined = asked.run(ffa_svd)
    assert combined.coefficients is None
    check_head(asked, combined)
    after = asked.after(combined) | combined.frozen
    for layer in LAYERS:
        assert distance(product(after, layer), asked.average(layer)) < EXACT
        a = combined.frozen[layer + LORA_A]
        np.testing.assert_allclose(a @ a.T, np.eye(RANK), atol=1e-6)


@given(SEEDS, SITES)
def test_flexlora_is_the_truncated_svd_of_the_average_of_the_products(seed: int, sites: int) -> None:
    asked = Asked(seed, sites)
    combined = asked.run(flexlora)
    assert (combined.coefficients, combined.frozen) == (None, {})
    check_head(asked, combined)
    for layer in LAYERS:
        u, s, vt = np.linalg.svd(asked.average(layer), full_matrices=False)
        after = asked.after(combined)
        for rank in range(1, RANK + 1):  # a site of smaller rank takes the first parts
            part = {layer + LORA_B: after[layer + LORA_B][:, :rank], layer + LORA_A: after[layer + LORA_A][:rank]}
            assert distance(product(part, layer), (u[:, :rank] * s[:rank]) @ vt[:rank]) < EXACT


@given(SEEDS, st.lists(st.integers(1, RANK), min_size=1, max_size=5))
def test_flexlora_averages_products_of_mixed_ranks(seed: int, ranks: list[int]) -> None:
    """A site of smaller rank sends minus what it received beyond its rank, so that its product has that rank."""
    asked = Asked(seed, len(ranks))
    for rank, (_, update) in zip(ranks, sorted(asked.updates.items()), strict=True):
        for layer in LAYERS:
            update[layer + LORA_B][:, rank:] = -asked.before[layer + LORA_B][:, rank:]
            update[layer + LORA_A][rank:] = -asked.before[layer + LORA_A][rank:]
    after = asked.after(asked.run(flexlora))
    for layer in LAYERS:
        assert [np.linalg.matrix_rank(each) for each in asked.products(layer)] == ranks
        u, s, vt = np.linalg.svd(asked.average(layer), full_matrices=False)
        assert distance(product(after, layer), (u[:, :RANK] * s[:RANK]) @ vt[:RANK]) < EXACT


@given(SEEDS, SITES)
def test_fedex_is_the_average_of_the_products_over_rounds(seed: int, sites: int) -> None:
    asked = Asked(seed, sites)
    dense = {layer: product(asked.before, layer) for layer in LAYERS}
    for number in range(3):
        moved = {layer: asked.average(layer) - product(asked.before, layer) for layer in LAYERS}
        dense = {layer: dense[layer] + moved[layer] for layer in LAYERS}
        combined = asked.run(fedex)
        check_head(asked, combined)
        asked.before, asked.frozen = asked.after(combined), combined.frozen
        asked.updates = Asked(seed + number + 1, sites).updates
        for layer in LAYERS:
            found = product(asked.before, layer) + residual_of(asked.frozen, layer)
            assert distance(found, dense[layer]) < 3 * EXACT
            ranks = {asked.frozen[layer + RESIDUAL_B].shape[1], len(asked.frozen[layer + RESIDUAL_A])}
            assert len(ranks) == 1
            assert max(ranks) <= min(OUT, SIZE)


@given(SEEDS, SITES)
@example(714, 2)  # the sites' products nearly cancel
def test_the_first_residual_of_fedex_is_that_of_the_paper(seed: int, sites: int) -> None:
    asked = Asked(seed, sites)
    frozen = asked.run(fedex).frozen
    updates = [update for _, update in sorted(asked.updates.items())]
    for layer in LAYERS:
        b, a = (
            [asked.before[layer + end].astype(float) + update[layer + end] for update in updates]
            for end in (LORA_B, LORA_A)
        )
        mean_b, mean_a = (sum(c * each for c, each in zip(asked.weights, f, strict=True)) for f in (b, a))
        terms = [c * (one - mean_b) @ (other - mean_a) for c, one, other in zip(asked.weights, b, a, strict=True)]
        expected = np.sum(terms, axis=0)
        size = sum(float(np.linalg.norm(term)) for term in terms)  # terms may nearly cancel, float32 factors do not
        assert np.linalg.norm(residual_of(frozen, layer) - expected) < EXACT * max(1.0, size)
        assert len(frozen[layer + RESIDUAL_A]) <= max(1, min((sites - 1) * RANK, OUT, SIZE))


def test_one_site_leaves_no_residual_and_its_own_factors() -> None:
    asked = Asked(3, 1)
    combined = asked.run(fedex)
    for layer in LAYERS:
        assert np.linalg.norm(residual_of(combined.frozen, layer)) < 1e-12
    np.testing.assert_allclose(combined.update["top.query" + LORA_B], asked.updates["site-0"]["top.query" + LORA_B])


@pytest.mark.parametrize("combine", [flexlora, fedex])
def test_memory_does_not_grow_with_the_number_of_sites(combine: Any) -> None:
    peaks = []
    for sites in (5, 60):
        asked = Asked(1, sites)
        with received(asked.updates, asked.weights) as read:
            round_ = Received(asked.before, {}, read.updates, read.weights)
            combine(round_)  # what is made once in a process is not counted
            tracemalloc.start()
            combine(round_)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 60 * 200  # a few names for each site


def test_averaged_factors_are_not_the_average_of_products() -> None:
    """What the combiners are for; and a check that the tests above can fail."""
    from server_app.combining.rules import linear  # noqa: PLC0415

    asked = Asked(1, 4)
    after = asked.after(asked.run(linear))
    assert distance(product(after, "top.query"), asked.average("top.query")) > 0.05


@pytest.mark.parametrize(
    ("combine", "fault"),
    [(flexlora, "truncated"), (ffa_svd, "refreshed"), (fedex, "factored")],
    ids=["flexlora", "ffa_svd", "fedex"],
)
def test_a_planted_fault_is_caught(combine: Any, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Singular values that get lost on the way: each test above fails."""
    real = getattr(low_rank, fault)

    def careless(*arguments: Any, **options: Any) -> tuple[Matrix, Matrix]:
        b, a = real(*arguments, **options)
        return b / np.maximum(np.linalg.norm(b, axis=0), 1e-12), a

    monkeypatch.setattr(low_rank, fault, careless)
    guards = {
        "truncated": test_flexlora_is_the_truncated_svd_of_the_average_of_the_products,
        "refreshed": test_fedsvd_is_the_average_of_the_products_and_a_is_orthonormal,
        "factored": test_fedex_is_the_average_of_the_products_over_rounds,
    }
    with pytest.raises(AssertionError):
        guards[fault].hypothesis.inner_test(seed=5, sites=3)  # type: ignore[attr-defined]
