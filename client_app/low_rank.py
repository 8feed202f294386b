"""What a site loads beside the trained parameters, and the rank that it trains at.

The coordinator may change nothing but what the study's combiner names (``fedfm.low_rank.FROZEN``): A, or a low-rank
residual of the adapted weights. All else stays as the study and its seed build it.
"""

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from client_app.cohorts import Prepared
from fedfm.arrays import Arrays, check_layout
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import WireError
from fedfm.low_rank import FROZEN, LORA_A, LORA_B, RESIDUAL_A, RESIDUAL_B, adapted
from fedfm.model.low_rank import at_rank


def check_frozen(study: Study, start: Arrays, received: Arrays, *, built: Arrays) -> None:
    """Let through only the frozen arrays that the study's combiner sends, of the right names and shapes.

    Args:
        study: Names the combiner.
        start: The trained parameters; their names say which layers are adapted.
        received: As it came.
        built: What is replaced.

    Raises:
        WireError: The study's combiner sends none.
        IncompatibleUpdate: A name or a shape differs.
    """
    kind = FROZEN.get(study.combining.rule)
    if received and kind is None:
        raise WireError(
            "SITE-E166",
            "frozen parameters that the study does not change",
            where="frozen parameters of the request",
            found=f"{len(received)} arrays",
            allowed=f"none with combining.rule: {study.combining.rule}",
            fix="the coordinator must mend it",
        )
    if kind == "factor":
        check_layout(received, like=built)
    elif received:
        check_layout(received, like=_residual_like(start, received))


def at_own_rank(site: Site, study: Study, prepared: Prepared) -> AbstractContextManager[None]:
    """Return a block in which the model has the site's largest rank, where that is below the study's."""
    if not site.max_rank or study.adapter.method not in ("lora", "ffa_lora"):
        return nullcontext()
    return at_rank(prepared.model, site.max_rank)


def _residual_like(start: Arrays, received: Arrays) -> Arrays:
    """Return arrays of the names and shapes that a residual may have; its rank is the sender's choice."""
    like: Arrays = {}
    for layer in adapted(start):
        out, size = len(start[layer + LORA_B]), start[layer + LORA_A].shape[1]
        b = received.get(layer + RESIDUAL_B)
        rank = b.shape[1] if b is not None and b.ndim == 2 and 1 <= b.shape[1] <= min(out, size) else 1
        like[layer + RESIDUAL_B] = np.empty((out, rank), np.float32)
        like[layer + RESIDUAL_A] = np.empty((rank, size), np.float32)
    return like
