"""What is left of a study's use under noise: an expectation from studies that were measured, never a promise."""

import math
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Measured:
    """Studies of about one noise-to-signal.

    Attributes:
        noise_to_signal: Of the averaged update, as ``server_app.planning`` defines it; > 0.
        low: Least share of the gain that was kept: accuracy above chance, over the same without privacy.
        high: Largest share.
    """

    noise_to_signal: float
    low: float
    high: float


MEASURED = (Measured(0.0, 1.0, 1.0),)
STUDIES = 0


@dataclass(frozen=True)
class Band:
    """Share of what training without privacy would gain over chance that a study is expected to keep.

    Attributes:
        low: In [0, 1].
        high: In [low, 1].
    """

    low: float
    high: float


def expected(noise_to_signal: float) -> Band:
    """Return the band, straight between measured studies on a logarithmic scale.

    Args:
        noise_to_signal: Of the averaged update; >= 0.

    Guarantees:
        Less noise never lowers either end; quieter than the quietest study measured is the same as it, and louder
        than the loudest has a low end of 0.
    """
    for quiet, loud in pairwise(MEASURED):
        if noise_to_signal <= quiet.noise_to_signal:
            return Band(quiet.low, quiet.high)
        if noise_to_signal <= loud.noise_to_signal:
            way = math.log(noise_to_signal / quiet.noise_to_signal) / math.log(
                loud.noise_to_signal / quiet.noise_to_signal
            )
            return Band(quiet.low + way * (loud.low - quiet.low), quiet.high + way * (loud.high - quiet.high))
    return Band(0.0, MEASURED[-1].high)
