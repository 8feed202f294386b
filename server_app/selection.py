"""Which sites take part in a round (Algorithm 1, line 5, is the call of one of these).

To add a rule: write a function with the signature of ``everyone``, add it to ``SELECTIONS``,
and add ``conf/selection/<name>.yaml``. Further keyword-only arguments are the rule's parameters.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedfm.errors import ConfigError


@dataclass(frozen=True)
class Draw:
    """What a selection may look at besides the sites.

    Attributes:
        round: 1-based number of the round.
        seed: The study's public seed.
        min_sites: Fewest sites that a round needs.
    """

    round: int
    seed: int
    min_sites: int


Selection = Callable[[Sequence[str], Draw], tuple[str, ...]]


def everyone(sites: Sequence[str], draw: Draw) -> tuple[str, ...]:
    """Select all sites."""
    return tuple(sorted(sites))


def fraction(sites: Sequence[str], draw: Draw, *, fraction: float) -> tuple[str, ...]:
    """Select a share of the sites at random, anew in each round (McMahan et al. 2017, arXiv:1602.05629, C).

    The draw depends on seed, round and the sites' names, not on their order.

    Args:
        sites: S names.
        draw: Round, seed and the fewest sites.
        fraction: Share in (0, 1]; rounded up, and never fewer than ``draw.min_sites`` while there are so many.

    Raises:
        ConfigError: ``fraction`` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ConfigError(
            "STUDY-E072", "share out of range", where="selection.params.fraction", found=str(fraction), allowed="(0, 1]"
        )
    ordered = sorted(sites)
    size = min(len(ordered), max(draw.min_sites, math.ceil(fraction * len(ordered))))
    chosen = np.random.default_rng((draw.seed, draw.round)).choice(len(ordered), size=size, replace=False)
    return tuple(sorted(ordered[index] for index in chosen))


SELECTIONS: Mapping[str, Callable[..., tuple[str, ...]]] = {"all": everyone, "fraction": fraction}
