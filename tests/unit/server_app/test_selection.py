"""Which sites are asked: by loss, by what they have spent, and never the same few for ever."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfm.config.compose import compose_study
from fedfm.errors import ConfigErrors
from fedfm.signals import SELECTION_NEEDS
from fedfm.wire import PrivacySpent
from server_app.attendance import Attendance
from server_app.report import events
from server_app.roster import Member
from server_app.selection import SELECTIONS, Candidate, Draw, budget_aware, power_of_choice
from server_app.weighting.heard import Signal
from tests.unit.server_app.federation import SPENT, Hospital, Outcome, changed, client_app, federate
from tests.unit.server_app.test_strategy import LateGrid, SilentGrid

PARAMETERS: dict[str, dict[str, Any]] = {
    "all": {},
    "fraction": {"fraction": 0.4},
    "power_of_choice": {"fraction": 0.4, "candidates": 3},
    "budget_aware": {"fraction": 0.4, "longest_rest": 4},
}
SITES = tuple(f"site-{index}" for index in range(10))

known = st.builds(
    Candidate,
    declared_patients=st.integers(1, 10**6),
    loss=st.none() | st.builds(Signal, st.floats(0, 2), st.floats(0, 1)),
    spent=st.floats(0, 3),
    waited=st.integers(0, 60),
    failures=st.integers(0, 200),
    since_failure=st.integers(0, 60),
)
drawn = st.builds(
    Draw,
    round=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
    min_sites=st.integers(1, 6),
    candidates=st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), known, min_size=1, max_size=9),
)


@pytest.mark.parametrize("rule", SELECTIONS)
@given(draw=drawn)
def test_a_selection_is_of_the_sites_large_enough_and_free_of_their_order(rule: str, draw: Draw) -> None:
    sites = list(draw.candidates)
    chosen = SELECTIONS[rule](sites, draw, **PARAMETERS[rule])
    assert set(chosen) <= set(sites)
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) >= min(len(sites), draw.min_sites)
    turned = replace(draw, candidates=dict(reversed(draw.candidates.items())))
    assert SELECTIONS[rule](sites[::-1], turned, **PARAMETERS[rule]) == chosen


def test_every_rule_says_what_it_needs() -> None:
    assert set(SELECTION_NEEDS) == set(SELECTIONS) == set(PARAMETERS)


@pytest.mark.parametrize("rule", ["fraction", "power_of_choice", "budget_aware"])
def test_every_site_is_asked_again_and_again(rule: str) -> None:
    """Losses and shares that never change would leave the same ones out for ever."""
    waited, longest = dict.fromkeys(SITES, 1), 0
    for number in range(1, 400):
        candidates = {
            site: Candidate(100, Signal(0.1 * place, 0.0), 0.1 * place, waited=waited[site])
            for place, site in enumerate(SITES)
        }
        chosen = SELECTIONS[rule](SITES, Draw(number, 3, 2, candidates), **PARAMETERS[rule])
        waited = {site: 1 if site in chosen else waited[site] + 1 for site in SITES}
        longest = max(longest, *waited.values())
    bound = 4 * math.ceil(len(SITES) / 4) + math.ceil(len(SITES) / 4)  # patience, then one's turn among those due
    assert longest <= (60 if rule == "fraction" else bound)


def candidates_of(**changes: dict[str, Any]) -> dict[str, Candidate]:
    return {site: replace(Candidate(100), **changes.get(site.replace("-", "_"), {})) for site in SITES}


def test_those_that_fare_worst_are_chosen_of_those_drawn() -> None:
    losses = {f"site_{place}": {"loss": Signal(place / 10, 0.0)} for place in range(10)}
    draw = Draw(1, 1, 2, candidates_of(**losses))
    assert power_of_choice(SITES, draw, fraction=0.3, candidates=10) == ("site-7", "site-8", "site-9")


def test_candidates_are_drawn_in_proportion_to_their_cohorts() -> None:
    large = {"site_0": {"declared_patients": 900}}  # as many as the nine others
    counts = Counter(
        site
        for number in range(2000)
        for site in power_of_choice(SITES, Draw(number, 1, 1, candidates_of(**large)), fraction=0.1, candidates=1)
    )
    assert abs(counts["site-0"] - 1000) < 4 * math.sqrt(2000 * 0.25)


def test_a_site_that_withholds_its_loss_takes_part_as_often_as_the_mean_of_the_others() -> None:
    losses = {f"site_{place}": {"loss": Signal(place / 10, 0.0)} for place in range(1, 10)}
    draws = [Draw(number, 1, 1, candidates_of(**losses)) for number in range(2000)]
    counts = Counter(site for draw in draws for site in power_of_choice(SITES, draw, fraction=0.5, candidates=10))
    assert abs(counts["site-0"] - 1000) < 200  # neither never nor always: its place among nine is drawn
    assert counts["site-9"] == 2000
    assert counts["site-1"] == 0  # until it is due


def test_without_any_loss_the_choice_is_that_of_the_draw_alone() -> None:
    draws = [Draw(number, 1, 1, candidates_of()) for number in range(2000)]
    counts = Counter(site for draw in draws for site in power_of_choice(SITES, draw, fraction=0.3, candidates=6))
    assert max(abs(counts[site] - 600) for site in SITES) < 5 * np.sqrt(2000 * 0.3 * 0.7)


def test_those_that_have_spent_least_are_chosen() -> None:
    spent = {f"site_{place}": {"spent": place / 10} for place in range(10)}
    chosen = budget_aware(SITES, Draw(1, 1, 2, candidates_of(**spent)), fraction=0.3, longest_rest=8)
    assert chosen == ("site-0", "site-1", "site-2")


@pytest.mark.parametrize(
    ("failures", "since", "is_asked"),
    [
        (0, 0, True),
        (1, 1, False),
        (1, 2, True),
        (2, 2, False),
        (2, 3, True),
        (4, 4, False),
        (4, 5, True),
        (90, 5, True),
    ],
)
def test_a_site_rests_twice_as_long_after_each_failure(failures: int, since: int, is_asked: bool) -> None:
    draw = Draw(9, 1, 2, candidates_of(site_0={"failures": failures, "since_failure": since}))
    assert ("site-0" in budget_aware(SITES, draw, fraction=1.0, longest_rest=4)) == is_asked


def test_a_resting_site_is_asked_where_there_are_too_few_others() -> None:
    resting = {f"site_{place}": {"failures": place, "since_failure": 1} for place in range(1, 10)}
    draw = Draw(9, 1, 3, candidates_of(**resting))
    chosen = budget_aware(SITES, draw, fraction=0.1, longest_rest=64)
    assert chosen == ("site-0", "site-1", "site-2")  # awake, and those that will soon be


def test_attendance_is_what_the_events_tell() -> None:
    attendance, spent = Attendance(2), replace(SPENT, run=0.6, planned=2.4)
    for event in (
        events.SiteJoined("a", 0, 60, "cpu", (), SPENT),
        events.SiteJoined("b", 0, 60, "cpu", (), SPENT),
        events.RoundStarted(1, ("a", "b"), 10),
        events.SiteTrained("a", 1, 1.0, 1.0, 10, spent),
        events.SiteLeftOut("b", 1, "training", "ROUND-E002", "late"),
        events.SiteLeftOut("b", 1, "evaluation", "ROUND-E002", "late"),
        events.SiteJoined("c", 2, 60, "cpu", (), SPENT),
        events.RoundStarted(2, ("b",), 10),
        events.SiteLeftOut("b", 2, "training", "ROUND-E002", "late"),
    ):
        attendance.hear(event)
    members = [Member(site, 1, 60) for site in "abc"]
    found = attendance.candidates(3, members, {"a": Signal(0.5, 0.1)})
    assert found["a"] == Candidate(60, Signal(0.5, 0.1), 0.25, waited=2, failures=0, since_failure=0)
    assert (found["b"].waited, found["b"].failures, found["b"].since_failure) == (1, 2, 1)
    assert (found["c"].waited, found["c"].failures) == (2, 0)
    attendance.hear(events.SiteTrained("b", 3, 1.0, 1.0, 10, spent))
    assert attendance.candidates(4, members, {})["b"].failures == 0


def test_a_study_without_privacy_has_spent_no_share() -> None:
    attendance = Attendance(2)
    attendance.hear(events.SiteJoined("a", 0, 60, "cpu", (), PrivacySpent("none", 1e-3, *[math.inf] * 5, 0.0)))
    assert attendance.candidates(1, [Member("a", 1, 60)], {})["a"].spent == 0


@pytest.mark.parametrize(
    "override",
    [
        "selection=fraction selection.params.fraction=1.5",
        "selection=fraction selection.params.fraction=0",
        "selection=power_of_choice selection.params.candidates=2.5",
        "selection=power_of_choice selection.params.fraction=true",
        "selection=budget_aware selection.params.longest_rest=0",
    ],
)
def test_a_parameter_out_of_range_is_refused(override: str) -> None:
    with pytest.raises(ConfigErrors, match=r"STUDY-E00[38].*selection\.params"):
        compose_study(override.split())


def asked_by_round(outcome: Outcome) -> list[tuple[str, ...]]:
    return [event.sites for event in outcome.of(events.RoundStarted)]


def test_the_losses_of_one_evaluation_decide_the_next_round_also_for_who_joins_late(tmp_path: Path) -> None:
    def losing(share: float) -> Hospital:
        return Hospital(evaluate=changed(losses={"loss": 100 * share, "patients": 100.0}, losses_sd=0.5))

    hospitals = {"a1": losing(0.9), "b1": Hospital(), "c1": losing(0.2), "d1": losing(0.7)}
    hospitals["b1"].evaluate = changed(losses={"loss": 80.0, "patients": 100.0}, losses_sd=0.5)
    grid = LateGrid(client_app(hospitals), {name: Path(f"/{name}.yaml") for name in hospitals})
    rule = ["selection=power_of_choice", "selection.params.candidates=4", "selection.params.fraction=0.5"]
    outcome = federate(hospitals, tmp_path, "rounds=4", *rule, grid=grid)
    assert outcome.error is None
    assert [event.round for event in outcome.of(events.SiteJoined) if event.site == "b1"] == [2]
    assert asked_by_round(outcome)[2:] == [("a1", "b1")] * 2  # known to fare worst from its first evaluation on


def test_a_silent_site_rests_and_is_asked_again(tmp_path: Path) -> None:
    hospitals = {name: Hospital() for name in ("a1", "b1", "c1")}
    grid = SilentGrid(client_app(hospitals), {name: Path(f"/{name}.yaml") for name in hospitals})
    rule = ["selection=budget_aware", "selection.params.fraction=1", "evaluation.every=9"]
    outcome = federate(hospitals, tmp_path, "rounds=5", *rule, grid=grid)
    assert ["b1" in sites for sites in asked_by_round(outcome)] == [True, False, True, False, False]
