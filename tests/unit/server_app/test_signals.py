"""What the coordinator hears of audit patients: losses and gaps, with the noise that is in them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, true_positive_rate
from numpy.typing import NDArray

from fedfm import wire
from fedfm.metrics.counts import LOSS_CAP
from server_app.signals import Signals
from server_app.weighting.heard import Signal
from tests.unit.server_app.federation import SPENT

Table = NDArray[np.float64]


def reply(site: str = "a", **parts: Any) -> wire.EvaluateReply:
    return wire.EvaluateReply(site, 1, np.zeros((2, 2)), 0.0, {}, 0.0, 0.0, SPENT, **parts)


def counted(site: str, sd: float = 0.0, **tables: Table) -> wire.EvaluateReply:
    return reply(site, audit_groups={f"sex={name}": table for name, table in tables.items()}, audit_groups_sd=sd)


def of_positives(found: float, missed: float) -> Table:
    """Positives are the second class; the negatives do not matter."""
    return np.array([[17.0, 4.0], [missed, found]])


def heard(*replies: wire.EvaluateReply, positive: int = 1) -> Signals:
    signals = Signals(positive)
    signals.hear(replies)
    return signals


def test_the_gap_of_two_groups_is_the_first_minus_the_second_by_name() -> None:
    signals = heard(counted("a", male=of_positives(30, 10), female=of_positives(20, 20)))
    assert signals.gaps == {"a": Signal(0.5 - 0.75, 0.0)}
    assert signals.gap == Signal(0.5 - 0.75, 0.0)
    flipped = {name: np.array(table[::-1, ::-1]) for name, table in {"f": of_positives(20, 20)}.items()}
    other = heard(counted("a", f=flipped["f"], m=of_positives(30, 10)[::-1, ::-1]), positive=0)
    assert other.gaps == {"a": Signal(-0.25, 0.0)}


def test_the_gap_of_more_groups_is_the_largest_minus_the_smallest() -> None:
    signals = heard(counted("a", x=of_positives(10, 30), y=of_positives(36, 4), z=of_positives(20, 20)))
    assert signals.gaps["a"].value == pytest.approx(0.9 - 0.25)


def test_the_gap_is_fairlearns_where_every_group_has_positives() -> None:
    chance = np.random.default_rng(4)
    truth, said, group = chance.integers(0, 2, 900), chance.integers(0, 2, 900), chance.choice(list("xyz"), 900)
    tables: Mapping[str, Table] = {
        name: np.array(
            [[float(((truth == row) & (said == col) & (group == name)).sum()) for col in (0, 1)] for row in (0, 1)]
        )
        for name in "xyz"
    }
    frame = MetricFrame(metrics=true_positive_rate, y_true=truth, y_pred=said, sensitive_features=group)
    gap = heard(counted("a", **tables)).gap
    assert gap is not None
    assert gap.value == pytest.approx(frame.difference(method="between_groups"), rel=1e-12)


def test_a_site_of_two_groups_has_no_sign_where_another_knows_three() -> None:
    two = counted("a", x=of_positives(10, 30), y=of_positives(30, 10))
    assert heard(two).gaps["a"].value == pytest.approx(-0.5)
    three = counted("b", x=of_positives(20, 20), y=of_positives(20, 20), z=of_positives(20, 20))
    signals = heard(two, three)
    assert {site: gap.value for site, gap in signals.gaps.items()} == {"a": pytest.approx(0.5), "b": 0.0}
    later = Signals(1)
    later.hear([two])
    later.hear([three])  # what was heard with a sign is forgotten
    assert set(later.gaps) == {"b"}


@pytest.mark.parametrize(
    "tables",
    [
        {"x": of_positives(0, 0), "y": of_positives(9, 9)},
        {"y": of_positives(9, 9)},
    ],
)
def test_no_positives_or_no_second_group_are_no_gap(tables: dict[str, Table]) -> None:
    signals = heard(counted("a", **tables))
    assert signals.gaps == {}
    assert signals.gap is None


def test_a_group_without_positives_does_not_hide_the_gap_of_the_others() -> None:
    """Neither at its site nor of all; the site of two groups alone has no sign beside it."""
    rare = counted("a", x=of_positives(0, 1), y=of_positives(30, 10), z=of_positives(20, 20))
    plain = counted("b", y=of_positives(10, 30), z=of_positives(20, 20))
    empty = counted("c", x=of_positives(0, 0), y=of_positives(9, 9), z=of_positives(2, 8))
    signals = heard(plain, empty)
    assert {site: gap.value for site, gap in signals.gaps.items()} == {"b": 0.25, "c": pytest.approx(0.3)}
    assert signals.gap is not None
    assert signals.gap.value == pytest.approx(22 / 50 - 19 / 58)
    assert heard(rare).gaps["a"].value == 0.75  # one exact positive is told, and was missed


def test_the_gap_of_the_latest_evaluation_is_its_own() -> None:
    signals, even = Signals(1), of_positives(20, 20)
    signals.hear([counted("a", sd=1.0, x=of_positives(36, 4), y=even)])
    signals.hear([counted("a", sd=1.0, x=of_positives(24, 16), y=even)])
    assert signals.gap_now is not None
    assert signals.gap is not None
    assert (signals.gap_now.value, signals.gap.value) == (pytest.approx(0.1), pytest.approx((0.4 + 0.1) / 2))
    signals.hear([reply("a")])
    assert signals.gap_now is None
    assert signals.gap.value == pytest.approx(0.25)


def test_positives_that_drown_in_noise_are_no_gap_at_the_site_and_may_be_one_together() -> None:
    few = {"x": of_positives(6, 2), "y": of_positives(2, 6)}
    assert heard(counted("a", sd=3.0, **few)).gaps == {}
    together = heard(*(counted(site, sd=3.0, **few) for site in "abcdefgh"))
    assert together.gaps == {}
    assert together.gap is not None
    assert together.gap.value == pytest.approx(0.5)


def test_counts_of_all_sites_are_added_before_the_gap_is_taken() -> None:
    """Either site alone has no gap; together they have, for the groups are not where the good results are."""
    a = counted("a", x=of_positives(90, 10), y=of_positives(9, 1))
    b = counted("b", x=of_positives(1, 9), y=of_positives(10, 90))
    signals = heard(a, b)
    assert {site: gap.value for site, gap in signals.gaps.items()} == {"a": pytest.approx(0), "b": pytest.approx(0)}
    assert signals.gap is not None
    assert signals.gap.value == pytest.approx(91 / 110 - 19 / 110)


def test_more_classes_have_no_gap() -> None:
    assert heard(reply(audit_groups={"sex=x": np.ones((3, 3)) * 9, "sex=y": np.ones((3, 3)) * 9})).gaps == {}


@pytest.mark.parametrize("groups", ["xy", "xyz"])
def test_the_noise_of_a_gap_is_that_of_simulation(groups: str) -> None:
    chance, noise = np.random.default_rng(9), 4.0
    true = {name: of_positives(80 - 25 * place, 20 + 25 * place) for place, name in enumerate(groups)}
    found, stated = [], []
    for _ in range(1500):
        noisy = {name: table + chance.normal(0, noise, (2, 2)) for name, table in true.items()}
        gap = heard(counted("a", sd=noise, **noisy)).gaps["a"]
        found.append(gap.value)
        stated.append(gap.sd)
    assert np.mean(stated) == pytest.approx(np.std(found), rel=0.08)


def losses(site: str, share: float, sd: float) -> wire.EvaluateReply:
    return reply(site, losses={"loss": 100 * share, "patients": 100.0}, losses_sd=sd)


def test_noisy_figures_are_averaged_over_evaluations_and_exact_ones_are_not() -> None:
    signals = Signals(1)
    for share in (0.2, 0.4, 0.8):
        signals.hear([losses("noisy", share, 5.0), losses("exact", share, 0.0)])
    assert signals.losses["exact"] == Signal(LOSS_CAP * 0.8, 0.0)
    assert signals.losses["noisy"].value == pytest.approx(LOSS_CAP * (0.5 * 0.8 + 0.25 * 0.4 + 0.25 * 0.2))
    sds = [LOSS_CAP * 5 / 100 * math.hypot(1, share) for share in (0.2, 0.4, 0.8)]
    expected = math.hypot(0.25 * sds[0], 0.25 * sds[1], 0.5 * sds[2])
    assert signals.losses["noisy"].sd == pytest.approx(expected)


def test_gaps_are_averaged_too() -> None:
    signals = Signals(1)
    for found in (30, 10):
        tables = {"x": of_positives(found, 40 - found), "y": of_positives(20, 20)}
        signals.hear([counted("a", sd=1.0, **tables), counted("b", **tables)])
    assert signals.gaps["a"].value == pytest.approx((0.25 - 0.25) / 2)
    assert signals.gaps["b"].value == pytest.approx(-0.25)
    assert signals.gap is not None
    assert signals.gap.value == pytest.approx(0.0)


def test_who_is_silent_is_remembered_and_who_was_never_heard_is_absent() -> None:
    signals = Signals(1)
    signals.hear([losses("a", 0.3, 0.0), reply("b")])
    signals.hear([reply("a")])
    assert signals.losses == {"a": Signal(LOSS_CAP * 0.3, 0.0)}
