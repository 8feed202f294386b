"""What an evaluation makes of the sites' answers: gaps, spread, gains, and sites that tell less than others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedfm.metrics.counts import by_class, group_tables, patient_cells
from fedfm.metrics.gaps import Tables, gaps
from fedfm.metrics.groups import group_figures
from fedfm.metrics.performance import OF_SCORES, performance
from fedfm.wire import EvaluateReply
from server_app.evaluation import evaluate
from server_app.report import console, evaluated, events
from server_app.report.event_log import EventLog, read_events
from server_app.report.files import write_metrics
from server_app.report.page import write_report
from server_app.report.summary import summarise
from tests.unit.server_app.federation import SPENT, Hospital, changed, federate
from tests.unit.server_app.test_report import a_run, kept

SITES = ("a1", "b1", "c1")


def answers(site: str, *, positive: int = 1, group_bins: int = 10, patients: int = 600) -> EvaluateReply:
    chance = np.random.default_rng([ord(letter) for letter in site])
    labels = chance.integers(0, 2, patients)
    score = 1 / (1 + np.exp(-chance.normal(2.0 * labels - 1.0, 1.5)))
    own = 1 / (1 + np.exp(-chance.normal(0.6 * labels - 0.3, 1.5)))
    sexes = chance.random(patients) < 0.4
    members = {"female": sexes, "male": ~sexes}
    both, names = np.stack([1 - score, score], axis=1), [str(n) for n in range(patients)]
    tables = group_tables(both, labels, names, members=members, positive=positive, bins=group_bins)
    alone = patient_cells(np.stack([1 - own, own], axis=1), labels, names, bins=10, positive=positive)
    return EvaluateReply(
        site=site,
        round=2,
        cells=patient_cells(both, labels, names, bins=10, positive=positive),
        cells_sd=0.0,
        explanation={},
        explanation_sd=0.0,
        seconds=1.0,
        privacy=SPENT,
        groups={f"sex={name}": table for name, table in tables.items()},
        losses={"loss": 0.2 * patients, "patients": float(patients)},
        alone=alone,
    )


REPLIES = [answers(site) for site in SITES]
WITHHELD = replace(REPLIES[1], cells=np.zeros((2, 0)), groups={}, alone=np.zeros((2, 0)))


def test_pooled_gaps_are_those_of_the_summed_counts_and_sites_have_their_own() -> None:
    found = evaluate(REPLIES, positive=1)
    both = {
        group: sum(by_class(reply.groups[f"sex={group}"], positive=1) for reply in REPLIES)
        for group in ("female", "male")
    }
    assert found.gaps == {"sex": gaps(Tables(both, 0.0), positive=1)}
    assert set(found.site_gaps) == set(SITES)
    local = found.local_gaps["sex"]["equal_opportunity"]
    assert local is not None
    values = {site: found.site_gaps[site]["sex"]["equal_opportunity"].difference.value for site in SITES}  # type: ignore[union-attr]
    assert (local.site, local.worst.value) == max(values.items(), key=lambda item: item[1])
    assert local.mean.value == pytest.approx(np.mean(list(values.values())))


@pytest.mark.parametrize("positive", [0, 1])
def test_a_group_by_score_bins_says_what_it_says_by_predicted_class_and_more(positive: int) -> None:
    fine, plain = (answers("a1", positive=positive, group_bins=bins).groups["sex=male"] for bins in (10, 2))
    np.testing.assert_array_equal(by_class(fine, positive=positive), plain)
    more, less = (group_figures(table, sd=0.0, positive=positive) for table in (fine, plain))
    assert more is not None
    assert less is not None
    for name in ("patients", "accuracy", "sensitivity", "specificity", "selection"):
        assert getattr(more, name).value == pytest.approx(getattr(less, name).value)
    of_all = performance(fine, cells_sd=0.0, positive=positive)
    for name in OF_SCORES:
        assert getattr(less, name) is None
        assert getattr(more, name) == getattr(of_all, name) is not None


def test_a_group_of_few_positives_has_no_auroc() -> None:
    table = np.full((2, 10), 20.0)
    table[1] = 1.0
    found = group_figures(table, sd=0.0, positive=1)
    assert found is not None
    assert found.auroc is found.calibration_error is None
    assert found.specificity is not None


def test_a_site_that_withholds_its_counts_is_missing_and_not_zero() -> None:
    found = evaluate([REPLIES[0], WITHHELD, REPLIES[2]], positive=1)
    assert found.sites["b1"] is None
    assert found.together == evaluate([REPLIES[0], REPLIES[2]], positive=1).together
    assert "b1" not in found.site_gaps
    assert found.spreads["accuracy"].sites == 2
    assert found.gains["b1"] == {"accuracy": None, "auroc": None}
    assert found.losses["b1"] is not None  # noised sums of audit patients are not withheld
    alone = evaluate([WITHHELD], positive=1)
    assert alone.together is None
    assert alone.spreads == alone.gains == alone.gaps == {}


@pytest.mark.parametrize("positive", [0, 1])
def test_a_site_that_tells_halves_only_counts_where_halves_are_enough(positive: int) -> None:
    full = [answers(site, positive=positive) for site in SITES]
    coarse = replace(
        full[1],
        cells=full[1].cells.reshape(2, 2, 5).sum(axis=2),
        groups={key: by_class(table, positive=positive) for key, table in full[1].groups.items()},
    )
    everybody, two = evaluate(full, positive=positive), evaluate([full[0], full[2]], positive=positive)
    found = evaluate([full[0], coarse, full[2]], positive=positive)
    assert found.sites["b1"] is not None
    assert found.sites["b1"].auroc is None
    for got, whole, part in (
        (found.together, everybody.together, two.together),
        *((found.groups[key], everybody.groups[key], two.groups[key]) for key in found.groups),
    ):
        assert got.accuracy.value == pytest.approx(whole.accuracy.value)  # type: ignore[union-attr]
        assert got.sensitivity.value == pytest.approx(whole.sensitivity.value)  # type: ignore[union-attr]
        assert [getattr(got, name) for name in OF_SCORES] == [getattr(part, name) for name in OF_SCORES]
    assert found.gaps == everybody.gaps


def test_noise_of_bins_that_become_one_adds_up() -> None:
    noisy = [replace(reply, cells_sd=2.0, groups_sd=2.0) for reply in REPLIES]
    coarse = replace(noisy[1], cells=noisy[1].cells.reshape(2, 2, 5).sum(axis=2), cells_sd=2.0 * np.sqrt(5))
    by_bins, by_halves = (evaluate([noisy[0], other], positive=1).together for other in (noisy[1], coarse))
    assert by_bins is not None
    assert by_halves is not None
    for end in ("low", "high"):
        assert getattr(by_halves.patients, end) == pytest.approx(getattr(by_bins.patients, end))
    found = evaluate(noisy, positive=1)
    plain = [replace(r, groups={k: by_class(t, positive=1) for k, t in r.groups.items()}) for r in noisy]
    by_class_already = evaluate([replace(r, groups_sd=2.0 * np.sqrt(5)) for r in plain], positive=1)
    for name, gap in found.gaps["sex"].items():
        other = by_class_already.gaps["sex"][name]
        assert gap is not None
        assert other is not None
        assert gap.difference.low == pytest.approx(other.difference.low)
        assert gap.difference.high == pytest.approx(other.difference.high)


def test_events_tell_all_of_it_and_are_read_back(tmp_path: Path) -> None:
    replies = {reply.site: reply for reply in (REPLIES[0], WITHHELD, REPLIES[2])}
    judged = evaluate(list(replies.values()), positive=1)
    log = EventLog(tmp_path / "events.jsonl", lambda event: None)
    said = list(evaluated.told(2, judged, replies, seconds=1.0, vocabulary=[]))
    for event in said:
        log.emit(event)
        assert console.line(event)
    assert read_events(log.path) == said
    kinds = {type(event) for event in said}
    assert {events.GapsEvaluated, events.SitesCompared, events.GainsMeasured} <= kinds
    (gained,) = [event for event in said if isinstance(event, events.GainsMeasured)]
    tally = gained.tallies["accuracy"]
    assert (tally.gained, tally.untold) == (2, 1)
    write_metrics(tmp_path / "metrics.csv", summarise(said))
    text = (tmp_path / "metrics.csv").read_text()
    for row in (
        *("2,all,equal_opportunity_difference[sex]", "2,a1,demographic_parity_ratio[sex]", "2,a1,accuracy_gain"),
        *("2,all,accuracy_over_sites_worst,", "2,all,loss_over_sites_jain,", "2,all,auroc[sex=female]"),
        *("2,all,accuracy_worst_site[sex]", "2,all,accuracy_sites_gained,2,2,2", "2,all,calibration_slope,"),
    ):
        assert row in text
    assert "2,b1,accuracy" not in text
    assert "2,b1,audit_loss" in text
    write_report(kept(tmp_path / "run", [*a_run()[:-1], *said, a_run()[-1]]).parent)


def test_a_federation_tells_gaps_and_spread_and_no_gain_that_nobody_measured(tmp_path: Path) -> None:
    outcome = federate({name: Hospital() for name in SITES}, tmp_path, "rounds=2")
    (apart,) = outcome.of(events.GapsEvaluated)
    assert set(apart.pooled) == {"sex"}
    assert apart.pooled["sex"]["accuracy"].difference.value == 0
    assert {event.round for event in outcome.of(events.SitesCompared)} == {1, 2}
    assert not outcome.of(events.GainsMeasured)


def test_gains_are_told_where_sites_have_trained_alone(tmp_path: Path) -> None:
    worse = np.array([[2.0] * 5 + [4.0] * 5, [4.0] * 5 + [2.0] * 5])

    def alone(reply: Any) -> Any:
        return replace(reply, alone=worse, alone_sd=0.1) if reply.round == 2 else reply

    overrides = ("rounds=2", "baseline.method=alone")
    hospitals = {"a1": Hospital(evaluate=alone), "b1": Hospital(evaluate=alone), "c1": Hospital()}
    outcome = federate(hospitals, tmp_path, *overrides)
    assert not outcome.of(events.SiteLeftOut)
    (gained,) = outcome.of(events.GainsMeasured)
    assert gained.round == 2
    assert gained.sites["a1"]["accuracy"].value == pytest.approx(0.5 - 1 / 3)
    assert gained.sites["c1"] == {"accuracy": None, "auroc": None}
    assert gained.tallies["accuracy"].untold == 1


@pytest.mark.parametrize("lie", [np.full((2, 10), 1e9), np.full((2, 10), np.nan), np.full((2, 4), 3.0)])
def test_a_lie_about_training_alone_costs_only_the_liar(lie: Any, tmp_path: Path) -> None:
    hospitals = {name: Hospital() for name in SITES} | {"d1": Hospital(evaluate=changed(alone=lie))}
    outcome = federate(hospitals, tmp_path, "rounds=1", "baseline.method=alone")
    (left,) = outcome.of(events.SiteLeftOut)
    assert (left.site, left.phase) == ("d1", "evaluation")
    assert left.code in {"ROUND-E014", "ROUND-E015"}
    assert not outcome.of(events.GainsMeasured)
    unasked = federate(
        {**hospitals, "d1": Hospital(evaluate=changed(alone=np.full((2, 10), 3.0)))}, tmp_path / "unasked", "rounds=1"
    )
    assert [(event.site, event.code) for event in unasked.of(events.SiteLeftOut)] == [("d1", "ROUND-E014")]
