"""What leaves beside the update: one patient moves each exact sum by no more than stated, and nothing is free."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from opacus.accountants import PRVAccountant
from torch import nn

from client_app import releases
from client_app.cohorts import Prepared
from client_app.ledger import Ledger, Split
from client_app.reasons import before_sending
from client_app.rounds import Round
from client_app.training import Cohort
from fedfm.arrays import layout
from fedfm.config import site as site_config
from fedfm.config.compose import compose_study
from fedfm.config.study import Study
from fedfm.errors import PrivacyBudgetExceeded
from fedfm.examples import Example, Splits
from fedfm.explanations import sum_names
from fedfm.metrics.counts import LOSS_CAP
from fedfm.model.standardization import of_columns
from fedfm.plan import plan, sd
from fedfm.privacy import Release
from fedfm.schedule import evaluation_rounds
from fedfm.wire import EvaluateReply, Request

GROUPS = {
    "sex": site_config.Group("sex", values={"F": "female", "M": "male"}),
    "age_band": site_config.Group("age", bands=[40, 65]),
}
BANDS = ("under 40", "40 to under 65", "65 and over")
EVERYTHING = ("task.groups=[sex,age_band]", "explainability=integrated_gradients", "rounds=3")
EXTREME = (0.0, 1e4, -1e4, math.inf, -math.inf, math.nan)

Logits = dict[int, Sequence[float]]


class AsGiven(nn.Module):
    """Its states are its logits; counts its calls."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.standard = of_columns(1)

    def forward(self, states: list[torch.Tensor]) -> torch.Tensor:
        self.calls += 1
        return torch.stack(states)


@dataclass(frozen=True)
class Free(Round):
    """A round whose charges are noted in a list, for tests that ask a thousand times."""

    charged: list[tuple[Split, str, Release]] = field(default_factory=list)

    def charge(self, split: Split, purpose: str, release: Release) -> None:
        self.charged.append((split, purpose, release))


@lru_cache
def study_of(*overrides: str) -> Study:
    study: Study = compose_study(["model=tiny", *EVERYTHING, *overrides]).value
    return study


def site_of(state: Path) -> site_config.Site:
    data = site_config.Data(
        *("x.csv", "text", "mrn", "outcome"), label_map={}, text="note", split=site_config.Split(), groups=GROUPS
    )
    return site_config.Site(
        "hospital-a",
        declared_patients=60,
        data=data,
        policy=site_config.Policy(small_cells="none"),
        explanations=site_config.Explanations(),
        state=str(state),
    )


def cohort_of(examples: Sequence[Example], logits: Logits) -> Cohort:
    states = [torch.tensor(logits[example.row], dtype=torch.float64) for example in examples]
    return Cohort(states, torch.tensor([e.label for e in examples], dtype=torch.int64), [], torch.ones(len(examples)))


def asked(
    study: Study,
    *,
    audit: Sequence[Example] = (),
    test: Sequence[Example] = (),
    logits: Logits | None = None,
    state: Path = Path("state"),
    kind: type[Round] = Free,
    number: int = 3,
) -> Any:
    logits = logits or {}
    cohorts = [cohort_of(examples, logits) for examples in ((), audit, test)]
    prepared = Prepared(AsGiven(), Splits((), tuple(audit), tuple(test)), *cohorts, start={}, micro_batch=64)  # type: ignore[arg-type]
    request = Request("run-1", "", number, layout({}))
    return kind(site_of(state), study, plan(study, delta=1e-3), Ledger(state, "a"), prepared, request)


def cohorts(*, classes: int) -> st.SearchStrategy[tuple[list[Example], Logits]]:
    row = st.tuples(
        st.integers(0, 5),
        st.integers(0, classes - 1),
        st.sampled_from(["female", "male", "other"]),
        st.sampled_from([*BANDS, ""]),
        st.lists(st.sampled_from(EXTREME) | st.floats(-3, 3), min_size=classes, max_size=classes),
    )

    def built(rows: list[Any]) -> tuple[list[Example], Logits]:
        examples = [
            Example(f"p{patient}", label, text="t", groups={"sex": sex, "age_band": band}, row=number)
            for number, (patient, label, sex, band, _) in enumerate(rows)
        ]
        return examples, {number: logits for number, (*_, logits) in enumerate(rows)}

    return st.lists(row, min_size=1, max_size=10).map(built)


def vector(reply: EvaluateReply, *names: str) -> NDArray[np.float64]:
    parts = [
        np.asarray(values, dtype=np.float64) for name in names for _, values in sorted(getattr(reply, name).items())
    ]
    return np.concatenate([part.ravel() for part in parts])


def exactly(part: str, examples: Sequence[Example], logits: Logits, *overrides: str) -> EvaluateReply:
    """What would leave without noise; ``part`` is test or audit."""
    study = study_of("privacy=none", "explainability=none", *overrides)
    return releases.evaluate(asked(study, logits=logits, **{part: examples}))


@pytest.mark.parametrize("unit", ["patient", "record"])
@pytest.mark.parametrize("labels", ["recovered,deteriorated", "a,b,c"])
def test_one_unit_moves_each_release_by_at_most_its_sensitivity(labels: str, unit: str) -> None:
    classes = labels.count(",") + 1
    overrides = (f"task.labels=[{labels}]", "task.positive=''", f"privacy.unit={unit}")

    @settings(max_examples=40, deadline=None)  # the first example composes the study
    @given(cohort=cohorts(classes=classes))
    def holds(cohort: tuple[list[Example], Logits]) -> None:
        examples, logits = cohort
        whole = {part: exactly(part, examples, logits, *overrides) for part in ("test", "audit")}
        patients = {example.patient for example in examples}
        gone = (
            [lambda e, p=p: e.patient == p for p in patients]
            if unit == "patient"
            else [lambda e, r=r: e.row == r for r in range(len(examples))]
        )
        for leaves in gone:
            rest = {part: exactly(part, [e for e in examples if not leaves(e)], logits, *overrides) for part in whole}
            moved = vector(whole["test"], "groups") - vector(rest["test"], "groups")
            assert np.linalg.norm(moved) <= math.sqrt(2) + 1e-9  # two attributes
            assert np.linalg.norm(whole["test"].cells - rest["test"].cells) <= 1 + 1e-9
            moved = vector(whole["audit"], "losses") - vector(rest["audit"], "losses")
            assert np.linalg.norm(moved) <= math.sqrt(2) + 1e-9

    holds()


def test_the_stated_sensitivities_are_reached() -> None:
    """Else the noise would be more than it must be."""
    one = [Example("p0", 0, text="t", groups={"sex": "female", "age_band": "under 40"}, row=0)]
    for logits in ([-1e4, 1e4], [math.nan, 0.0], [-math.inf, 0.0]):
        counted, lost = (exactly(part, one, {0: logits}) for part in ("test", "audit"))
        assert np.linalg.norm(vector(counted, "groups")) == pytest.approx(math.sqrt(2))
        assert lost.losses == {"loss": 1.0, "patients": 1.0}


def test_a_patients_notes_are_one_patient() -> None:
    """Three notes in two groups, losses ln 2, ln 2 and beyond the cap: their mean is clipped, and counts once."""
    notes = [Example("p0", 0, text="t", groups={"sex": s}, row=n) for n, s in enumerate(["female", "female", "other"])]
    logits = {0: [0.0, 0.0], 1: [0.0, 0.0], 2: [0.0, 1.0]}
    counted, lost = (exactly(part, notes, logits) for part in ("test", "audit"))
    assert counted.groups["sex=female"].sum() == pytest.approx(2 / 3)
    assert counted.groups["sex=male"].sum() == 0
    mean = (2 * math.log(2) + math.log(1 + math.e)) / 3
    assert lost.losses == {"loss": pytest.approx(mean / LOSS_CAP), "patients": 1.0}


def test_groups_are_those_of_the_site_file_whatever_the_data_hold() -> None:
    strange = [Example("p0", 0, text="t", groups={"sex": "Jane Doe", "race": "x"}, row=0)]
    keys = {"sex=female", "sex=male", *(f"age_band={band}" for band in BANDS)}
    assert set(exactly("test", strange, {0: [0.0, 1.0]}).groups) == keys
    assert set(exactly("test", [], {}).groups) == keys
    assert not vector(exactly("test", strange, {0: [0.0, 1.0]}), "groups").any()


def test_an_attribute_without_a_list_of_groups_is_left_out_and_costs_nothing() -> None:
    question = asked(study_of("task.groups=[race]"))
    question.site.data.groups = {"race": site_config.Group("race")}  # a list made from the data would tell of patients
    reply = releases.evaluate(question)
    assert (reply.groups, reply.groups_sd) == ({}, 0.0)
    assert "groups" not in {purpose for _, purpose, _ in question.charged}


def test_groups_are_counted_in_the_last_round_only() -> None:
    assert not releases.evaluate(asked(study_of(), number=2)).groups
    assert not releases.evaluate(asked(study_of("evaluation.groups=false"))).groups
    assert releases.evaluate(asked(study_of())).groups


def test_losses_are_there_only_where_the_study_asks() -> None:
    assert releases.evaluate(asked(study_of(), number=1)).losses
    silent = releases.evaluate(asked(study_of("evaluation.audit_loss=false", "weighting=cohort")))
    assert (silent.losses, silent.losses_sd) == ({}, 0.0)


def test_the_predicted_class_is_the_column_whichever_is_positive() -> None:
    sick = [Example("p0", 1, text="t", groups={"sex": "male"}, row=0)]
    for positive in ("recovered", "deteriorated"):
        reply = exactly("test", sick, {0: [0.0, 2.0]}, f"task.positive={positive}")
        np.testing.assert_array_equal(reply.groups["sex=male"], [[0, 0], [0, 1]])


def test_noise_is_the_plans_in_units_of_the_sensitivity() -> None:
    """Over many answers of a hospital without patients, mean and spread of each number are those of the noise."""
    study = study_of("task.groups=[sex,age_band,race]")  # race counts, though this site cannot name it
    question = asked(study)
    answers = [releases.evaluate(question) for _ in range(1500)]
    made, one = question.plan, answers[0]
    assert one.cells_sd == sd(made.last_evaluation)
    assert one.groups_sd == pytest.approx(sd(made.last_groups) * math.sqrt(3))
    assert one.losses_sd == pytest.approx(made.loss.noise_multiplier * math.sqrt(2))
    assert one.explanation_sd == pytest.approx(sd(made.explanation) * math.sqrt(len(sum_names(study))))
    for name, stated in (("groups", one.groups_sd), ("losses", one.losses_sd), ("explanation", one.explanation_sd)):
        drawn = np.array([vector(answer, name) for answer in answers])
        assert np.abs(drawn.mean(axis=0)).max() < 6 * stated / math.sqrt(len(drawn)), name
        assert drawn.std(axis=0) == pytest.approx(stated, rel=6 / math.sqrt(2 * len(drawn))), name
        correlation = np.corrcoef(drawn, rowvar=False) - np.eye(drawn.shape[1])
        assert np.abs(correlation).max() < 6 / math.sqrt(len(drawn)), name  # no number shares the noise of another


def test_exact_counts_leave_the_audit_losses_noised() -> None:
    reply = releases.evaluate(asked(study_of("evaluation=exact")))
    assert reply.cells_sd == reply.groups_sd == 0.0
    assert not vector(reply, "groups").any()
    assert reply.losses_sd > 1.0
    assert reply.losses["patients"] != 0.0  # without an audit patient, too: nobody learns that there is none


@pytest.mark.parametrize(("part", "purposes"), [("test", ["evaluation", "groups"]), ("audit", ["loss"])])
def test_every_charge_is_on_disk_before_anything_is_computed(part: str, purposes: list[str], tmp_path: Path) -> None:
    class Breaks(AsGiven):
        def forward(self, states: list[torch.Tensor]) -> torch.Tensor:
            raise MemoryError

    patients: Any = {part: [Example("p0", 0, text="t", row=0)]}
    question = asked(study_of(), logits={0: [0.0, 0.0]}, state=tmp_path, kind=Round, **patients)
    question = replace(question, prepared=replace(question.prepared, model=Breaks()))
    with pytest.raises(MemoryError):
        releases.evaluate(question)
    assert [charge.purpose for charge in question.ledger.charges() if charge.split == part] == purposes


def test_nothing_is_computed_after_a_refused_charge(tmp_path: Path) -> None:
    one = [Example("p0", 0, text="t", row=0)]
    study = study_of("explainability=none")
    question = asked(study, logits={0: [0.0, 0.0]}, state=tmp_path, kind=Round, test=one, audit=one)
    releases.evaluate(question)
    calls, entries = question.prepared.model.calls, len(question.ledger.charges())
    with pytest.raises(PrivacyBudgetExceeded, match="evaluation"):
        releases.evaluate(question)
    assert question.prepared.model.calls == calls
    assert len(question.ledger.charges()) == entries


@pytest.mark.parametrize("overrides", [(), ("evaluation.every=2", "explainability.every=3"), ("explainability=none",)])
def test_a_runs_ledger_equals_opacus_and_stays_within_each_budget(overrides: tuple[str, ...], tmp_path: Path) -> None:
    study = study_of("rounds=4", *overrides)
    for number in range(1, study.rounds + 1):
        before_sending.begin(asked(study, state=tmp_path, kind=Round, number=number))
        if number in evaluation_rounds(study):
            reply = releases.evaluate(asked(study, state=tmp_path, kind=Round, number=number))
    ledger = Ledger(tmp_path, "a")
    for split, stated in (("test", reply.privacy.test), ("audit", reply.privacy.audit)):
        accountant = PRVAccountant()
        for charge in ledger.charges():
            if charge.split == split:
                for _ in range(charge.release.steps):
                    accountant.step(noise_multiplier=charge.release.noise_multiplier, sample_rate=1.0)
        with np.errstate(all="ignore"):
            assert stated == pytest.approx(accountant.get_epsilon(1e-3), abs=1e-4)  # steps of rate 1 are merged
        assert 2.9 <= stated <= 3.0 or (split == "audit" and "explainability.every=3" in overrides)  # rounds not asked
    assert reply.privacy.train == 0.0
