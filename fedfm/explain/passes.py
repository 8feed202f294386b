"""Which rows go through a model together, so that little of it is padding."""

from collections.abc import Callable

import torch
from torch import Tensor

from fedfm.explain.guard import refuse_hooks
from fedfm.model.classifier import Classifier

ENOUGH, MOST, ROWS = 512, 2048, 64
"""Units with which a pass may end; most units of a pass, more make none quicker, but a row may have more; most rows."""

STRETCH = 1.1
"""How much longer than the first row of a pass another may be, once there are enough."""


def passes(lengths: Tensor) -> list[Tensor]:
    """Return the places of rows of these int64[R] lengths, those of a like length together, shortest first."""
    order = lengths.argsort(stable=True)
    together: list[int] = []  # how many rows each pass has
    room = first = 0
    for length in lengths[order].tolist():
        is_enough = together and MOST - room >= ENOUGH and length > STRETCH * first
        if not together or length > room or together[-1] == ROWS or is_enough:
            together.append(0)
            room, first = MOST, length
        together[-1] += 1
        room -= length
    return list(torch.split(order, together))


def logits_of(model: Classifier, values: Callable[[Tensor], Tensor], present: Tensor) -> Tensor:
    """Return float32[R, C] logits, without gradients; a row's do not depend on another's, up to rounding.

    Args:
        model: Without hooks.
        values: From the places of rows int64[N] to their float32[N, U, D] units.
        present: bool[R, U], as in ``Inputs``.

    Raises:
        ModelError: Hooks are attached.
    """
    refuse_hooks(model)
    found = torch.zeros((len(present), model.labels), dtype=torch.float32, device=present.device)
    with torch.no_grad():
        for rows in passes(present.sum(1)):
            found[rows] = model.logits_from_inputs(values(rows), present[rows])
    return found
