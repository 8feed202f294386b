"""How long answers are waited for: as long as nobody knows, the study's own deadline."""

from hypothesis import given
from hypothesis import strategies as st

from server_app.pace import LEAST_SECONDS, Pace
from tests.unit.server_app.federation import study_of

STUDY = study_of("round_minutes=60", "rounds=6", "evaluation.every=1")
SITES = ("a", "b", "c")


def paced(**seconds: float) -> Pace:
    pace = Pace(STUDY)
    for site, needed in seconds.items():
        pace.note(site, "training", 2, needed)
    return pace


def test_the_slowest_site_sets_the_deadline() -> None:
    assert paced(a=50.0, b=100.0, c=20.0).deadline(SITES, "training", 3) == 4 * 100.0
    assert paced(a=50.0, b=100.0, c=20.0).deadline(("a", "c"), "training", 3) == 4 * 50.0


def test_a_site_or_a_kind_of_work_that_nobody_has_seen_gets_the_studys_own() -> None:
    assert paced(a=50.0, b=100.0).deadline(SITES, "training", 3) == 3600
    assert paced(a=50.0, b=100.0, c=1.0).deadline(SITES, "evaluation", 3) == 3600
    assert paced(a=50.0, b=100.0, c=1.0).deadline(SITES, "training", 1) == 3600  # caches are cold then


def test_the_closing_evaluation_is_not_cut_short_by_quick_ones_before() -> None:
    pace = Pace(STUDY)
    for site in SITES:
        pace.note(site, "evaluation", 2, 1.0)
    assert pace.deadline(SITES, "evaluation", 3) == LEAST_SECONDS
    assert pace.deadline(SITES, "evaluation", 6) == 3600


def test_a_quicker_answer_later_does_not_shorten_it() -> None:
    pace = paced(a=100.0, b=100.0, c=100.0)
    pace.note("a", "training", 3, 1.0)
    assert pace.deadline(("a",), "training", 4) == 400


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3))
def test_it_is_never_beyond_the_studys_nor_below_what_was_needed_within_it(seconds: list[float]) -> None:
    found = paced(**dict(zip(SITES, seconds, strict=True))).deadline(SITES, "training", 3)
    assert LEAST_SECONDS <= found <= 3600
    assert found >= min(3600, max(seconds))
