"""Changes of basis are exact against dense products, nearest where they cut, and the same on every machine."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfm.low_rank import Matrix, factored, refreshed, residual_of, truncated

EXACT = 1e-12

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 5), st.integers(0, 9999))


def pair(shape: tuple[int, int, int, int, int]) -> tuple[Matrix, Matrix]:
    """Factors of rank r whose B is of the lower rank k."""
    out, size, rank, of_b, seed = shape
    chance = np.random.default_rng(seed)
    b = chance.normal(size=(out, min(of_b, rank))) @ chance.normal(size=(min(of_b, rank), rank))
    return b, chance.normal(size=(rank, size))


def close(found: Matrix, expected: Matrix) -> bool:
    return bool(np.linalg.norm(found - expected) <= EXACT * max(1.0, float(np.linalg.norm(expected))))


@given(shapes)
def test_a_refreshed_a_keeps_the_product_and_its_rows_are_orthonormal(shape: tuple[int, int, int, int, int]) -> None:
    b, a = pair(shape)
    new_b, new_a = refreshed(b, a)
    assert (new_b.shape, new_a.shape) == (b.shape, a.shape)
    assert close(new_b @ new_a, b @ a)
    kept = min(a.shape)
    assert close(new_a[:kept] @ new_a[:kept].T, np.eye(kept))  # also where B is zero
    assert (new_a[kept:] == 0).all()
    assert close(new_a[:kept].T @ (new_a[:kept] @ a.T), a.T)  # it spans what A spans
    norms = np.linalg.norm(new_b, axis=0)
    assert close(norms[:kept], np.resize(np.append(np.linalg.svd(b @ a)[1], np.zeros(kept)), kept))


@given(shapes, st.integers(1, 8))
def test_each_part_of_a_cut_product_is_the_nearest_of_its_rank(
    shape: tuple[int, int, int, int, int], rank: int
) -> None:
    product = np.random.default_rng(shape[4]).normal(size=shape[:2])
    b, a = truncated(product, rank)
    assert (b.shape, a.shape) == ((shape[0], rank), (rank, shape[1]))
    u, s, vt = np.linalg.svd(product, full_matrices=False)
    for part in range(1, rank + 1):
        nearest = (u[:, :part] * s[:part]) @ vt[:part]
        assert close(b[:, :part] @ a[:part], nearest)


def test_a_cut_product_of_lower_rank_keeps_directions_to_learn_along() -> None:
    b, a = truncated(np.outer([1.0, 2.0, 0.0], [0.0, 1.0, 1.0, 0.0]), 3)
    assert np.linalg.norm(b[:, 1:]) < EXACT
    assert close(a @ a.T, np.eye(3))  # zero rows beside zero columns would never learn


@given(shapes)
def test_factors_of_a_whole_product_are_exact_and_no_more_than_its_rank(shape: tuple[int, int, int, int, int]) -> None:
    b, a = pair(shape)
    new_b, new_a = factored(b @ a)
    assert close(new_b @ new_a, b @ a)
    assert 1 <= len(new_a) == new_b.shape[1] <= max(1, min(shape[0], shape[1], shape[2], shape[3]))
    assert np.allclose(np.linalg.norm(new_b, axis=0), np.linalg.norm(new_a, axis=1))


def test_factors_do_not_depend_on_the_signs_that_a_machine_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    b, a = pair((6, 5, 3, 3, 1))
    before = (*refreshed(b, a), *truncated(b @ a, 3), *factored(b @ a))
    real = np.linalg.svd

    def turned(matrix: Matrix, **options: bool) -> tuple[Matrix, Matrix, Matrix]:
        u, s, vt = real(matrix, **options)
        return -u, s, -vt

    monkeypatch.setattr(np.linalg, "svd", turned)
    after = (*refreshed(b, a), *truncated(b @ a, 3), *factored(b @ a))
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_no_residual_is_nothing() -> None:
    assert residual_of({}, "layer") == 0.0
