"""The statistics round: honest sums are pooled and sent to all; a site that lies costs only its own sums."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, RecordDict

from fedfm import wire, wire_records
from fedfm.arrays import from_bytes
from fedfm.errors import EngineError
from server_app.report import events
from server_app.report.page import write_report
from tests.unit.server_app.federation import SPENT, Hospital, Outcome, changed, client_app, federate
from tests.unit.server_app.test_strategy import LateGrid

GLOBAL = ("standardize=global", "rounds=2")


def four(**special: Hospital) -> dict[str, Hospital]:
    return {name: special.get(name, Hospital()) for name in ("a1", "b1", "c1", "d1")}


def requests_of(hospital: Hospital, *, of_round: int) -> list[wire.Request]:
    return [request for request in hospital.asked if request.round == of_round and request.parameters]


def test_the_pooled_statistics_go_to_every_site_with_every_request(tmp_path: Path) -> None:
    hospitals = four(a1=Hospital(patients=300))
    outcome = federate(hospitals, tmp_path, *GLOBAL)
    assert outcome.error is None
    (pooled,) = outcome.of(events.StatisticsPooled)
    assert pooled.sites == ("a1", "b1", "c1", "d1")
    assert pooled.prevalence["recovered"].value == pytest.approx(0.5, abs=1e-6)
    assert pooled.states["mean"].value == pytest.approx(1.0, abs=0.05)
    assert pooled.states["mean"].sd > 0
    assert len(outcome.of(events.SiteSummarised)) == 4
    for hospital in hospitals.values():
        for number in (1, 2):
            asked = requests_of(hospital, of_round=number)
            assert len(asked) == 2  # training and evaluation
            for request in asked:
                np.testing.assert_allclose(request.statistics["mean"], [1, 0, 0], atol=0.05)
                assert request.statistics["scale"].shape == (1,)
    kept = from_bytes((tmp_path / "statistics.safetensors").read_bytes())
    assert all(np.array_equal(kept[name], request.statistics[name]) for name in kept)
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "What the model's input is standardised by" in page
    assert "50 % ±" in page


@pytest.mark.parametrize("method", ["reference", "site", "none"])
def test_other_studies_ask_for_no_sums_and_send_no_statistics(method: str, tmp_path: Path) -> None:
    hospitals = four()
    outcome = federate(hospitals, tmp_path, f"standardize={method}", "rounds=1")
    assert outcome.error is None
    assert not outcome.of(events.StatisticsPooled)
    asked = [request for hospital in hospitals.values() for request in hospital.asked]
    assert len(asked) == 4 * 3  # description, training, evaluation
    assert not any(request.statistics for request in asked)


def test_a_late_site_gets_the_same_statistics_and_is_not_asked_for_sums(tmp_path: Path) -> None:
    hospitals = four()
    grid = LateGrid(client_app(hospitals), {name: Path(f"/{name}.yaml") for name in hospitals})
    outcome = federate(hospitals, tmp_path, "standardize=global", "rounds=3", grid=grid)
    assert outcome.of(events.StatisticsPooled)[0].sites == ("a1", "c1", "d1")
    late, early = (requests_of(hospitals[name], of_round=3)[0].statistics for name in ("b1", "a1"))
    assert all(np.array_equal(late[name], early[name]) for name in early)
    assert sum(not request.parameters for request in hospitals["b1"].asked) == 1  # its description


def sums(change: Callable[[Any], Any], **more: Any) -> Callable[[Any], Any]:
    return lambda reply: replace(reply, sums=change(reply.sums.copy()), **more)


def first(value: float) -> Callable[[Any], Any]:
    def set_first(found: Any) -> Any:
        found[0] = value
        return found

    return set_first


LIES = {
    "not a number": (sums(first(math.nan)), "ROUND-E030"),
    "infinite": (sums(first(math.inf)), "ROUND-E030"),
    "beyond any cohort": (sums(first(1e6)), "ROUND-E030"),
    "below any cohort": (sums(first(-1e6)), "ROUND-E030"),
    "too short": (sums(lambda found: found[:-1]), "ROUND-E030"),
    "a table": (sums(lambda found: found.reshape(2, 3)), "WIRE-E002"),
    "more noise than can be": (changed(sums_sd=1e4), "ROUND-E030"),
    "less noise than none": (changed(sums_sd=-1.0), "ROUND-E030"),
    "endless noise": (changed(sums_sd=math.inf), "ROUND-E030"),
    "seconds": (changed(seconds=-1.0), "ROUND-E019"),
    "privacy": (changed(privacy=replace(SPENT, train=-1.0)), "ROUND-E019"),
    "another round": (changed(round=1), "ROUND-E010"),
    "another name": (changed(site="a1"), "ROUND-E017"),
    "an empty message": (lambda _: RecordDict(), "WIRE-E001"),
    "a refusal": (lambda _: Error(1000, "SITE-E104 the privacy budget"), "SITE-E104"),
    "a stranger's text": (lambda _: Error(2, "ValueError: Jane Doe, MRN 12345"), "FLOWER-E002"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_sums_costs_only_the_liars_sums(lie: str, tmp_path: Path) -> None:
    change, code = LIES[lie]
    hospitals = four(b1=Hospital(summarise=change))
    outcome = federate(hospitals, tmp_path, *GLOBAL)
    assert outcome.error is None
    (left,) = outcome.of(events.SiteLeftOut)
    assert (left.site, left.round, left.phase, left.code) == ("b1", 0, "statistics", code)
    assert outcome.of(events.StatisticsPooled)[0].sites == ("a1", "c1", "d1")
    assert set(outcome.of(events.RoundCombined)[0].weights) == {"a1", "b1", "c1", "d1"}  # it still trains
    assert requests_of(hospitals["b1"], of_round=1)[0].statistics
    judged = write_report(tmp_path)
    assert any("left out of the statistics before round 1" in reason for reason in judged.reasons)
    assert "Jane Doe" not in (tmp_path / "events.jsonl").read_text()


def test_a_site_that_lies_as_far_as_it_may_leaves_statistics_that_all_can_use(tmp_path: Path) -> None:
    outcome = federate(four(b1=Hospital(summarise=sums(lambda found: found * 0 - 600.0))), tmp_path, *GLOBAL)
    assert not outcome.of(events.SiteLeftOut)
    kept = from_bytes((tmp_path / "statistics.safetensors").read_bytes())
    assert np.abs(kept["mean"]).max() <= 2.0
    assert 0.2 < kept["scale"][0] <= 1.0


def test_too_few_sums_end_the_run(tmp_path: Path) -> None:
    silent = Hospital(summarise=lambda _: Error(1000, "SITE-E104 the privacy budget"))
    outcome: Outcome = federate(four(a1=silent, b1=silent, c1=silent), tmp_path, *GLOBAL)
    assert isinstance(outcome.error, EngineError)
    assert "too few sites for the statistics" in str(outcome.error)
    assert not outcome.of(events.RoundStarted)


def test_what_breaks_over_one_answer_costs_only_that_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(records: RecordDict) -> wire.SummariseReply:
        reply = wire_records.summarise_reply_from_records(records)
        if reply.site == "b1":
            raise ZeroDivisionError("Jane Doe, MRN 12345")
        return reply

    monkeypatch.setattr("server_app.statistics.summarise_reply_from_records", breaks)
    outcome = federate(four(), tmp_path, *GLOBAL)
    (left,) = outcome.of(events.SiteLeftOut)
    assert (left.code, left.reason) == ("ROUND-E018", "unreadable answer (ZeroDivisionError)")
