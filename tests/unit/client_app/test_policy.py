"""A site refuses what its policy does not allow, with a code, and spends nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from client_app.site import accept, agreed_plan, delta
from fedfm.config.compose import compose_study
from fedfm.config.site import Data, Policy, Site, Split
from fedfm.config.study import Study
from fedfm.errors import PolicyError
from fedfm.privacy import Release, epsilon
from fedfm.schedule import check_rounds, evaluation_rounds, explanation_rounds


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
    ],
)
def test_each_cap_refuses_what_is_beyond_it(override: str, code: str) -> None:
    with pytest.raises(PolicyError) as caught:
        accept(site(), study(override))
    assert caught.value.code == code
    assert "hospital-a" in str(caught.value)
    assert caught.value.fix


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
