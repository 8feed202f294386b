"""A site refuses what its policy does not allow, with a code, and spends nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.site import accept, agreed_plan, delta
from client_app.trainer import trainer_pb2 as pb
from fedfm.config.compose import compose_study
from fedfm.config.policy import task_hash
from fedfm.config.site import RELEASES, Data, Policy, Site, Split
from fedfm.config.study import Study
from fedfm.errors import PolicyError
from fedfm.plan import leaving, plan, planned
from fedfm.privacy import Release, epsilon
from fedfm.schedule import check_rounds, evaluation_rounds, explanation_rounds

CONF = Path(__file__).parents[3] / "conf"


def site(**policy: object) -> Site:
    return Site(
        id="hospital-a",
        declared_patients=400,
        data=Data(
            path="x.csv", loader="text", patient="mrn", label="y", label_map={"0": "a"}, text="note", split=Split()
        ),
        policy=Policy(**policy),  # type: ignore[arg-type]
        state="state",
    )


def study(*overrides: str) -> Study:
    composed = compose_study(["model=minilm", *overrides])
    assert isinstance(composed.value, Study)
    return composed.value


def test_the_default_study_is_accepted_by_the_default_policy() -> None:
    accept(site(), study())


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("privacy.epsilon=50", "SITE-E101"),
        ("privacy.evaluation_epsilon=3.01", "SITE-E101"),
        ("privacy.audit_epsilon=4", "SITE-E101"),
        ("privacy.delta=0.01", "SITE-E102"),
        ("privacy=none", "SITE-E103"),
        ("evaluation=exact", "SITE-E103"),
        ("rounds=10000", "SITE-E106"),
        ("training.local_steps=10000", "SITE-E106"),
        ("min_sites=1", "SITE-E107"),
        ("privacy=record", "SITE-E108"),
        ("model=tiny", "SITE-E140"),
        ("privacy.delta=0.0003", "SITE-E102"),  # above 1 / (10 patients): it would make other epsilons look small
        ("training.precision=bfloat16", "SITE-E110"),
        ("privacy.max_grad_norm=10.1", "SITE-E111"),
        ("privacy.max_grad_norm=10000", "SITE-E111"),
    ],
)
def test_each_cap_refuses_what_is_beyond_it(override: str, code: str) -> None:
    with pytest.raises(PolicyError) as caught:
        accept(site(), study(override))
    assert caught.value.code == code
    assert "hospital-a" in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("split", ["epsilon", "evaluation_epsilon", "audit_epsilon"])
def test_one_run_may_be_kept_below_what_all_may_spend(split: str) -> None:
    names = ("epsilon", "evaluation_epsilon", "audit_epsilon")
    wanted = study(*(f"privacy.{name}={2 if name == split else 1}" for name in names))
    accept(site(max_epsilon_per_run=2.0), wanted)
    with pytest.raises(PolicyError, match=rf"SITE-E101 privacy.{split} .*at most 1\.5"):
        accept(site(max_epsilon_per_run=1.5), wanted)
    with pytest.raises(PolicyError, match=rf"SITE-E101 privacy.{split} .*at most 1 "):
        accept(site(max_epsilon=1.0, max_epsilon_per_run=50.0), wanted)  # the stricter of the two


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_stays_within_the_default_policy(experiment: str) -> None:
    composed = compose_study([f"experiment={experiment}"]).value
    accept(replace(site(), declared_patients=30), composed)


def test_only_listed_weights_are_trained() -> None:
    wanted, tabular = study(), compose_study(["experiment=heart_disease"]).value
    accept(site(models=[wanted.model.sha256]), wanted)
    accept(site(models=["none"]), tabular)
    open_to_tests = {"allow_random_weights": True}
    for listed, asked in (
        (["ab" * 32], wanted),
        (["none"], wanted),
        ([wanted.model.sha256], tabular),
        ([wanted.model.sha256, "none"], study("model=tiny", f"model.sha256={wanted.model.sha256}")),
    ):
        with pytest.raises(PolicyError, match="SITE-E112"):
            accept(site(models=listed, **open_to_tests), asked)


def test_only_listed_tasks_are_trained() -> None:
    wanted = study()
    accept(site(tasks=["ab" * 32, task_hash(wanted.task)]), wanted)
    for change in ("task.groups=[]", "task.labels=[deteriorated,recovered]", "task.positive=recovered"):
        with pytest.raises(PolicyError, match="SITE-E113"):
            accept(site(tasks=[task_hash(wanted.task)]), study(change))


ASKING = {
    "statistics": ("standardize=global",),
    "evaluation": (),
    "groups": (),
    "alone_count": ("baseline=alone",),
    "loss": (),
    "audit_groups": ("weighting=fairfed",),
    "explanation": (),
    "terms": ("explainability.vocabulary=[fever]",),
    "check": (),
}
"""Release to what a study says to ask for it, where it does not anyway."""


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_that_the_policy_keeps_is_refused(release: str) -> None:
    wanted = study(*ASKING[release])
    accept(site(), wanted)
    allowed = [name for name in RELEASES if name != release]
    with pytest.raises(PolicyError, match=rf"SITE-E114 .*got: {release} — allowed: {', '.join(allowed)}"):
        accept(site(releases=allowed), wanted)


@settings(max_examples=20, deadline=None)
@given(
    asked=st.sets(st.sampled_from(sorted({word for words in ASKING.values() for word in words}))),
    less=st.sets(st.sampled_from(["explainability=none", "evaluation.groups=false", "evaluation.audit_loss=false"])),
    rounds=st.integers(1, 4),
)
def test_what_is_said_to_leave_is_what_the_plan_releases(asked: set[str], less: set[str], rounds: int) -> None:
    """What the plan charges, but for what stays: else a release could pass the policy unnamed."""
    if "explainability=none" in less:
        asked -= {"explainability.vocabulary=[fever]"}
    wanted = study(*sorted(asked), *sorted(less), f"rounds={rounds}")
    stays = {"training", "reweighting", "alone", "group_losses"}
    released = {one.name.removeprefix("last_") for one in planned(wanted, plan(wanted, delta=1e-4))} - stays
    assert set(leaving(wanted)) == released


def test_every_field_that_leaves_is_a_release_or_public() -> None:
    """Whoever adds a field to the messages has to say here what it is, and give the policy a word for it."""
    of = {"sums": "statistics", "cells": "evaluation", "alone": "alone_count", "losses": "loss"}
    public = {"site", "round", "layout", "declared_patients", "steps", "seconds", "privacy", "device", "labels"}
    of_policy = {"update", "downweighted"}  # the training itself; and what follows from the sums of the check
    named = set()
    for message in (pb.Description, pb.SummariseReply, pb.TrainReply, pb.EvaluateReply):
        fields = {field.name for field in message.DESCRIPTOR.fields} - public - of_policy
        if message is pb.Description:
            assert fields == {"groups"}  # attributes that the site file offers
            continue
        named |= {of.get(name, name) for name in fields if not name.endswith("_sd")}
    assert named == set(RELEASES)


@pytest.mark.parametrize("location", ["/", "/etc", "/no/such/folder", "../..", "model"])
def test_a_folder_that_a_study_names_is_never_opened(location: str) -> None:
    digest = "ab" * 32
    wanted = study("model.source=directory", f"model.location={location}", f"model.sha256={digest}")
    told = set()
    for copies in ({}, {"cd" * 32: location}):
        with pytest.raises(PolicyError, match="SITE-E142") as caught:
            accept(replace(site(), weights=copies), wanted)
        told.add(str(caught.value).replace(location, ""))
    assert len(told) == 1
    accept(replace(site(), weights={digest: "/srv/model"}), wanted)  # served from the site's own folder


def test_all_refusals_are_told_at_once() -> None:
    with pytest.raises(PolicyError, match=r"SITE-E106.*SITE-E101.*SITE-E102"):
        accept(site(), study("rounds=10000", "privacy.epsilon=9", "privacy.delta=0.1"))


def test_a_tiny_noise_is_refused_even_within_epsilon() -> None:
    with pytest.raises(PolicyError, match="SITE-E105 less noise than the site allows"):
        agreed_plan(site(min_noise_multiplier=50.0), study())


def test_the_plan_keeps_every_split_within_its_budget_when_all_rounds_run() -> None:
    wanted = study(
        *("rounds=6", "evaluation.every=2", "explainability.every=3"),
        *("reweighting=kamiran_calders", "standardize=global"),
    )
    made = agreed_plan(site(), wanted)
    assert made.reweighting
    assert made.statistics
    assert made.explanation
    assert made.loss
    assert made.last_groups
    steps = [made.statistics, made.reweighting, replace(made.training, steps=6 * made.training.steps)]
    assert epsilon(steps, made.delta) == pytest.approx(made.planned)
    assert 0.97 * 3 <= made.planned <= 3
    evaluations = [made.evaluation] * (len(evaluation_rounds(wanted)) - 1) + [made.last_evaluation, made.last_groups]
    assert 0.97 * 3 <= epsilon(evaluations, made.delta) <= 3
    looks = [made.explanation] * len(explanation_rounds(wanted)) + [made.loss] * len(evaluation_rounds(wanted))
    assert made.check
    looks += [made.check] * len(check_rounds(wanted))
    assert 0.97 * 3 <= epsilon(looks, made.delta) <= 3


def test_rounds_with_an_evaluation_end_with_the_last() -> None:
    assert evaluation_rounds(study("rounds=5", "evaluation.every=2")) == [2, 4, 5]
    assert explanation_rounds(study("rounds=5", "explainability.every=0")) == [5]


def test_delta_is_the_sites_own_unless_the_study_is_stricter() -> None:
    assert delta(site(max_delta=0.01), study()) == 1 / (10 * 400)
    assert delta(site(max_delta=1e-6), study()) == 1e-6
    assert delta(site(), study("privacy.delta=1e-5")) == 1e-5


def test_a_study_without_mechanism_says_so_by_an_infinite_epsilon() -> None:
    made = agreed_plan(site(allow_no_privacy=True), study("privacy=none"))
    assert made.planned == float("inf")
    assert made.training == Release(0.0, 1.0, 4)


def test_fixture_paths_are_not_read(tmp_path: Path) -> None:
    accept(replace(site(), state=str(tmp_path / "nowhere")), study())
    assert not (tmp_path / "nowhere").exists()
