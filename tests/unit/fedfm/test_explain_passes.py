"""Rows of a like length go together: every row once, little padding, no pass too large."""

from itertools import zip_longest

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedfm.errors import ModelError
from fedfm.explain.passes import ENOUGH, MOST, ROWS, STRETCH, logits_of, passes
from tests.unit.fedfm.judged_cases import notes, text_model


@given(st.lists(st.integers(0, 600), max_size=300))
def test_every_row_goes_once_with_little_padding(lengths: list[int]) -> None:
    found = [rows.tolist() for rows in passes(torch.tensor(lengths, dtype=torch.int64))]
    assert sorted(row for rows in found for row in rows) == list(range(len(lengths)))
    assert [lengths[row] for rows in found for row in rows] == sorted(lengths)
    for rows, behind in zip_longest(found, found[1:]):
        held = [lengths[row] for row in rows]
        assert sum(held) <= MOST
        assert 0 < len(held) <= ROWS
        # What comes beyond the stretch comes only while there is not enough.
        assert sum(length for length in held if length <= STRETCH * held[0]) < ENOUGH or held[-1] <= STRETCH * held[0]
        if behind is not None:
            following = lengths[behind[0]]
            is_full = sum(held) + following > MOST or len(held) == ROWS
            assert is_full or (sum(held) >= ENOUGH and following > STRETCH * held[0])


def test_logits_stand_in_the_order_of_the_rows_and_equal_one_by_one() -> None:
    model = text_model()
    inputs = model.inputs(notes(40, seed=2, longest=60))
    found = logits_of(model, lambda rows: inputs.values[rows], inputs.present)
    assert len(passes(inputs.present.sum(1))) > 2
    for row in range(40):
        with torch.no_grad():
            alone = model.logits_from_inputs(inputs.values[row : row + 1], inputs.present[row : row + 1])
        torch.testing.assert_close(found[row], alone[0], atol=1e-5, rtol=1e-4)
    assert not found.requires_grad
    assert logits_of(model, lambda rows: inputs.values[rows], inputs.present[:0]).shape == (0, 2)


def test_hooks_are_refused() -> None:
    model = text_model()
    inputs = model.inputs(notes(2, seed=2))
    model.head.register_forward_hook(lambda *_: None)
    with pytest.raises(ModelError, match="MODEL-E147"):
        logits_of(model, lambda rows: inputs.values[rows], inputs.present)
