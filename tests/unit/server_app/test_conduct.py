"""Who sends nonsense again and again is no longer asked; who is away, refuses or mends it is."""

from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Error

from fedfm.errors import EngineError
from server_app import app
from server_app.report import events
from server_app.report.event_log import read_events
from server_app.report.events import SiteLeftOut, SiteQuarantined, SiteTrained
from tests.unit.server_app.federation import Hospital, changed, federate, left_out
from tests.unit.server_app.test_resume import Watched, drifting, interrupted_after
from tests.unit.server_app.test_strategy import four, nan_update


def broken_in(*rounds: int) -> Any:
    return lambda reply: nan_update(reply) if reply.round in rounds else reply


def test_nonsense_in_three_rounds_in_a_row_ends_it_for_the_site_alone(tmp_path: Path) -> None:
    liar = Hospital(train=nan_update)
    outcome = federate(four(c1=liar), tmp_path, "rounds=5")
    assert outcome.error is None
    assert outcome.of(SiteQuarantined) == [SiteQuarantined("c1", 4, (1, 2, 3), "ROUND-E013")]
    assert [entry[:2] for entry in left_out(outcome)] == [("c1", 1), ("c1", 2), ("c1", 3)]
    assert max(request.round for request in liar.asked) == 3
    assert [event.sites for event in outcome.of(events.RoundStarted)][3:] == [("a1", "b1", "d1")] * 2


def test_a_good_round_between_bad_ones_is_a_new_start(tmp_path: Path) -> None:
    outcome = federate(four(c1=Hospital(train=broken_in(1, 2, 4, 5))), tmp_path, "rounds=6")
    assert outcome.of(SiteQuarantined) == []


def test_a_site_whose_counts_alone_are_nonsense_is_quarantined_too(tmp_path: Path) -> None:
    outcome = federate(four(b1=Hospital(evaluate=changed(cells=np.ones((2, 3))))), tmp_path, "rounds=5")
    assert [(event.site, event.rounds) for event in outcome.of(SiteQuarantined)] == [("b1", (1, 2, 3))]


def test_a_site_that_refuses_or_fails_is_asked_again_and_again(tmp_path: Path) -> None:
    refusing = Hospital(train=lambda _: Error(1000, "SITE-E104 the budget does not allow it"))
    failing = Hospital(train=lambda _: Error(8, "killed"))
    outcome = federate(four(b1=refusing, c1=failing), tmp_path, "rounds=5")
    assert outcome.of(SiteQuarantined) == []
    assert {(site, number) for site, number, *_ in left_out(outcome)} == {
        (s, n) for s in ("b1", "c1") for n in range(1, 6)
    }


def test_the_study_says_after_how_many_rounds(tmp_path: Path) -> None:
    outcome = federate(four(c1=Hospital(train=nan_update)), tmp_path, "rounds=3", "quarantine_after=1")
    assert [event.round for event in outcome.of(SiteQuarantined)] == [2]


def test_a_quorum_must_be_left_without_the_quarantined(tmp_path: Path) -> None:
    outcome = federate(four(c1=Hospital(train=nan_update)), tmp_path, "rounds=5", "min_sites=4", "quarantine_after=1")
    assert isinstance(outcome.error, EngineError)
    assert outcome.error.code == "ROUND-E020"


def test_a_quarantined_site_is_not_let_in_again_when_the_run_is_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    liar = drifting(2)
    liar.train = nan_update
    study = interrupted_after(2, folder, "rounds=3", "quarantine_after=1", others={"c1": liar})
    app.run(study, Watched(folder, None), folder, memory=tmp_path, is_resumed=True)
    happened = read_events(folder / "events.jsonl")
    refused = [event for event in happened if isinstance(event, SiteLeftOut) and event.code == "ROUND-E032"]
    assert [event.site for event in refused] == ["c1"]
    assert {event.site for event in happened if isinstance(event, SiteTrained)} == {"a1", "b1", "d1"}
    assert "c1 was no longer asked from round 2 on" in (folder / "report.html").read_text()
