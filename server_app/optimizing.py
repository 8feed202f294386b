"""How the coordinator steps along the combined update.

To add an optimiser: write a function with the signature of ``plain``, add it to ``OPTIMIZERS``, and add
``conf/optimizing/<name>.yaml``. Keyword-only arguments are the rule's parameters.
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


OPTIMIZERS: Mapping[str, Callable[..., Step]] = {"none": plain}
