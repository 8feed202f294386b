"""The band of `fedfm-study plan` is that of the studies that were measured."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfm.config.compose import compose_study
from scripts.benchmarks.__main__ import FOLDER
from scripts.benchmarks.private_utility import CHOSEN, figure
from scripts.benchmarks.private_utility import STUDY as TEXTS
from scripts.benchmarks.private_utility_public import OPEN
from server_app.planning import Federation, outlook
from server_app.planning_band import MEASURED, expected

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@given(st.floats(0, 10), st.floats(0, 10))
def test_less_noise_never_keeps_less(one: float, other: float) -> None:
    quiet, loud = expected(min(one, other)), expected(max(one, other))
    assert quiet.low >= loud.low
    assert quiet.high >= loud.high
    assert all(0 <= band.low <= band.high <= 1 for band in (quiet, loud))


def test_the_band_holds_every_measured_study_at_its_own_noise() -> None:
    assert [each.noise_to_signal for each in MEASURED] == sorted(each.noise_to_signal for each in MEASURED)
    for each in MEASURED:
        band = expected(each.noise_to_signal)
        assert band.low <= max(0, each.low) + 1e-9
        assert band.high >= min(1, each.high) - 1e-9
    assert expected(0) == expected(MEASURED[0].noise_to_signal)
    assert expected(2 * MEASURED[-1].noise_to_signal).low == 0


def test_the_band_stands_on_the_kept_benchmarks() -> None:
    kept = {name: figures_of(name) for name in ("private-utility", "private-utility-public")}
    for each in MEASURED:
        if each.study in OPEN:
            name = f"{each.study}_epsilon{each.epsilon:g}"
            share = kept["private-utility-public"][f"{name}_kept"]
            noise = kept["private-utility-public"][f"{name}_noise_to_signal"]
        else:
            silos, patients = (int(word) for word in each.study.removeprefix("docstrings, ").split(" x "))
            own, openly = (kept["private-utility"][figure(patients, silos, e)] for e in (each.epsilon, None))
            share = (own - 1 / 6) / (openly - 1 / 6)
            study = compose_study([*TEXTS, *CHOSEN[patients, silos, each.epsilon].overrides()]).value
            study.privacy.epsilon = each.epsilon
            noise = outlook(study, patients, Federation(silos, 6 * 385)).averaged
        assert each.low - 0.005 <= share <= each.high + 0.005
        assert each.noise_to_signal == pytest.approx(noise, abs=6e-5)
    assert len(MEASURED) == 3 * len(OPEN) + len([epsilon for _, _, epsilon in CHOSEN if epsilon])


def figures_of(benchmark: str) -> dict[str, float]:
    found: dict[str, float] = json.loads((FOLDER / f"{benchmark}.json").read_text())["figures"]
    return found
