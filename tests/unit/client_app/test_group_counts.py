"""Counts by group: what one patient moves, whom an intersection holds, and what is charged for whom."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import fedfm.plan
from client_app import group_counts, releases
from client_app.rounds import Round
from fedfm.config import site as site_config
from fedfm.examples import Example
from fedfm.metrics.counts import by_class
from fedfm.plan import sd
from tests.unit.client_app.test_releases import BANDS, asked, cohorts, exactly, study_of, vector

CROSSED = ("task.intersections=[sex*age_band]",)
BINNED = (*CROSSED, "evaluation.group_bins=4")


@pytest.fixture
def audited() -> Iterator[None]:
    """A weighting rule asks for counts of audit patients by sex, whichever rule that is."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (fedfm.plan, group_counts):
            patch.setattr(module, "audit_attribute", lambda _: "sex")
        study_of.cache_clear()
        yield


@pytest.mark.parametrize("bins", [2, 4])
@pytest.mark.parametrize("labels", ["recovered,deteriorated", "a,b,c"])
def test_one_patient_moves_attributes_and_intersections_by_at_most_their_sensitivity(labels: str, bins: int) -> None:
    classes = labels.count(",") + 1
    overrides = (f"task.labels=[{labels}]", "task.positive=''", *CROSSED, f"evaluation.group_bins={bins}")

    @settings(max_examples=30, deadline=None)
    @given(cohort=cohorts(classes=classes))
    def holds(cohort: Any) -> None:
        examples, logits = cohort
        whole = exactly("test", examples, logits, *overrides)
        assert {table.shape for table in whole.groups.values()} == {(classes, bins if classes == 2 else classes)}
        for gone in {example.patient for example in examples}:
            rest = exactly("test", [e for e in examples if e.patient != gone], logits, *overrides)
            moved = vector(whole, "groups") - vector(rest, "groups")
            assert np.linalg.norm(moved) <= math.sqrt(3) + 1e-9  # two attributes and one intersection

    holds()


def test_the_sensitivity_of_three_counts_is_reached_and_the_noise_is_in_its_units() -> None:
    one = [Example("p0", 0, text="t", groups={"sex": "female", "age_band": "under 40"}, row=0)]
    counted = exactly("test", one, {0: [0.0, 1.0]}, *BINNED)
    assert np.linalg.norm(vector(counted, "groups")) == pytest.approx(math.sqrt(3))
    assert counted.groups["sex*age_band=female*under 40"].sum() == 1
    question = asked(study_of(*BINNED))
    reply = releases.evaluate(question)
    assert reply.groups_sd == pytest.approx(sd(question.plan.last_groups) * math.sqrt(3))
    drawn = np.concatenate([vector(releases.evaluate(question), "groups") for _ in range(60)])
    assert drawn.std() == pytest.approx(reply.groups_sd, rel=0.06)
    assert {charge[1] for charge in question.charged if charge[0] == "test"} == {"evaluation", "groups"}


@settings(max_examples=30, deadline=None)
@given(cohort=cohorts(classes=2))
def test_an_intersection_holds_those_who_are_in_both(cohort: Any) -> None:
    examples, logits = cohort
    found = exactly("test", examples, logits, *BINNED).groups
    assert set(found) == {
        *("sex=female", "sex=male"),
        *(f"age_band={band}" for band in BANDS),
        *(f"sex*age_band={sex}*{band}" for sex in ("female", "male") for band in BANDS),
    }
    notes = Counter(example.patient for example in examples)
    for sex in ("female", "male"):
        for band in BANDS:
            inside = [e for e in examples if e.groups == {"sex": sex, "age_band": band}]
            total = sum(1 / notes[example.patient] for example in inside)
            assert found[f"sex*age_band={sex}*{band}"].sum() == pytest.approx(total)


@settings(max_examples=30, deadline=None)
@given(cohort=cohorts(classes=2))
def test_score_bins_of_a_group_add_up_to_its_predicted_classes(cohort: Any) -> None:
    examples, logits = cohort
    for positive in ("recovered", "deteriorated"):
        fine, plain = (
            exactly("test", examples, logits, f"task.positive={positive}", *overrides).groups
            for overrides in (BINNED, CROSSED)
        )
        for key, table in plain.items():
            folded = by_class(fine[key], positive=("recovered", "deteriorated").index(positive))
            np.testing.assert_allclose(folded, table)


def test_an_intersection_of_what_the_site_cannot_name_is_left_out() -> None:
    question = asked(study_of("task.groups=[sex,age_band,race]", "task.intersections=[sex*race,sex*age_band]"))
    reply = releases.evaluate(question)
    assert {key.partition("=")[0] for key in reply.groups} == {"sex", "age_band", "sex*age_band"}
    assert reply.groups_sd == pytest.approx(sd(question.plan.last_groups) * math.sqrt(5))  # as the study says, public


def test_groups_on_the_way_are_by_predicted_class_and_cost_their_own() -> None:
    study = study_of("evaluation.groups_every=2", *BINNED, "rounds=5")
    shapes = {}
    for number in range(1, 6):
        question = asked(study, number=number)
        reply = releases.evaluate(question)
        shapes[number] = {table.shape for table in reply.groups.values()}
        paid = [release for _, purpose, release in question.charged if purpose == "groups"]
        assert paid == ([question.plan.groups] if number in (2, 4) else [question.plan.last_groups] * (number == 5))
    assert shapes == {1: set(), 2: {(2, 2)}, 3: set(), 4: {(2, 2)}, 5: {(2, 4)}}


@pytest.mark.usefixtures("audited")
def test_audit_patients_are_counted_by_one_attribute_where_a_rule_asks() -> None:
    people = [Example(f"p{n}", n % 2, text="t", groups={"sex": "female"}, row=n) for n in range(5)]
    logits = {n: [0.0, 1.0] for n in range(5)}
    study = study_of("privacy=none", "explainability=none", "evaluation.audit_loss=false")
    answers = {n: releases.evaluate(asked(study, audit=people, logits=logits, number=n)) for n in (1, 2, 3)}
    for number in (1, 2):
        found = answers[number].audit_groups
        np.testing.assert_array_equal(found["sex=female"], [[0, 3], [0, 2]])
        assert not found["sex=male"].any()
        assert set(found) == {"sex=female", "sex=male"}
    assert not answers[3].audit_groups  # no training follows that a rule could weigh


@pytest.mark.usefixtures("audited")
def test_counts_of_audit_patients_have_the_plans_noise_and_their_own_purpose(tmp_path: Path) -> None:
    question = asked(study_of(), number=1)
    answers = [releases.evaluate(question) for _ in range(400)]
    stated = answers[0].audit_groups_sd
    assert stated == sd(question.plan.audit_groups) > 0
    drawn = np.array([vector(answer, "audit_groups") for answer in answers])
    assert drawn.std() == pytest.approx(stated, rel=0.05)
    assert np.abs(np.corrcoef(drawn, rowvar=False) - np.eye(8)).max() < 6 / math.sqrt(400)
    question = asked(study_of(), number=1, kind=Round, state=tmp_path)
    releases.evaluate(question)
    assert [c.purpose for c in question.ledger.charges() if c.split == "audit"] == ["loss", "audit_groups"]


@pytest.mark.usefixtures("audited")
def test_a_site_that_cannot_name_the_attribute_counts_nobody_and_pays_nothing() -> None:
    question = asked(study_of(), number=1)
    question.site.data.groups = {"sex": site_config.Group("sex")}  # it lists no values
    reply = releases.evaluate(question)
    assert (reply.audit_groups, reply.audit_groups_sd) == ({}, 0.0)
    assert "audit_groups" not in {purpose for _, purpose, _ in question.charged}


@pytest.mark.usefixtures("audited")
@pytest.mark.parametrize("unit", ["patient", "record"])
def test_one_audit_patient_moves_the_count_by_at_most_one(unit: str) -> None:
    study = study_of("privacy=none", "explainability=none", f"privacy.unit={unit}")

    @settings(max_examples=20, deadline=None)
    @given(cohort=cohorts(classes=2))
    def holds(cohort: Any) -> None:
        examples, logits = cohort

        def counted(some: Any) -> Any:
            return vector(releases.evaluate(asked(study, audit=some, logits=logits, number=1)), "audit_groups")

        def named(example: Example) -> Any:
            return example.patient if unit == "patient" else example.row

        for gone in {named(example) for example in examples}:
            rest = [example for example in examples if named(example) != gone]
            assert np.linalg.norm(counted(examples) - counted(rest)) <= 1 + 1e-9

    holds()


def test_a_patients_notes_in_two_crossed_groups_are_one_patient() -> None:
    sexes = ("female", "female", "male")
    notes = [Example("p0", 0, text="t", groups={"sex": s, "age_band": BANDS[0]}, row=n) for n, s in enumerate(sexes)]
    found = exactly("test", notes, {n: [0.0, 1.0] for n in range(3)}, *CROSSED).groups
    assert found["sex*age_band=female*under 40"].sum() == pytest.approx(2 / 3)
    assert found["sex*age_band=male*under 40"].sum() == pytest.approx(1 / 3)
