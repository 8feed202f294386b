"""Where a site would refuse a plan, or its noise would drown it, the plan says what would do; and it does."""

import pytest

from client_app.site import accept, agreed_plan
from fedfm.config.compose import compose_study
from fedfm.config.study import Study
from fedfm.errors import PolicyError
from server_app.planning import Federation, outlook
from server_app.planning_feasible import Caps, obstacles
from tests.unit.server_app.plans import CAPS, HEAD, site_of, study_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def test_a_feasible_study_has_nothing_in_the_way_and_a_site_accepts_it() -> None:
    study = study_of()
    found, problems = obstacles(study, 300, Federation(2, 66), CAPS)
    assert problems == []
    assert found is not None
    assert refusal_of(study, 300) == ""


def test_above_the_cap_names_the_rounds_and_steps_that_fit() -> None:
    study = study_of("privacy.epsilon=6", "rounds=6")
    found, (problem,) = obstacles(study, 300, Federation(2, 66), CAPS)
    assert found is not None
    assert problem.code == refusal_of(study, 300)
    rounds = max(done for done, spent in found.rounds.items() if spent <= 3)
    assert 1 <= rounds < 6
    assert problem.instead[0] == "privacy.epsilon=3"
    assert problem.instead[1].startswith(f"privacy.epsilon=3 rounds={rounds},")
    assert problem.instead[2].startswith("privacy.epsilon=3 training.local_steps=1,")  # 6 steps of 24 fit, 12 do not


def test_a_delta_above_one_patient_names_the_cohort_that_may_have_it() -> None:
    study = study_of("privacy.delta=0.0005")
    _, (problem,) = obstacles(study, 3000, Federation(2, 66), CAPS)
    assert problem.code == refusal_of(study, 3000) == "SITE-E102"
    assert problem.instead == ("privacy.delta=3.3e-05, or leave it empty", "sites of at most 200 patients")
    assert obstacles(study, 200, Federation(2, 66), CAPS)[1] == []


@pytest.mark.parametrize(
    ("overrides", "setting", "release"),
    [
        (("training.local_steps=1", "rounds=1"), "epsilon", "training"),
        (("privacy.evaluation_epsilon=3", "rounds=1", "task.groups=[]"), "evaluation_epsilon", "last_evaluation"),
    ],
)
def test_too_little_noise_names_the_budget_that_adds_enough(
    overrides: tuple[str, ...], setting: str, release: str
) -> None:
    study = study_of(*overrides)
    least = 1.05 * outlook(study, 300, Federation(2, 66)).noises[release]
    _, problems = obstacles(study, 300, Federation(2, 66), Caps(3.0, least))
    (problem,) = [each for each in problems if f" in {release}:" in each.what]
    assert problem.code == "SITE-E105"
    name, _, value = problem.instead[0].partition("=")
    assert name == f"privacy.{setting}"
    mended = compose_study([*HEAD, *overrides, f"{name}={value}"]).value
    assert outlook(mended, 300, Federation(2, 66)).noises[release] >= least


def test_a_budget_that_other_releases_use_up_names_the_least_that_is_enough() -> None:
    study = study_of("reweighting=kamiran_calders", "privacy.epsilon=0.05")
    found, (problem,) = obstacles(study, 300, Federation(2, 66), CAPS)
    assert found is None
    assert problem.code == refusal_of(study, 300) == "SITE-E109"
    least = float(problem.instead[0].removeprefix("privacy.epsilon=").removesuffix(" or more"))
    study.privacy.epsilon = least
    outlook(study, 300, Federation(2, 66))
    study.privacy.epsilon = least / 1.3
    with pytest.raises(PolicyError):
        outlook(study, 300, Federation(2, 66))


def test_drowned_studies_say_what_would_be_heard() -> None:
    study, parameters = study_of("privacy.epsilon=0.5"), 100_000
    found, (problem,) = obstacles(study, 300, Federation(2, parameters), CAPS)
    assert found is not None
    assert found.averaged > 1
    assert problem.code == ""
    epsilon, sites, patients, fewer = problem.instead
    assert outlook(study, 300, Federation(int(sites.split()[0]), parameters)).averaged <= 1
    assert outlook(study, 300, Federation(int(sites.split()[0]) - 1, parameters)).averaged > 1
    enough = int(patients.split()[0])
    assert outlook(study, enough, Federation(2, parameters)).averaged <= 1
    assert outlook(study, round(0.85 * enough), Federation(2, parameters)).averaged > 1
    assert outlook(study, 300, Federation(2, int(float(fewer.split()[2])))).averaged <= 1
    study.privacy.epsilon = float(epsilon.removeprefix("privacy.epsilon="))
    assert outlook(study, 300, Federation(2, parameters)).averaged <= 1
    study.privacy.epsilon /= 1.15
    assert outlook(study, 300, Federation(2, parameters)).averaged > 1


def refusal_of(study: Study, patients: int) -> str:
    """The code with which a site of default policy refuses."""
    try:
        accept(site_of(patients), study)
        agreed_plan(site_of(patients), study)
    except PolicyError as problem:
        return problem.code
    return ""
