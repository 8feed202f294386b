"""How much of the reasons falls on words that must not decide."""

from collections.abc import Sequence

from fedfm.explain.words import Credits, occurrences, shares


def mass_and_share(credits_: Credits, names: Sequence[str], phrases: Sequence[str]) -> tuple[float, float]:
    """Return the share of all credit on the listed words, and the share of the words that are listed.

    Both in [0, 1]; 0 where there is no credit at all, and where there is no word. Where reasons do not care for
    the list, the two are alike.

    Args:
        credits_: float64[W] credit of each word or column.
        names: The W words or columns.
        phrases: The list: words, phrases or columns.
    """
    places = [place for found in occurrences(names, phrases) for place in found]
    if not places:
        return 0.0, 0.0
    return min(float(shares(credits_)[places].sum()), 1.0), len(places) / len(names)


def enrichment(mass: float, share: float) -> float | None:
    """Return how many times the credit the listed words hold that words hold on average; None where none is listed.

    Args:
        mass: Share of all credit on the listed words, of a document or summed over documents.
        share: Share of the words that are listed, likewise.
    """
    return mass / share if share > 0 else None
