"""What the sites' sums say of reasons, by site and together, and what half a weight is."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfm.metrics.performance import LEAST_PATIENTS
from fedfm.wire import EvaluateReply
from server_app.aggregation import halved
from server_app.reasons.explained import credits_of, explained, pooled, told
from server_app.report import events, explanations
from tests.unit.server_app.federation import SPENT, Hospital, federate, reasons, unsound

TERMS = ["fever", "cough", "oxygen", "ward"]


def reply(site: str, credited: list[float], held: list[float], **more: Any) -> EvaluateReply:
    sums = reasons(["comprehensiveness", "shortcut_share:tag", "documents"]) | {"documents": 40.0}
    made = EvaluateReply(site, 2, np.ones((2, 2)), 0.0, sums, 0.0, 0.1, SPENT, terms=np.array([credited, held]))
    return replace(made, **more)


def test_means_are_sums_over_documents_in_the_range_of_each_figure() -> None:
    sums = {"comprehensiveness": 30.0, "shortcut_share:tag": -3.0, "documents": 20.0}
    documents, means = explained([(sums, 1.0), ({}, 0.0)])
    assert documents == 20
    assert means["comprehensiveness"].value == 1.0
    assert means["shortcut_share:tag"].value == means["shortcut_share:tag"].low == 0.0
    assert explained([(sums, 11.0)]) == (0.0, {})
    assert explained([]) == (0.0, {})


LIKE = st.lists(st.floats(1.0, 1.4), min_size=1, max_size=8)


@given(st.lists(st.just(0.0) | st.floats(1e-3, 1e4), min_size=1, max_size=8))
def test_sites_that_are_pooled_are_never_worse_than_one_of_usual_noise(sds: list[float]) -> None:
    taken = pooled(sds)
    noise, usual = math.hypot(*(sds[place] for place in taken)) / len(taken), median_low(sds)
    assert all(noise <= sd * (1 + 1e-9) for sd in sds if sd >= usual)
    assert taken == sorted(set(taken))
    assert max(sds[place] for place in taken) <= min(
        (sds[place] for place in range(len(sds)) if place not in taken), default=math.inf
    )


@given(LIKE)
def test_all_are_pooled_whose_noise_is_alike_whatever_their_documents(sds: list[float]) -> None:
    assert pooled(sds) == list(range(len(sds)))
    assert pooled([0.0] * len(sds)) == list(range(len(sds)))


@given(LIKE, st.integers(0, 8), st.sampled_from([30.0, 1e4, 1e6]))
def test_one_that_states_much_noise_leaves_the_figures_as_without_it(sds: list[float], at: int, much: float) -> None:
    sums = {"comprehensiveness": 9.0, "documents": 30.0}
    others = [(sums, sd) for sd in sds]
    with_it = [*others[:at], ({"comprehensiveness": 1e4, "documents": -1e3}, much), *others[at:]]
    assert explained(with_it) == explained(others)
    credited = [reply(str(n), [8.0, -4.0, 0.0, 1.0], [20, 12, 0, 10], explanation_sd=sd) for n, sd in enumerate(sds)]
    for noise in ("explanation_sd", "terms_sd", "term_documents_sd"):
        quiet = {"explanation_sd": sds[0], "terms_sd": 0.0, "term_documents_sd": 0.0}
        liar = reply("liar", [1e4] * 4, [1e4] * 4, **{**quiet, noise: much})
        assert credits_of([liar, *credited], TERMS) == credits_of(credited, TERMS)


@given(st.lists(st.floats(1.0, 1.4), min_size=2, max_size=8), st.floats(0, 1))
def test_one_that_states_little_noise_does_not_push_the_others_out(sds: list[float], little: float) -> None:
    assert pooled([*sds, little]) == list(range(len(sds) + 1))


@given(
    st.lists(
        st.tuples(
            st.fixed_dictionaries({"comprehensiveness": st.floats(-1e6, 1e6), "documents": st.floats(-1e6, 1e6)})
            | st.just({}),
            st.floats(0, 1e4),
        ),
        max_size=6,
    )
)
def test_any_sums_have_means_in_range_or_none(told: list[tuple[dict[str, float], float]]) -> None:
    documents, means = explained(told)
    assert (documents > 0) == bool(means)
    assert all(-1 <= mean.low <= mean.value <= mean.high <= 1 for mean in means.values())


def test_credits_are_means_over_all_documents_and_their_interval_is_the_noise() -> None:
    exact = credits_of([reply("a", [8.0, -4.0, 0.0, 1.0], [20, 12, 0, 10])], TERMS)
    assert {term: (c.credit.value, c.credit.low, c.credit.high) for term, c in exact.items()} == {
        "fever": (0.2, 0.2, 0.2),
        "cough": (-0.1, -0.1, -0.1),
    }
    assert exact["fever"].documents == 20
    noisy = {"terms_sd": 1.0, "explanation_sd": 2.0, "term_documents_sd": 1.5}
    (two,) = [credits_of([reply(site, [8.0, -4, 0, 1], [20, 12, 0, 10], **noisy) for site in "ab"], TERMS)]
    half = 1.96 * np.sqrt(2 * 1.0 + 0.2**2 * 2 * 4.0) / 80
    assert two["fever"].credit.high - 0.2 == pytest.approx(half)
    assert two["fever"].documents == 40


def test_a_planted_mean_is_held_by_its_interval_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(2000):
        documents = 40 + rng.normal(0, 2)
        made = reply("a", [12 + rng.normal(0, 1.5), 0, 0, 0], [30, 0, 0, 0], terms_sd=1.5, explanation_sd=2.0)
        found = credits_of([replace(made, explanation={**made.explanation, "documents": documents})], TERMS)["fever"]
        held += found.credit.low <= 12 / 40 <= found.credit.high
    assert 0.935 < held / 2000 < 0.965


def test_terms_that_say_nothing_are_left_out() -> None:
    wide = {"terms_sd": 5.0}
    assert credits_of([reply("a", [2.0, 30.0, 0, 0], [30, 30, 0, 0], **wide)], TERMS).keys() == {"cough"}
    few = {"term_documents_sd": 3.0}
    assert credits_of([reply("a", [2.0, 2.0, 0, 0], [16, 30, 0, 0], **few)], TERMS).keys() == {"cough"}
    assert credits_of([reply("a", [2.0, 2, 2, 2], [LEAST_PATIENTS, 10, 0, 0])], TERMS).keys() == {"fever"}
    assert credits_of([reply("a", [2.0, 2, 2, 2], [30] * 4, explanation_sd=25.0)], TERMS) == {}
    assert credits_of([reply("a", [2.0, 2, 2, 2], [30] * 4, explanation={})], TERMS) == {}
    assert credits_of([], TERMS) == {}


def test_sites_are_compared_by_the_terms_that_both_tell() -> None:
    one = reply("a", [8.0, -4.0, 2.0, 1.0], [20] * 4)
    other = reply("b", [-8.0, 4.0, -2.0, 0.0], [20, 20, 20, 0])
    silent = reply("c", [0.0] * 4, [0.0] * 4, terms=np.zeros((2, 0)))
    happened = list(told(2, [one, other, silent], TERMS))
    (agreed,) = [event for event in happened if isinstance(event, explanations.SitesAgree)]
    (pair,) = agreed.pairs
    assert (agreed.source, pair.one, pair.other) == ("audit", "a", "b")
    assert pair.rank_overlap == pytest.approx(1.0)  # the same terms, in the same order, with other signs
    assert pair.rank_correlation == pytest.approx(-1.0)
    credited = [event for event in happened if isinstance(event, explanations.TermsCredited)]
    assert [event.site for event in credited] == ["", "a", "b"]
    assert credited[0].terms.keys() == set(TERMS)
    few = list(told(2, [one, reply("b", [8.0, 0, 0, 0], [20, 0, 0, 0])], TERMS))[-1]
    assert isinstance(few, explanations.SitesAgree)
    assert few.pairs[0].rank_overlap is None


def test_a_check_is_told_and_half_a_weight_is_taken(tmp_path: Path) -> None:
    hospitals = {
        "a1": Hospital(patients=100, shift=1.0),
        "b1": Hospital(patients=200, shift=2.0, train=partial(unsound, downweighted=True)),
    }
    outcome = federate(hospitals, tmp_path, "rounds=2")
    assert outcome.error is None
    first, last = outcome.of(events.RoundCombined)
    assert (first.weights, first.halved) == ({"a1": pytest.approx(1 / 3), "b1": pytest.approx(2 / 3)}, ())
    assert (last.weights, last.halved) == ({"a1": 0.5, "b1": 0.5}, ("b1",))
    checked = outcome.of(explanations.SiteChecked)
    assert [(event.round, event.site, event.failed, event.downweighted) for event in checked] == [
        (2, "a1", (), False),
        (2, "b1", ("faithfulness",), True),
    ]
    assert checked[0].means["comprehensiveness"].value == 0.5
    assert [event.site for event in outcome.of(explanations.SiteExplained)] == ["a1", "b1"]


def test_the_coordinator_judges_the_sums_itself_and_not_in_the_first_rounds(tmp_path: Path) -> None:
    hospitals = {"a1": Hospital(), "b1": Hospital(train=unsound)}  # asks for nothing: its policy is to flag
    outcome = federate(hospitals, tmp_path, "rounds=2", "explainability.check_every=1")
    assert outcome.error is None
    failed = {(event.round, event.site): event.failed for event in outcome.of(explanations.SiteChecked)}
    assert failed == {(1, "a1"): (), (1, "b1"): (), (2, "a1"): (), (2, "b1"): ("faithfulness",)}


def test_a_combiner_that_counts_every_site_once_counts_this_one_too(tmp_path: Path) -> None:
    failing = Hospital(shift=5.0, train=partial(unsound, downweighted=True))
    hospitals = {"a1": Hospital(), "b1": Hospital(), "c1": failing}
    outcome = federate(
        hospitals,
        tmp_path,
        "rounds=1",
        "explainability.warm_up=0",
        "combining=median",
        "weighting=uniform",
        "min_sites=3",
    )
    assert outcome.error is None
    assert outcome.of(events.RoundCombined)[0].halved == ()
    assert [event.downweighted for event in outcome.of(explanations.SiteChecked)] == [False, False, True]


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1, max_size=8))
def test_half_a_weight_keeps_the_sum_and_the_others_proportions(sites: list[tuple[float, bool]]) -> None:
    weights, asking = np.array([weight for weight, _ in sites]), [is_asking for _, is_asking in sites]
    found = halved(weights, asking)
    assert found.sum() == pytest.approx(weights.sum(), abs=1e-9)
    assert (found >= 0).all()
    if not all(asking):
        kept = np.where(asking, 0.5 * weights, weights)
        np.testing.assert_allclose(found * kept.sum(), kept * weights.sum(), atol=1e-9)


def test_half_a_weight_of_either_sign_and_of_all() -> None:
    np.testing.assert_array_equal(halved(np.array([1.0, -0.5]), [False, True]), [1.0, -0.25])
    np.testing.assert_array_equal(halved(np.array([0.3, 0.7]), [True, True]), [0.3, 0.7])
    np.testing.assert_array_equal(halved(np.array([0.0, 0.7]), [False, True]), [0.0, 0.7])
