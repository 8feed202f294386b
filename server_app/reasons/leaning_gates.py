"""Limits on how a site's update leans on the study's lists, on public examples: pure, over figures by document.

What a site is sent may lean on words that another site has taught: so each update is held against the model that it
began from, document by document. The chance of being wrong about a site that must fail two limits is the larger of
their chances (Berger 1982); chances are adjusted over sites (Holm 1979). Intervals are of the documents
(``fedfm.metrics.bootstrap``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedfm.explanations import ENRICHMENT_MOST, SHIFT_RISE_MOST, rises
from fedfm.metrics import bootstrap
from fedfm.metrics.bootstrap import Figures
from server_app.reasons.explanation_gates import CHANCE, Gate, adjusted


def of_sites(
    trained: Mapping[str, Mapping[str, Figures]], received: Mapping[str, Figures], rng: np.random.Generator
) -> list[Gate]:
    """Judge every site by every list: ``shortcut:NAME`` and ``swap:NAME``.

    Args:
        trained: Site to the figures of its own model, as ``fedfm.explain.audit.audit`` gives them; float64[N], N >= 1.
        received: The figures of lists of the model that the sites were sent, on the same documents.
        rng: Draws documents.
    """
    risen = {site: rises(figures, received) for site, figures in trained.items()}
    found = []
    for name in rises(received, received):
        figure, _, words = name.partition(":")
        of = {site: figures[name] for site, figures in risen.items()}
        if figure == "swap_rise":
            found += swaps(words, of, rng)
        else:
            share = received[f"shortcut_share:{words}"]
            masses = {site: figures[f"shortcut_mass:{words}"] for site, figures in trained.items()}
            found += shortcuts(words, of, masses=masses, share=share, rng=rng)
    return found


def shortcuts(
    name: str,
    of: Mapping[str, Figures],
    *,
    masses: Mapping[str, Figures],
    share: Figures,
    rng: np.random.Generator,
) -> list[Gate]:
    """Fails where words of the list hold more credit than in the received model, and too much for their number.

    Args:
        name: The list's.
        of: Site to float64[N], the rise of the share of all credit that its words hold.
        masses: Site to float64[N], that share.
        share: float64[N], the share of the words that are of the list.
        rng: Draws documents.
    """
    gate = f"shortcut:{name}"
    if not share.any():
        return [Gate(gate, site, None, None, 0.0, "no public example holds a word of the list") for site in of]
    drawn = {}
    for site, rise in of.items():
        risen, excess = bootstrap.means(np.stack([rise, masses[site] - ENRICHMENT_MOST * share]), rng)
        drawn[site] = _Drawn(rise, risen, max(bootstrap.chance(risen <= 0), bootstrap.chance(excess <= 0)))
    return _judged(gate, drawn, limit=0.0, reasons=_OF_SHORTCUTS)


_OF_SHORTCUTS = {
    True: "nothing says that its training adds to what words of the list decide beyond their number",
    False: "words of the list decide more than their number says, and its training adds to that",
}


def swaps(name: str, of: Mapping[str, Figures], rng: np.random.Generator) -> list[Gate]:
    """Fails where exchanging phrases moves answers by more than ``SHIFT_RISE_MOST`` above the received model's.

    Args:
        name: The list's.
        of: Site to float64[N], the rise of how much an exchange changes the predicted class's probability.
        rng: Draws documents.
    """
    drawn = {}
    for site, rise in of.items():
        risen = bootstrap.means(rise, rng)
        drawn[site] = _Drawn(rise, risen, bootstrap.chance(risen <= SHIFT_RISE_MOST))
    return _judged(f"swap:{name}", drawn, limit=SHIFT_RISE_MOST, reasons=_OF_SWAPS)


_OF_SWAPS = {
    True: "nothing says that its training lets phrases that are exchanged move answers more",
    False: "exchanging phrases moves its model's answers, and its training adds to that",
}


@dataclass(frozen=True)
class _Drawn:
    """One site's rise: float64[N], float64[draws] means of it, and the chance that its gate holds after all."""

    rise: Figures
    means: Figures
    chance: float


def _judged(gate: str, of: Mapping[str, _Drawn], *, limit: float, reasons: Mapping[bool, str]) -> list[Gate]:
    found = []
    for (site, one), chance in zip(of.items(), adjusted([one.chance for one in of.values()]), strict=True):
        estimate, passed = bootstrap.percentiles(float(one.rise.mean()), one.means), chance >= CHANCE
        found.append(Gate(gate, site, passed, estimate, limit, reasons[passed]))
    return found
