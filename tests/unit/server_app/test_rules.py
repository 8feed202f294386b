"""Selection, weighting, combining and the binding of their parameters."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfm.config.study import Rule
from fedfm.errors import ConfigError
from server_app.combining import COMBINERS, applied, linear
from server_app.registry import bind
from server_app.selection import SELECTIONS, Draw, everyone, fraction
from server_app.weighting import RULES, SiteReport, cohort, uniform

site_names = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=12, unique=True)
reports = st.lists(st.builds(SiteReport, st.just("a"), st.integers(1, 10**9)), min_size=1, max_size=20)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@given(reports=reports)
def test_weights_are_a_distribution_and_free_of_order(rule: Any, reports: list[SiteReport]) -> None:
    weights = rule(reports)
    assert weights.shape == (len(reports),)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(rule(reports[::-1]), weights[::-1])


def test_weights_of_known_cohorts() -> None:
    known = [SiteReport("a", 100), SiteReport("b", 300)]
    assert cohort(known).tolist() == [0.25, 0.75]
    assert uniform(known).tolist() == [0.5, 0.5]


@given(
    sites=site_names,
    share=st.floats(0.01, 1),
    number=st.integers(1, 50),
    seed=st.integers(0, 2**31),
    few=st.integers(1, 4),
)
def test_a_fraction_is_as_large_as_asked_and_free_of_order(
    sites: list[str], share: float, number: int, seed: int, few: int
) -> None:
    draw = Draw(round=number, seed=seed, min_sites=few)
    chosen = fraction(sites, draw, fraction=share)
    assert set(chosen) <= set(sites)
    assert len(set(chosen)) == len(chosen) == min(len(sites), max(few, int(np.ceil(share * len(sites)))))
    assert fraction(sites[::-1], draw, fraction=share) == chosen
    assert everyone(sites, draw) == tuple(sorted(sites))


def test_every_site_has_the_same_chance() -> None:
    names = [f"site-{index}" for index in range(10)]
    drawn = [fraction(names, Draw(number, 1, 1), fraction=0.3) for number in range(2000)]
    counts = [sum(name in chosen for chosen in drawn) for name in names]
    assert max(abs(count - 600) for count in counts) < 5 * np.sqrt(2000 * 0.3 * 0.7)


@given(data=st.data(), sites=st.integers(1, 6))
def test_a_linear_combination_stays_between_the_sites(data: st.DataObject, sites: int) -> None:
    updates = [
        {"w": np.array(data.draw(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3)), np.float32)}
        for _ in range(sites)
    ]
    sizes = np.array(data.draw(st.lists(st.integers(1, 100), min_size=sites, max_size=sites)), float)
    combined = linear(zip(sizes / sizes.sum(), updates, strict=True))["w"]
    stacked = np.stack([update["w"] for update in updates]).astype(float)
    assert (combined >= stacked.min(axis=0) - 1e-9).all()
    assert (combined <= stacked.max(axis=0) + 1e-9).all()


def test_one_site_is_the_identity_and_nothing_is_changed_in_place() -> None:
    update = {"w": np.array([0.1, -3.0], np.float32)}
    before = {"w": np.array([1.0, 1.0], np.float32)}
    after = applied(before, linear([(1.0, update)]))
    np.testing.assert_array_equal(after["w"], before["w"] + update["w"])
    assert after["w"].dtype == np.float32
    assert before["w"].tolist() == [1.0, 1.0]
    assert update["w"].tolist() == [np.float32(0.1), -3.0]


def test_updates_are_taken_one_at_a_time() -> None:
    alive = 0
    most = 0

    class Counted(dict[str, Any]):
        def __init__(self) -> None:
            nonlocal alive, most
            super().__init__(w=np.ones(4, np.float32))
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    linear((1 / 100, Counted()) for _ in range(100))
    assert most <= 2


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (Rule("cohrt", {}), "did you mean cohort"),
        (Rule("cohort", {"q": 1}), "unknown: q"),
    ],
)
def test_a_rule_that_does_not_fit_is_named(rule: Rule, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        bind(RULES, rule, group="weighting")


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(ConfigError, match="missing: fraction"):
        bind(SELECTIONS, Rule("fraction", {}), group="selection")
    chosen = bind(SELECTIONS, Rule("fraction", {"fraction": 0.5}), group="selection")
    assert len(chosen(("a", "b", "c", "d"), Draw(1, 1, 1))) == 2
    with pytest.raises(ConfigError, match="STUDY-E072"):
        bind(SELECTIONS, Rule("fraction", {"fraction": 1.5}), group="selection")(("a",), Draw(1, 1, 1))
    assert bind(COMBINERS, Rule("linear", {}), group="combining")([]) == {}
