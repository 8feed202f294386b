"""What every weighting rule guarantees."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfm.signals import WEIGHTING_NEEDS
from server_app.weighting.heard import Heard, SiteReport
from server_app.weighting.rules import RULES, cohort, uniform

reports = st.lists(st.builds(SiteReport, st.just("a"), st.integers(1, 10**9)), min_size=1, max_size=20)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@given(reports=reports)
def test_weights_are_a_distribution_and_free_of_order(rule: Any, reports: list[SiteReport]) -> None:
    weights = rule(Heard(reports)).weights
    assert weights.shape == (len(reports),)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(rule(Heard(reports[::-1])).weights, weights[::-1])


def test_weights_of_known_cohorts() -> None:
    known = Heard([SiteReport("a", 100), SiteReport("b", 300)])
    assert cohort(known).weights.tolist() == [0.25, 0.75]
    assert uniform(known).weights.tolist() == [0.5, 0.5]


def test_every_rule_says_what_it_needs() -> None:
    assert set(WEIGHTING_NEEDS) == set(RULES)
