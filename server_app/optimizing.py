"""How the coordinator steps along the combined update.

To add an optimiser: write a function with the signature of ``plain``, add it to ``OPTIMIZERS``, say in
``fedfm.config.coherence.combining`` what its parameters may be, and add ``conf/optimizing/<name>.yaml``. Keyword-only
arguments are the rule's parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from server_app.combining.received import Update

Moments = Mapping[str, NDArray[np.float64]]
"""What an optimiser keeps between rounds; empty before the first."""


@dataclass(frozen=True)
class Step:
    """What is added to the global parameters, float64, and what the optimiser keeps."""

    update: Update
    moments: Moments = field(default_factory=dict)


def plain(update: Update, moments: Moments) -> Step:
    """Step by the combined update itself."""
    return Step(update)


def momentum(update: Update, moments: Moments, *, momentum: float, learning_rate: float) -> Step:
    """Step by a running sum of the rounds' updates.

    velocity = momentum * velocity + update; the step is learning_rate * velocity. In the long run a step is
    learning_rate / (1 - momentum) times as long as without.

    Args:
        update: float64, from the combiner.
        moments: The velocity so far.
        momentum: Part of the velocity that is kept, in [0, 1).
        learning_rate: Above 0.

    Guarantees:
        momentum = 0 and learning_rate = 1 step by the update itself.

    Source: FedAvgM, Hsu, Qi and Brown 2019, arXiv:1909.06335.
    """
    velocity = {name: momentum * _kept(moments, "velocity", name, array) + array for name, array in update.items()}
    return Step(
        {name: learning_rate * array for name, array in velocity.items()},
        {f"velocity.{name}": array for name, array in velocity.items()},
    )


def adam(update: Update, moments: Moments, *, beta1: float, beta2: float, tau: float, learning_rate: float) -> Step:
    """Step by the mean of the rounds' updates over the root of their mean square, each entry at its own scale.

    As published: the moments are not corrected for their start. The squares start at tau**2, the least that the
    algorithm allows.

    Args:
        update: float64, from the combiner.
        moments: First and second moments so far.
        beta1: Part of the first moment that is kept, in [0, 1).
        beta2: Part of the second moment that is kept, in [0, 1).
        tau: Added to the root; entries far below it step as with momentum; above 0.
        learning_rate: Length of a step of an entry that keeps its direction; above 0.

    Source: FedAdam, Reddi et al. 2021 (ICLR), arXiv:2003.00295, algorithm 2.
    """

    def squares(before: NDArray[np.float64], square: NDArray[np.float64]) -> NDArray[np.float64]:
        return beta2 * before + (1 - beta2) * square

    return _adaptive(update, moments, squares, scale=(beta1, tau, learning_rate))


def yogi(update: Update, moments: Moments, *, beta1: float, beta2: float, tau: float, learning_rate: float) -> Step:
    """Step as ``adam`` does, but let the mean square change by no more than (1 - beta2) times the new square.

    So the scale of an entry that was large falls slowly when its updates become small; parameters as for ``adam``.

    Source: FedYogi, Reddi et al. 2021 (ICLR), arXiv:2003.00295, algorithm 2.
    """

    def squares(before: NDArray[np.float64], square: NDArray[np.float64]) -> NDArray[np.float64]:
        return before - (1 - beta2) * square * np.sign(before - square)

    return _adaptive(update, moments, squares, scale=(beta1, tau, learning_rate))


_Squares = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def _adaptive(update: Update, moments: Moments, squares: _Squares, *, scale: tuple[float, float, float]) -> Step:
    beta1, tau, learning_rate = scale
    step: dict[str, NDArray[np.float64]] = {}
    kept: dict[str, NDArray[np.float64]] = {}
    for name, array in update.items():
        first = beta1 * _kept(moments, "first", name, array) + (1 - beta1) * array
        second = squares(_kept(moments, "second", name, array, start=tau**2), np.square(array))
        step[name] = learning_rate * first / (np.sqrt(second) + tau)
        kept |= {f"first.{name}": first, f"second.{name}": second}
    return Step(step, kept)


def _kept(
    moments: Moments, kind: str, name: str, like: NDArray[np.float64], *, start: float = 0.0
) -> NDArray[np.float64]:
    """Return what was kept of a parameter, or its start before the first round."""
    return moments[f"{kind}.{name}"] if moments else np.full_like(like, start)


OPTIMIZERS: Mapping[str, Callable[..., Step]] = {"none": plain, "momentum": momentum, "adam": adam, "yogi": yogi}
