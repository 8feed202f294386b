"""What is refused before it can touch the global model or the counts, with the reason."""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays, check_layout, layout
from fedfm.errors import IncompatibleUpdate


def screen_update(update: Arrays, *, like: Arrays, fingerprint: str, cohorts: tuple[int, int]) -> None:
    """Let through only an update that may be averaged.

    Args:
        update: float32 parameters after minus before, as a site sent them.
        like: Global parameters; their names and shapes are the reference.
        fingerprint: The layout that the site says it trained.
        cohorts: Patients that the site declared when it joined, and in this answer.

    Raises:
        IncompatibleUpdate: Another layout, name or shape, a cohort that changed, or a value that is not finite.
    """
    if fingerprint != layout(like):
        raise IncompatibleUpdate(
            "ROUND-E011",
            "the update belongs to another model or adapter",
            found=fingerprint[:12],
            allowed=layout(like)[:12],
            fix="use the same release of fedfm and the same weights at every site",
        )
    check_layout(update, like=like)
    joined, answered = cohorts
    if answered != joined or joined < 1:
        raise IncompatibleUpdate(
            "ROUND-E012",
            "the declared cohort is not the one the site joined with",
            found=str(answered),
            allowed=f"{joined}, and at least 1",
            fix="keep declared_patients in site.yaml for the length of a run; it is the site's weight",
        )
    for name, array in update.items():
        if not np.isfinite(array).all():
            raise IncompatibleUpdate(
                "ROUND-E013",
                f"the update is not finite in {name}",
                found=f"{int((~np.isfinite(array)).sum())} of {array.size} entries",
                fix="lower training.learning_rate; this update was left out, the site is asked again in the next round",
            )


def screen_counts(
    cells: NDArray[np.float64], sums: Mapping[str, float], *, shape: tuple[int, int], noise: tuple[float, float]
) -> None:
    """Let through only cells and sums that may be added to those of the other sites.

    Args:
        cells: float64[C, K] patients by label and score, as a site sent them.
        sums: Sums of explanations.
        shape: (C, K) of the study in this round.
        noise: Standard deviation in each cell, and in each sum.

    Raises:
        IncompatibleUpdate: Another shape, a noise level below 0, or a value that is not finite.
    """
    if cells.shape != shape:
        raise IncompatibleUpdate(
            "ROUND-E014",
            "the counts have another shape",
            found=str(cells.shape),
            allowed=str(shape),
            fix="use the same release of fedfm at every site",
        )
    if not np.isfinite([*cells.flat, *sums.values(), *noise]).all() or min(noise) < 0:
        raise IncompatibleUpdate("ROUND-E015", "the counts are not finite, or their noise is below 0")


def check_answer(site: str, *, expected: str, seen: Collection[str], answered: int, asked: int) -> None:
    """Refuse an answer under another name, a second answer, and an answer to another round.

    Args:
        site: The name that the answer bears.
        expected: The name under which this connection was welcomed.
        seen: Sites that have answered in this round.
        answered: The round that the answer bears.
        asked: The round that was asked for.

    Raises:
        IncompatibleUpdate: One of the three.
    """
    if site != expected:
        raise IncompatibleUpdate("ROUND-E017", "an answer under another name", found=site[:80], allowed=expected)
    if site in seen:
        raise IncompatibleUpdate(
            "ROUND-E016", "a second answer of one site", fix="register each SuperNode once, with its own id"
        )
    if answered != asked:
        raise IncompatibleUpdate("ROUND-E010", "an answer to another round", found=str(answered), allowed=str(asked))
