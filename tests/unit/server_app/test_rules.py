"""Selection and the binding of parameters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfm.config.study import Rule
from fedfm.errors import ConfigError
from server_app.registry import bind
from server_app.selection import SELECTIONS, Draw, everyone, fraction
from server_app.weighting.rules import RULES

site_names = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=12, unique=True)


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
