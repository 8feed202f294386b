"""Every rule and combiner can be measured, whoever has added it."""

import pytest

from fedfm.signals import GRAM, WEIGHTING_NEEDS
from scripts.benchmarks import aggregate
from scripts.benchmarks.aggregate import Measured, measured
from server_app.combining.rules import COMBINERS
from server_app.weighting.rules import RULES


@pytest.mark.parametrize(
    ("weighting", "combining"),
    [*((rule, "linear") for rule in RULES), *(("uniform", combiner) for combiner in COMBINERS)],
)
def test_every_rule_and_combiner_is_measured(weighting: str, combining: str) -> None:
    found = measured(weighting, combining, 10, layers=1)
    assert min(found.writing, found.aggregating) > 0
    assert found.is_gram == (GRAM in WEIGHTING_NEEDS[weighting] or "krum" in combining)


def test_the_update_has_as_many_parameters_as_the_page_says() -> None:
    parameters, frozen = aggregate._adapter(aggregate.LAYERS)
    assert sum(array.size for array in parameters.values()) == 74_498
    assert f"{74_498:,}" in aggregate.BENCHMARK.what
    assert len(frozen) == 12


def test_headlines_are_the_worst_of_their_kind() -> None:
    def case(scale: float, *, is_gram: bool) -> dict[int, Measured]:
        return {
            sites: Measured(0.001 * sites, scale * sites, 2.0 + scale * sites / 100, is_gram)
            for sites in aggregate.SITES
        }

    weighting = {"a": case(0.1, is_gram=False), "b": case(0.2, is_gram=False), "c": case(9.0, is_gram=True)}
    found = aggregate._headlines(weighting, {**weighting, "d": case(10.0, is_gram=True)})
    assert found["linear_1000_sites_seconds"] == pytest.approx(1 + 200)
    assert found["gram_1000_sites_seconds"] == pytest.approx(1 + 10_000)
    assert found["linear_memory_growth"] == pytest.approx(4 / 2.02)
    assert found["linear_time_growth"] == pytest.approx(1.0)
