"""What the coordinator takes of sites that make exact counts coarser, or withhold them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedfm import wire
from server_app.report import events
from server_app.report.page import write_report
from tests.unit.server_app.federation import Hospital, changed, federate
from tests.unit.server_app.test_lying_sites import HONEST, TABLE, Lie, four, goes_on_without_b1

EXACT = ("rounds=2", "privacy=none", "evaluation=exact", "baseline=alone", "weighting=cohort")


def _exact(cells: Any, *, last: Any = None, **more: Any) -> Lie:
    """Answer exactly: with these cells, or with others in the last evaluation."""

    def answer(reply: wire.EvaluateReply) -> wire.EvaluateReply:
        is_last = reply.round == 2
        of_last = {"groups": {"sex=OTHER": TABLE}, **more} if is_last else {}
        sent = cells if last is None or not is_last else last
        return replace(reply, cells=sent, cells_sd=0.0, groups_sd=0.0, losses={}, explanation={}, **of_last)

    return answer


NONE, HALVES = np.zeros((2, 0)), np.full((2, 2), 20.0)


@pytest.mark.parametrize(
    ("answer", "rounds_left_out"),
    [
        (_exact(NONE), []),
        (_exact(HALVES), []),
        (_exact(NONE, last=HALVES, alone=HALVES), []),
        (_exact(NONE, last=np.full((2, 10), 12.0), alone=NONE), []),
        (_exact(np.zeros((2, 1))), [1, 2]),
        (_exact(HALVES, last=np.full((2, 4), 12.0)), [2]),
        (_exact(NONE, alone=np.full((2, 4), 12.0)), [2]),
        (_exact(np.zeros((3, 0))), [1, 2]),
    ],
)
def test_exact_counts_may_be_coarser_or_withheld(answer: Lie, rounds_left_out: list[int], tmp_path: Path) -> None:
    """A site without small cells takes part as before: what it withholds is not told, and ends nothing."""
    everywhere = {name: Hospital(evaluate=_exact(NONE)) for name in HONEST}
    outcome = federate({**everywhere, "b1": Hospital(evaluate=answer)}, tmp_path, *EXACT)
    assert outcome.error is None
    left = outcome.of(events.SiteLeftOut)
    assert [(event.site, event.phase, event.code, event.round) for event in left] == [
        ("b1", "evaluation", "ROUND-E014", number) for number in rounds_left_out
    ]
    write_report(outcome.folder)
    for combined in outcome.of(events.RoundCombined):
        assert combined.weights == {name: pytest.approx(0.25) for name in (*HONEST, "b1")}


@pytest.mark.parametrize("cells_of", [NONE, HALVES], ids=["none", "halves"])
def test_noised_counts_are_neither_coarser_nor_withheld(cells_of: Any, tmp_path: Path) -> None:
    """Whether a site leaves out noised counts would tell of its patients."""
    outcome = federate(four(Hospital(evaluate=changed(cells=cells_of))), tmp_path, "rounds=1")
    goes_on_without_b1(outcome, phase="evaluation", code="ROUND-E014")
