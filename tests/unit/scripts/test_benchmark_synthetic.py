"""Synthetic(1,1): its recipe, and what the power rule does there (Li et al. 2020, table 1)."""

from functools import partial

import numpy as np
import pytest

from scripts.benchmarks.synthetic import CLASSES, FEATURES, MOST_EXAMPLES, SITES, federated, spread_of, synthetic
from server_app.weighting.heard import Heard, Weighed
from server_app.weighting.loss import power
from server_app.weighting.rules import cohort


def test_the_recipe_is_the_generators() -> None:
    sites = synthetic(0)
    sizes = np.array([len(site.train[1]) for site in sites]) / 0.8
    assert len(sites) == SITES
    assert (sizes >= 50).all()
    assert (sizes <= MOST_EXAMPLES).all()
    assert np.median(sizes) - 50 == pytest.approx(np.exp(4), rel=0.6)
    largest = sites[int(sizes.argmax())].train
    assert largest[0].shape == (len(largest[1]), FEATURES)
    assert set(largest[1]) <= set(range(CLASSES))
    expected = np.sqrt(np.arange(1, FEATURES + 1) ** -1.2)  # covariance j^-1.2
    np.testing.assert_allclose(largest[0].std(axis=0), expected, rtol=0.1)
    again = synthetic(0)[3].train[0]
    np.testing.assert_array_equal(again, sites[3].train[0])


def test_a_federation_learns_and_hears_the_losses_that_it_reduces() -> None:
    sites = synthetic(1)[:10]
    means: list[float] = []

    def listening(heard: Heard) -> Weighed:
        means.append(float(np.mean([report.loss.value for report in heard.reports if report.loss])))
        return cohort(heard)

    model = federated(sites, listening, rounds=40, learning_rate=0.05)
    assert means[0] == pytest.approx(np.log(CLASSES))
    assert means[-1] < 0.5 * means[0]
    found = spread_of(sites, model)
    assert found.worst <= found.mean <= found.best
    assert found.mean > 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_more_weight_on_losses_narrows_the_spread_and_lifts_the_worst(seed: int) -> None:
    """The trend of table 1, guards included: q = 0 is FedAvg."""
    sites = synthetic(seed)
    plain, fair = (
        spread_of(sites, federated(sites, partial(power, q=q), rounds=1000, learning_rate=0.05)) for q in (0, 1)
    )
    assert fair.variance < plain.variance
    assert fair.worst > plain.worst
    assert fair.mean > plain.mean - 2
