"""An approval is of one resolved study; whatever differs, is withdrawn or was tampered with is refused by a code."""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_app import approvals as module
from client_app import installed
from client_app.approvals import FILE, Approvals, study_hash
from client_app.installed import code_hash
from client_app.pending import FOLDER, Pending
from client_app.study_card import changes
from fedfm.config.compose import compose_study, study_from_json, study_to_json
from fedfm.config.policy import policy_hash
from fedfm.config.site import Data, Policy, Site, Split
from fedfm.config.study import Study
from fedfm.errors import ConfigErrors, DataError, FedFMError, PolicyError
from fedfm.wire import WIRE_VERSION

NOW = datetime.datetime(2026, 11, 25, 16, 30, tzinfo=datetime.UTC)
DEMO = ("experiment=demo", "explainability.vocabulary=[fever,cough]", "explainability.shortcuts={tag: [portable film]}")


def site_in(folder: Path, **policy: Any) -> Site:
    data = Data("x.csv", "text", "mrn", "y", label_map={"0": "a"}, text="note", split=Split())
    return Site("hospital-a", declared_patients=400, data=data, policy=Policy(**policy), state=str(folder))


def study(*overrides: str) -> Study:
    found: Study = compose_study([*DEMO, *overrides]).value
    return found


def refused(approvals: Approvals, wanted: Study) -> str:
    with pytest.raises(PolicyError) as caught:
        approvals.check(wanted)
    return caught.value.code


def test_a_study_waits_until_a_person_approves_it(tmp_path: Path) -> None:
    site, wanted = site_in(tmp_path), study()
    trainer, person = Approvals(site), Approvals(site)  # two processes
    assert refused(trainer, wanted) == "SITE-E220"
    assert list(person.waiting().studies) == [study_hash(wanted)]
    person.approve(wanted, by="  Dr.  Ada\tBerg ", now=NOW)
    trainer.check(wanted)
    assert person.waiting().studies == {}
    (entry,) = person.decisions()
    assert (entry.time, entry.action, entry.by, entry.name) == (
        "2026-11-25T16:30:00+00:00",
        "approve",
        "Dr. Ada Berg",
        "demo",
    )
    assert (entry.study, entry.code, entry.policy) == (study_hash(wanted), code_hash(), policy_hash(site.policy))
    assert (entry.wire_version, entry.resolved) == (WIRE_VERSION, study_to_json(wanted))


def test_an_approval_that_is_withdrawn_holds_no_longer_and_can_be_given_again(tmp_path: Path) -> None:
    approvals, wanted = Approvals(site_in(tmp_path)), study()
    digest = approvals.approve(wanted, by="Ada", now=NOW).study
    approvals.withdraw(digest[:8], by="Bo", now=NOW)
    assert refused(approvals, wanted) == "SITE-E221"
    assert approvals.waiting().studies == {}  # nobody is asked again
    with pytest.raises(DataError, match="SITE-E224"):
        approvals.withdraw(digest, by="Bo", now=NOW)
    approvals.approve(approvals.find(digest[:6]), by="Ada", now=NOW)
    approvals.check(wanted)
    assert [entry.action for entry in approvals.decisions()] == ["approve", "withdraw", "approve"]


def test_an_approval_is_for_one_wire_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approvals, wanted = Approvals(site_in(tmp_path)), study()
    approvals.approve(wanted, by="Ada", now=NOW)
    monkeypatch.setattr(module, "WIRE_VERSION", WIRE_VERSION + 1)
    assert refused(approvals, wanted) == "SITE-E222"
    approvals.approve(approvals.find(next(iter(approvals.waiting().studies))), by="Ada", now=NOW)
    approvals.check(wanted)


def test_none_is_needed_where_the_policy_says_so(tmp_path: Path) -> None:
    Approvals(site_in(tmp_path / "state", approval="none")).check(study())
    assert not (tmp_path / "state").exists()


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(tree, dict) and tree:
        for name, inner in tree.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path


def others(value: Any) -> list[Any]:
    """Other values that a setting of this kind might have; some of them the schema lets through."""
    words = [
        "none",
        "global",
        "alone",
        "head",
        "record",
        "exact",
        "best",
        "text",
        "noisy",
        "sgd",
        "per_layer",
        "x",
        "a b",
    ]
    words += ["columns", "random", "directory", "reference", "adam", "bfloat16", "stop", "ditto", "uniform", "ab" * 32]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value * 2, value / 2, value - 1, 0.01, int(value) // 2]
    if isinstance(value, str):
        return [word for word in words if word != value]
    if isinstance(value, list):
        return [*(value[:n] for n in range(len(value))), value[::-1] if len(value) > 1 else [1], [*value, "zz"], ["zz"]]
    return [{"zz": 1.0}, {"zz": ["portable film"]}, {"zz": {"a": "b"}}, {"accuracy": 0.3}, 1e-9, 0.5, 7]


def test_a_study_that_differs_in_one_setting_is_not_the_approved_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every setting of a study, changed into all that the schema lets through."""
    monkeypatch.setattr(Pending, "keep", lambda *_: "")  # which would take longest
    approvals, wanted = Approvals(site_in(tmp_path)), study()
    tree = json.loads(study_to_json(wanted))
    approvals.approve(wanted, by="Ada", now=NOW)
    approvals.check(study_from_json(json.dumps(tree)))
    changed, settings_seen = 0, set()
    for path in leaves(tree):
        holder = tree
        for name in path[:-1]:
            holder = holder[name]
        kept = holder[path[-1]]
        for value in others(kept):
            holder[path[-1]] = value
            try:
                other = study_from_json(json.dumps(tree))
            except ConfigErrors:
                continue
            if json.loads(study_to_json(other)) == json.loads(study_to_json(wanted)):
                continue  # 2 and 2.0
            assert refused(approvals, other) == "SITE-E220", (path, value)
            (difference,) = changes(json.loads(study_to_json(wanted)), json.loads(study_to_json(other)))
            assert difference.setting.startswith(".".join(path))
            changed += 1
            settings_seen.add(path)
        holder[path[-1]] = kept
    assert len(settings_seen) > 0.75 * len(list(leaves(tree))), "the test would miss settings"
    assert changed > 150


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.integers(0, 4))
def test_how_the_coordinator_writes_a_study_makes_no_other_study(tmp_path: Path, chance: Any, indent: int) -> None:
    wanted = study()

    def shuffled(tree: Any) -> Any:
        if isinstance(tree, dict):
            names = chance.sample(list(tree), len(tree))
            return {name: shuffled(tree[name]) for name in names}
        return int(tree) if isinstance(tree, float) and tree.is_integer() else tree

    # sections in another order, whole numbers for numbers, white space; the inside of a free map is as it was sent
    sent = json.loads(study_to_json(wanted))
    tree = shuffled(sent) | {name: sent[name] for name in ("weighting", "contribution", "explainability")}
    assert study_hash(study_from_json(json.dumps(tree, indent=indent))) == study_hash(wanted)


def test_a_waiting_study_that_was_changed_on_disk_is_not_approved(tmp_path: Path) -> None:
    approvals = Approvals(site_in(tmp_path))
    refused(approvals, study())
    (path,) = (tmp_path / FOLDER).iterdir()
    path.write_text(path.read_text().replace('"epsilon":3.0', '"epsilon":9.0', 1))
    with pytest.raises(DataError, match="SITE-E225"):
        approvals.find(path.stem[:8])


@pytest.mark.parametrize("damage", ["edit", "drop the approval", "drop the withdrawal", "drop all"])
def test_a_file_that_was_touched_lets_nothing_through(tmp_path: Path, damage: str) -> None:
    approvals, wanted = Approvals(site_in(tmp_path)), study()
    digest = approvals.approve(wanted, by="Ada", now=NOW).study
    approvals.withdraw(digest, by="Bo", now=NOW)
    path = tmp_path / FILE
    lines = path.read_text().splitlines(keepends=True)
    changed = {
        "edit": [lines[0].replace("Ada", "Eve"), lines[1]],
        "drop the approval": lines[1:],
        "drop the withdrawal": lines[:1],
        "drop all": [],
    }
    path.write_text("".join(changed[damage]))
    for found in (approvals, Approvals(site_in(tmp_path))):  # this process, and a new one
        # a last line that is gone is known from the draft beside the file, and counts
        with pytest.raises(FedFMError, match="SITE-E221" if damage == "drop the withdrawal" else "SITE-E115"):
            found.check(wanted)


@pytest.mark.parametrize("prefix", ["", "abc", "zz" * 10, "0" * 64, "*", "../../x"])
def test_a_prefix_must_name_one_study(tmp_path: Path, prefix: str) -> None:
    approvals = Approvals(site_in(tmp_path))
    refused(approvals, study())
    with pytest.raises(DataError, match="SITE-E224"):
        approvals.find(prefix)


@pytest.mark.parametrize("by", ["", "  \n", "x" * 81, "Ada\x1b[31m", "Ada\u202e"])
def test_who_decides_has_a_name(tmp_path: Path, by: str) -> None:
    with pytest.raises(PolicyError, match="SITE-E226"):
        Approvals(site_in(tmp_path)).approve(study(), by=by, now=NOW)
    assert not (tmp_path / FILE).exists()


def test_the_hash_of_the_code_sees_every_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("client_app", "fedfm"):
        package = tmp_path / name
        (package / "inner").mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "inner" / "a.py").write_text("x = 1\n")
        monkeypatch.setattr(getattr(installed, name), "__file__", str(package / "__init__.py"))
    found = {code_hash()}
    (tmp_path / "client_app" / "__pycache__").mkdir()
    (tmp_path / "client_app" / "__pycache__" / "a.pyc").write_text("")
    assert {code_hash()} == found
    (tmp_path / "fedfm" / "inner" / "a.py").write_text("x = 2\n")
    found.add(code_hash())
    (tmp_path / "fedfm" / "inner" / "a.py").rename(tmp_path / "fedfm" / "inner" / "b.py")
    found.add(code_hash())
    (tmp_path / "client_app" / "trainer.proto").write_text("message")
    found.add(code_hash())
    assert len(found) == 4
