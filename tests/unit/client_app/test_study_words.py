"""What the page says of a study's settings: whatever changes what leaves or is spent, and all that is no default."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from client_app.approvals import Approvals
from client_app.study_card import as_json, card_of
from client_app.study_card_page import page
from client_app.study_words import differing, words_of
from fedfm.config.compose import study_from_json, study_to_json
from fedfm.config.settings import REQUIRED, settings_of
from fedfm.config.study import Study
from fedfm.errors import ConfigErrors
from tests.unit.client_app.test_approvals import NOW, leaves, others, site_in, study

OPEN = ("privacy=none", "privacy.max_grad_norm=null")


def shown(wanted: Study) -> str:
    return " ".join(f"{name} {told}" for name, told in words_of(wanted))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), "one patient moves the sum of a step by at most 0.1 (clip, over all parameters)"),
        (
            ("privacy.max_grad_norm=0.7", "privacy.clipping=per_layer"),
            "by at most 0.7 (clip, each trained layer has an",
        ),
        (OPEN, "may change the update by ANY AMOUNT"),
        (OPEN, "budget NONE: there is no noise and no limit"),
        (OPEN, "counts of test patients, EXACT, WITHOUT NOISE"),
        (("privacy=record",), "one record moves the sum"),
        (("privacy=record",), "notes all: each RECORD counts by itself"),
        (("privacy.max_examples_per_patient=3",), "notes at most 3 of a patient"),
        (("training.sample_rate=1",), "each step takes every patient"),
        (("training.sample_rate=0.05",), "each step takes each patient by a chance of 0.05"),
        (("training.precision=bfloat16",), "computes in bfloat16"),
        (
            ("privacy.epsilon=2", "privacy.evaluation_epsilon=4", "privacy.audit_epsilon=5", "privacy.delta=0.00001"),
            "epsilon of a run: 2 of train, 4 of test, 5 of audit patients; delta 1e-05",
        ),
        (("evaluation=exact",), "counts of test patients, EXACT, WITHOUT NOISE"),
        (("evaluation.every=2",), "with noise; 3 times, in 20 score bins at the end"),
        (("evaluation.bins=50",), "in 50 score bins at the end"),
        (("evaluation.groups_every=2", "evaluation.group_bins=6"), "sex, age_band: 3 times, in 6 score bins"),
        (("evaluation.groups=false",), "by group not counted"),
        (("evaluation.audit_loss=false", "weighting=uniform"), "losses none leave"),
        (("evaluation.audit_loss=false", "weighting=power"), "losses sums over audit patients leave"),
        (("weighting=fairfed",), "counts of audit patients by sex leave, for weighting=fairfed"),
        (("standardize=global", "standardize.share=0.4"), "which leave with noise (0.4 of epsilon)"),
        (("standardize=site",), "by sums over training patients here, which stay"),
        (("reweighting=kamiran_calders",), "examples weigh by kamiran_calders (attribute "),
        (("reweighting=group_dro",), "losses of audit patients by sex are summed in each round, and stay"),
        (
            ("baseline=alone", "baseline.share=0.2"),
            "trained alone once, with 0.2 of epsilon; a count of its answers leaves",
        ),
        (
            ("personal=ditto", "personal.pull=0.5"),
            "yes, pulled by 0.5: WITHOUT NOISE, it stays here and costs no epsilon",
        ),
        (("explainability=none",), "reasons are not asked for"),
        (
            ("explainability.documents=40", "explainability.every=2"),
            "of about 40 audit documents; figures leave 3 times",
        ),
        (("explainability.check_every=1",), "5 times of this site's"),
        ((), "vocabulary terms whose credits leave (2): fever, cough"),
        ((), "tag: portable film"),
        ((), "F -> M"),
        (("explainability.swaps={sex: {woman: girl, rash: ''}}",), "woman -> girl, "),
        (("explainability.swaps={sex: {woman: girl, rash: ''}}",), "rash -> (taken out)"),
    ],
)
def test_what_changes_what_leaves_or_is_spent_is_said_in_words(overrides: tuple[str, ...], words: str) -> None:
    assert words in shown(study(*overrides))


def test_every_setting_that_is_not_its_default_is_listed_and_no_other() -> None:
    wanted = study()
    tree = json.loads(study_to_json(wanted))
    defaults = {setting.path: setting.default for setting in settings_of(Study) if "[]" not in setting.path}
    seen = set()
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
            resolved = json.loads(study_to_json(other))
            listed = {setting: (old, new) for setting, old, new in differing(other, resolved)}
            for setting, default in defaults.items():
                found = resolved
                for name in setting.split("."):
                    found = found[name]
                if setting in ("name", "purpose"):
                    continue
                is_listed = default == REQUIRED or json.dumps(default) != json.dumps(found)
                assert listed.get(setting) == ((None if default == REQUIRED else default, found) if is_listed else None)
            seen |= set(listed)
        holder[path[-1]] = kept
    assert len(seen) > 0.8 * (len(defaults) - 2), "the test would miss settings"


def printed(folder: Path, wanted: Study) -> str:
    site = site_in(folder, max_epsilon=4.0)
    screen = io.StringIO()
    console = Console(file=screen, width=100, highlight=False, markup=False)
    for part in page(card_of(site, wanted, Approvals(site))):
        console.print(part)
    return screen.getvalue()


def test_the_page_has_the_words_the_settings_and_what_does_not_bind(tmp_path: Path) -> None:
    wanted = study("training.sample_rate=1", "training.momentum=0.5")
    lines = printed(tmp_path, wanted)
    told = " ".join(lines.split())
    for name, words in words_of(wanted):
        assert " ".join(f"{name} {words}".split()) in told
    assert "training.momentum 0.9 0.5" in told
    assert "It is not the code" in told
    assert max(map(len, lines.splitlines())) <= 100
    card = as_json(card_of(site_in(tmp_path), wanted, Approvals(site_in(tmp_path))))
    assert {"setting": "training.momentum", "old": 0.9, "new": 0.5} in card["differing"]
    assert card["fedfm"]


def test_words_that_a_coordinator_chose_cannot_act_on_the_screen_or_scroll_it_away(tmp_path: Path) -> None:
    steering = "fever [2J\u202e\u200b"  # a study holds no control characters, but others that hide or turn
    tree = json.loads(study_to_json(study("training.sample_rate=1")))
    tree["explainability"]["vocabulary"] = [f"{steering} {number}" for number in range(60)]
    tree["explainability"]["swaps"] = {"a": {f"{steering} {number}": "x" * 70 for number in range(20)}}
    lines = printed(tmp_path, study_from_json(json.dumps(tree)))
    assert all(letter.isprintable() or letter == "\n" for letter in lines)
    assert "fever [2J··" in lines
    assert len(lines.splitlines()) < 170


def test_a_release_and_a_code_that_have_changed_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = study("training.sample_rate=1")
    for module in ("approvals", "study_card"):
        monkeypatch.setattr(f"client_app.{module}.version", lambda _: "9.9.9")
        monkeypatch.setattr(f"client_app.{module}.code_hash", lambda: "ab" * 32)
    Approvals(site_in(tmp_path)).approve(wanted, by="Ada", now=NOW)
    assert "has changed since" not in printed(tmp_path, wanted).replace("policy here has changed since", "")
    monkeypatch.undo()
    told = printed(tmp_path, wanted)
    assert "fedfm here has changed since: 9.9.9 -> " in told
    assert "The code here has changed since: abababababab -> " in told
