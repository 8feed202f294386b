"""What is left of a study's use under noise: an expectation from studies that were measured, never a promise."""

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True)
class Measured:
    """A private study that was run several times.

    Attributes:
        study: What was learned from what.
        epsilon: Of a training patient.
        noise_to_signal: Of the averaged update, as ``server_app.planning`` defines it; > 0.
        low: Least share of the gain that was kept: what it was better than chance, over the same without privacy.
        high: Largest share; noise may let it pass 1.
    """

    study: str
    epsilon: float
    noise_to_signal: float
    low: float
    high: float


MEASURED: tuple[Measured, ...] = (
    Measured("icu_tables", 8, 0.0075, 0.95, 0.99),
    Measured("docstrings, 4 x 1000", 8, 0.0131, 0.97, 0.99),
    Measured("heart_disease", 8, 0.0149, 1.00, 1.01),
    Measured("icu_tables", 3, 0.0169, 0.82, 0.92),
    Measured("icu_notes", 8, 0.0254, 0.67, 0.77),
    Measured("docstrings, 1 x 1000", 8, 0.0262, 0.97, 0.98),
    Measured("docstrings, 4 x 1000", 3, 0.0296, 0.92, 0.95),
    Measured("heart_disease", 3, 0.0325, 1.00, 1.01),
    Measured("icu_tables", 1, 0.0442, 0.64, 0.73),
    Measured("docstrings, 4 x 250", 8, 0.0489, 0.91, 0.95),
    Measured("icu_notes", 3, 0.0561, 0.50, 0.71),
    Measured("docstrings, 1 x 1000", 3, 0.0592, 0.91, 0.93),
    Measured("docstrings, 4 x 1000", 1, 0.0776, 0.82, 0.84),
    Measured("heart_disease", 1, 0.0815, 0.97, 1.02),
    Measured("docstrings, 1 x 250", 8, 0.0978, 0.87, 0.91),
    Measured("docstrings, 4 x 250", 3, 0.1078, 0.80, 0.83),
    Measured("icu_notes", 1, 0.1433, -0.15, 0.51),
    Measured("docstrings, 1 x 1000", 1, 0.1552, 0.73, 0.76),
    Measured("docstrings, 1 x 250", 3, 0.2157, 0.67, 0.72),
    Measured("docstrings, 4 x 250", 1, 0.2754, 0.49, 0.64),
    Measured("docstrings, 1 x 250", 1, 0.5508, 0.33, 0.38),
)
"""From quiet to loud.

Source: ``benchmarks/private-utility.json`` for docstrings (accuracy above one in six, of linear probes on frozen MiniLM
at four silos or one of 250 or 1,000 texts, steps chosen for each; low and high are the ends of the 95 % interval of
the mean of five draws) and ``benchmarks/private-utility-public.json`` for hospital data (pooled AUROC above one half,
settings of the experiment at every epsilon; low and high are the extremes of three runs).
"""


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
    """Return the band between the worst study that was no louder and the best that was no quieter.

    Between studies it runs straight on a logarithmic scale.

    Args:
        noise_to_signal: Of the averaged update; >= 0.

    Guarantees:
        Holds every measured study at its own noise, and more noise raises neither end. Quieter than the quietest
        study is as the quietest; louder than the loudest has a low end of 0.
    """
    lows = accumulate((_share(study.low) for study in MEASURED), min)
    highs = list(accumulate((_share(study.high) for study in reversed(MEASURED)), max))[::-1]
    bands = [(study.noise_to_signal, Band(low, high)) for study, low, high in zip(MEASURED, lows, highs, strict=True)]
    if noise_to_signal <= bands[0][0]:
        return bands[0][1]
    for (quiet, before), (loud, after) in pairwise(bands):
        if noise_to_signal <= loud:
            way = math.log(noise_to_signal / quiet) / math.log(loud / quiet)
            return Band(before.low + way * (after.low - before.low), before.high + way * (after.high - before.high))
    return Band(0.0, bands[-1][1].high)


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
