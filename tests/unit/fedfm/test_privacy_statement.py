"""The statement has every heading in order, shouts what protects nobody, and promises no more than the closed forms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from fedfm import gaussian, privacy
from fedfm.privacy import Release, mu_of
from fedfm.privacy_statement import Bound, Facts, Mechanism, Table, guess, markdown, statement
from fedfm.statement_texts import HEADINGS

RELEASES = (Release(4.0, 1.0, 4), Release(8.0, 1.0, 9))


def facts(*bounds: Bound, units: tuple[str, ...] = ("patient",), **others: object) -> Facts:
    values = {
        "title": "Title",
        "source": "From the test.",
        "units": units,
        "bounds": bounds,
        "planned": (),
        "mechanisms": (Mechanism("training", RELEASES[0], 3),),
        "releases_of": "All.",
        "composition": ("One ledger.",),
        "history": (Table("Runs.", ("Run", "epsilon"), (("r", "1"),)),),
        "exposure": ("Stays.",),
    } | others
    return Facts(**values)  # type: ignore[arg-type]


def bound(epsilon: float = 1.5, history: tuple[Release, ...] = RELEASES) -> Bound:
    return Bound("hospital-a, training patients", 1e-3, epsilon, history)


def test_every_heading_is_there_in_order_and_none_is_empty() -> None:
    made = statement(facts(bound()))
    assert tuple(section.heading for section in made.sections) == HEADINGS
    assert all(section.paragraphs for section in made.sections)
    text = markdown(made)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(HEADINGS)
    assert made.warnings == ()


def test_epsilon_at_every_delta_is_the_accountants() -> None:
    text = markdown(statement(facts(bound())))
    for delta in (1e-4, 1e-5, 1e-6):
        assert f"epsilon at delta {delta:g}" in text
        assert f"{privacy.epsilon(RELEASES, delta):.3f}" in text


def test_an_infinite_epsilon_is_shouted_first_and_wherever_it_stands() -> None:
    open_ = bound(math.inf, (Release(0.0, 1.0, 4),))
    text = markdown(statement(facts(open_, mechanisms=(Mechanism("training", Release(0.0, 1.0, 4), 1),))))
    lines = [line for line in text.splitlines() if line]
    assert lines[1].startswith("> **NO PRIVACY GUARANTEE for hospital-a, training patients")
    assert text.count("∞ NO PRIVACY GUARANTEE") == 4  # as stated, and at three deltas
    assert "0 NO PRIVACY GUARANTEE" in text  # sigma
    assert "100.0 %" in text
    assert "inf" not in text.replace("infinite", "")


def test_record_level_privacy_is_warned_of() -> None:
    assert "RECORD" in statement(facts(bound(), units=("patient", "record"))).warnings[0]


def test_a_name_from_outside_can_neither_end_a_cell_nor_mark_up() -> None:
    table = Table("Runs.", ("Run", "epsilon"), (("a|b<script>`x`\n# Heading", "1"),))
    text = markdown(statement(facts(bound(), history=(table,))))
    assert "| a\\|b\\<script\\>\\`x\\` # Heading | 1 |" in text


@given(st.floats(0.01, 6), st.floats(1e-7, 0.1))
def test_a_guess_under_epsilon_is_never_better_than_what_is_promised(mu: float, delta: float) -> None:
    """The Gaussian mechanism is one with that epsilon; its best guess is known in closed form."""
    assert gaussian.best_guess(mu) <= guess(gaussian.epsilon_of(mu, delta), delta) + 1e-12


def test_the_rule_of_thumb_of_the_documents() -> None:
    assert guess(1.0, 0.0) == pytest.approx(0.731, abs=5e-4)
    assert guess(3.0, 0.0) == pytest.approx(0.953, abs=5e-4)
    assert guess(0.0, 0.0) == 0.5
    assert guess(math.inf, 1e-3) == 1.0


@given(st.floats(0.05, 4), st.integers(1, 50), st.floats(1e-6, 1e-2))
def test_the_closed_form_lies_just_below_the_accountants_upper_bound(mu: float, steps: int, delta: float) -> None:
    history = [Release(math.sqrt(steps) / mu, 1.0, steps)]
    assert mu_of(history) == pytest.approx(mu)
    exact, stated = gaussian.epsilon_of(mu, delta), privacy.epsilon(history, delta)
    assert exact <= stated + 1e-6
    assert stated <= exact + 0.025


@given(st.floats(0.05, 8), st.floats(0, 20))
def test_delta_is_the_best_trade_of_hits_against_false_alarms(mu: float, epsilon: float) -> None:
    """Delta at epsilon is the most that hits exceed e^epsilon false alarms by, over all thresholds."""

    def excess(threshold: float) -> float:
        return -float(stats.norm.sf(threshold - mu) - math.exp(epsilon) * stats.norm.sf(threshold))

    best = -optimize.minimize_scalar(excess, bracket=(epsilon / mu + mu / 2 - 0.1, epsilon / mu + mu / 2)).fun
    assert gaussian.delta_of(mu, epsilon) == pytest.approx(best, abs=1e-9)


def test_sampling_and_no_noise_have_no_closed_form() -> None:
    assert mu_of([Release(1.0, 0.5, 1)]) is None
    assert mu_of([Release(0.0, 1.0, 1)]) == math.inf
    assert mu_of([]) == 0.0
    assert gaussian.epsilon_of(0.0, 1e-5) == 0.0
    assert gaussian.epsilon_of(math.inf, 1e-5) == math.inf


def test_the_best_hits_integrate_to_the_best_area() -> None:
    grid = [(i + 0.5) / 20_000 for i in range(20_000)]
    area = sum(gaussian.best_hits(1.2, share) for share in grid) / len(grid)
    assert area == pytest.approx(gaussian.best_area(1.2), abs=1e-4)
