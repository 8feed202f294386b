"""The data-protection officer's file: whole or refused, told by its own lines, and in one place only."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fedfm.config.compose import load_site
from fedfm.config.policy import policy_hash, task_hash
from fedfm.config.site import RELEASES, Policy
from fedfm.config.study import Task
from fedfm.errors import ConfigErrors
from tests.unit.fedfm.test_config_site import GOOD, problems_of

STRICT = """\
# strict
max_epsilon: 1.0
max_epsilon_per_run: 0.5
max_grad_norm: 0.2
max_minutes_per_round: 5
max_rounds: 10
min_patients: 100
min_sites: 3
releases: [evaluation, loss]
models: [none]
small_cells: redact7_round5
approval: required
"""
EACH = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, policy: str, *, site: str = GOOD) -> Path:
    (folder / "policy.yaml").write_text(policy)
    (folder / "site.yaml").write_text(site)
    return folder / "site.yaml"


def test_the_file_beside_the_site_file_is_the_policy(tmp_path: Path) -> None:
    found = load_site(write(tmp_path, STRICT)).policy
    assert found == Policy(**yaml.safe_load(STRICT))


def test_without_one_the_defaults_ask_a_person(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(GOOD)
    assert load_site(tmp_path / "site.yaml").policy == Policy()
    assert Policy().approval == "required"


@pytest.mark.parametrize("block", ["policy: {max_epsilon: 9}", "policy: {}", "policy:"])
def test_two_policies_are_refused(tmp_path: Path, block: str) -> None:
    (problem,) = problems_of(write(tmp_path, STRICT, site=GOOD + block + "\n"))
    assert problem.startswith("SITE-E030 the policy is given here and in policy.yaml — site.yaml:13 ")


@pytest.mark.parametrize(
    ("old", "new", "code", "where", "words"),
    [
        (
            "max_epsilon: 1.0",
            "max_epsilom: 1.0",
            "E001",
            "policy.yaml:2 policy.max_epsilom",
            "did you mean max_epsilon?",
        ),
        ("max_epsilon: 1.0", "max_epsilon: 0", "E008", "policy.yaml:2 policy.max_epsilon", "above 0"),
        ("max_rounds: 10", "max_rounds: ten", "E003", "policy.yaml:6 policy.max_rounds", "a whole number"),
        ("max_rounds: 10", "max_rounds: 010", "E005", "policy.yaml:6 policy.max_rounds", "YAML reads 010 as 8"),
        ("max_rounds: 10", "\tmax_rounds: 10", "E004", "policy.yaml:6", "has a TAB"),
        ("max_rounds: 10", "max_epsilon: 2", "E006", "policy.yaml:6 max_epsilon", "lines 2 and 6"),
        ("releases: [evaluation,", "releases: [counts,", "E009", "policy.yaml:9 policy.releases.0", "evaluation"),
        ("models: [none]", "models: [minilm]", "E007", "policy.yaml:10 policy.models.0", "[0-9a-f]{64}"),
        ("approval: required", "approval: no", "E005", "policy.yaml:12 policy.approval", "quotes"),
        ("approval: required", "approval: optional", "E009", "policy.yaml:12", "required, none"),
        ("min_sites: 3", "units: []", "E030", "policy.yaml:8 policy.units", "no unit"),
        ("max_rounds: 10", "max_rounds: ${oc.env:NO_SUCH}", "E031", "policy.yaml:6 policy.max_rounds", "NO_SUCH"),
    ],
)
def test_each_mistake_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, code: str, where: str, words: str
) -> None:
    assert STRICT.count(old) == 1
    found = problems_of(write(tmp_path, STRICT.replace(old, new)))
    assert any(p.startswith(f"SITE-{code}") and where in p and words in p for p in found), found


def test_the_word_policy_does_not_stand_in_its_own_file(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, "policy:\n  max_epsilon: 1.0\n"))
    assert problem.startswith("SITE-E001 unknown key 'policy' — policy.yaml:1 policy.policy")


@pytest.mark.parametrize("text", ["", "# max_epsilon: 1\n", "{}\n"])
def test_an_empty_file_is_no_policy(tmp_path: Path, text: str) -> None:
    """A disk that was full must not give the defaults back in the place of something stricter."""
    (problem,) = problems_of(write(tmp_path, text))
    assert problem.startswith("SITE-E002 the policy file holds no setting — policy.yaml")


@pytest.mark.parametrize("text", ["[1, 2]\n", "max_epsilon\n", "3\n", "- max_epsilon: 1\n", "a: b: c\n", "\x00\n"])
def test_what_is_no_map_is_refused(tmp_path: Path, text: str) -> None:
    assert all("policy.yaml" in problem for problem in problems_of(write(tmp_path, text)))


def test_a_policy_that_cannot_be_read_or_has_another_name_is_refused(tmp_path: Path) -> None:
    site_file = write(tmp_path, STRICT)
    (tmp_path / "policy.yaml").rename(tmp_path / "policy.yml")
    (problem,) = problems_of(site_file)
    assert problem.startswith("SITE-E032 a policy under a name that is not read — policy.yml")
    (tmp_path / "policy.yml").unlink()
    (tmp_path / "policy.yaml").symlink_to(tmp_path / "nowhere")
    assert problems_of(site_file)[0].startswith("SITE-E032")
    (tmp_path / "policy.yaml").unlink()
    (tmp_path / "policy.yaml").mkdir()
    assert problems_of(site_file)[0].startswith("SITE-E032")


def test_a_link_to_the_site_file_has_the_policy_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "link.yaml").symlink_to(write(tmp_path / "conf", STRICT))
    assert load_site(tmp_path / "link.yaml") == load_site(tmp_path / "conf" / "site.yaml")


@pytest.mark.parametrize("name", ["Policy.yaml", "POLICY.YML"])
def test_a_policy_in_other_letters_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, STRICT).with_name("policy.yaml").rename(tmp_path / name)
    (problem,) = problems_of(tmp_path / "site.yaml")
    assert problem.startswith(f"SITE-E032 a policy under a name that is not read — {name}")


@pytest.mark.parametrize("name", ["max_epsilon", "releases", "approval", "small_cells"])
def test_a_value_left_open_is_no_default(tmp_path: Path, name: str) -> None:
    (problem,) = problems_of(write(tmp_path, f"{name}: ???\n"))
    assert problem.startswith(f"SITE-E003 ??? is no value — policy.yaml:1 policy.{name}")


@EACH
@given(st.data())
def test_a_mutated_file_never_loosens_what_it_says(tmp_path: Path, data: st.DataObject) -> None:
    """One letter taken out, put in or exchanged: refused, or read as it now stands; never as if it were not there."""
    at = data.draw(st.integers(0, len(STRICT) - 1))
    letter = data.draw(st.sampled_from(list("abzM_019.:-# ,[]{}'\"&*!|>%@\t\n")))
    how = data.draw(st.sampled_from(["drop", "insert", "exchange"]))
    text = STRICT[:at] + ("" if how == "drop" else letter) + STRICT[at + (how != "insert") :]
    assume(text != STRICT)
    try:
        found = load_site(write(tmp_path, text)).policy
    except ConfigErrors:
        return
    written = yaml.safe_load(text)
    assert found == replace(Policy(), **written)
    untouched = {line.partition(":")[0] for line in STRICT.splitlines()[1:] if line in text.splitlines()}
    strict = Policy(**yaml.safe_load(STRICT))
    assert {name for name in untouched if getattr(found, name) != getattr(strict, name)} == set()


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "approval": st.sampled_from(["required", "none"]),
    "max_epsilon": st.floats(0.01, 100),
    "max_epsilon_per_run": st.floats(0, 100),
    "max_grad_norm": st.floats(0.01, 1e4),
    "max_minutes_per_round": st.floats(0.01, 1e6),
    "max_rounds": st.integers(1, 10**6),
    "min_sites": st.integers(1, 50),
    "models": st.lists(st.sampled_from(["none", "ab" * 32]), max_size=2),
    "tasks": st.lists(st.just("cd" * 32), max_size=2),
    "releases": st.lists(st.sampled_from(RELEASES)),
    "allow_no_privacy": st.booleans(),
}


@EACH
@given(st.fixed_dictionaries({}, optional=VALUES).filter(bool))
def test_a_policy_is_the_same_in_both_places_and_its_hash_tells_every_other(
    tmp_path: Path, written: dict[str, Any]
) -> None:
    apart = load_site(write(tmp_path, yaml.safe_dump(written))).policy
    (tmp_path / "policy.yaml").unlink()
    (tmp_path / "site.yaml").write_text(GOOD + yaml.safe_dump({"policy": dict(reversed(written.items()))}))
    inside = load_site(tmp_path / "site.yaml").policy
    assert apart == inside == replace(Policy(), **written)
    assert policy_hash(apart) == policy_hash(inside)
    assert (policy_hash(apart) == policy_hash(Policy())) == (apart == Policy())


def test_every_setting_of_policy_and_task_is_in_its_hash() -> None:
    """A setting that the hash left out could change under an auditor's eyes."""
    for kind, of, other in ((Policy(), policy_hash, "x"), (Task(), task_hash, "x")):
        hashes = {of(replace(kind, **{name: other})) for name in asdict(kind)}  # type: ignore[type-var,operator]
        assert len(hashes | {of(kind)}) == len(asdict(kind)) + 1  # type: ignore[operator]
