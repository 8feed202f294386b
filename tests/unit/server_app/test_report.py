"""Events, verdict and page: what is read back is what happened, and the page cannot be made to lie or to run code."""

import base64
import hashlib
import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fedfm.errors import EngineError, WireError
from fedfm.metrics.performance import Estimate, Performance
from fedfm.wire import PrivacySpent
from server_app.report import console, events, explanations
from server_app.report.event_log import EventLog, read_events
from server_app.report.files import make_run_folder
from server_app.report.page import page, write_report
from server_app.report.summary import summarise
from server_app.report.verdict import Verdict, verdict

STUDY = {
    "purpose": "Test <b>markup</b> & more",
    "privacy": {"mechanism": "gaussian", "epsilon": 3.0},
    "evaluation": {"release": "noisy"},
    "rounds": 2,
}
SPENT = PrivacySpent("patient", 1e-3, 2.0, 0.5, 0.5, 1.98, 2.98, 1.2)
FIGURE = Estimate(0.8, 0.7, 0.9)
FIGURES = Performance(Estimate(60, 58, 62), FIGURE, FIGURE, None, FIGURE, FIGURE, None)
SITES = ("hospital-a", "hospital-b")


def a_run(*, sites: tuple[str, ...] = SITES, study: dict[str, Any] = STUDY, rounds: int = 2) -> list[events.Event]:
    happened: list[events.Event] = [events.RunStarted("run-1", study, "abc", 1090, "0.1.0")]
    happened += [events.SiteJoined(site, 0, 60, "cpu", ("sex",), SPENT) for site in sites]
    for number in range(1, rounds + 1):
        happened.append(events.RoundStarted(number, sites, 4000))
        happened += [events.SiteTrained(site, number, 1.5, 0.3, 4000, SPENT) for site in sites]
        happened.append(events.RoundCombined(number, dict.fromkeys(sites, 1 / len(sites)), 0.3, 0.01))
        happened += [events.SiteEvaluated(site, number, 0.5, FIGURES, SPENT) for site in sites]
        happened.append(events.ModelEvaluated(number, sites, 0.1, FIGURES))
    means = {"comprehensiveness": Estimate(0.5, 0.4, 0.6), "random_order": Estimate(0.1, 0.0, 0.2)}
    happened.append(explanations.ModelExplained(rounds, 32.0, means))
    happened.append(events.RunEnded("completed", "", "", 12.5))
    return happened


def judged(happened: list[events.Event]) -> Verdict:
    return verdict(summarise(happened))


def kept(folder: Path, happened: list[events.Event]) -> Path:
    log = EventLog(folder / "events.jsonl", lambda event: None)
    for event in happened:
        log.emit(event)
    return folder / "events.jsonl"


def test_events_are_read_back_as_they_were(tmp_path: Path) -> None:
    unlimited = replace(SPENT, unit="none", run=math.inf, planned=math.inf)
    happened = [*a_run(), events.SiteLeftOut("hospital-c", 1, "training", "SITE-E1", "…\n“quoted”")]
    happened.append(events.SiteJoined("hospital-d", 2, 60, "cuda", (), unlimited))
    path = kept(tmp_path, happened)
    assert read_events(path) == happened
    assert "Infinity" not in path.read_text().replace('"Infinity"', "")


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = kept(tmp_path, a_run())
    whole = path.read_text()
    path.write_text(whole[:-20])
    assert read_events(path) == a_run()[:-1]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"kind": "SiteVanished"},
        {"seconds": "12"},
        {"seconds": True},
        {"status": None},
        {"more": 1},
        {"code": 7},
    ],
)
def test_another_schema_is_refused_with_its_line(change: dict[str, Any], tmp_path: Path) -> None:
    path = kept(tmp_path, a_run()[-1:])
    path.write_text(json.dumps(json.loads(path.read_text()) | change) + "\n")
    with pytest.raises(WireError, match=r"REPORT-E002.*events.jsonl:1"):
        read_events(path)


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        kept(tmp_path, [events.RunEnded("completed", "", "", math.nan)])


def test_no_events_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="REPORT-E001"):
        write_report(tmp_path)


def test_each_event_has_a_line() -> None:
    for event in [*a_run(), events.SiteLeftOut("c", 1, "training", "X-E001", "why")]:
        assert console.line(event)


def test_a_clean_run_is_completed_and_private() -> None:
    found = judged(a_run())
    assert found == Verdict(
        "completed",
        "Completed: 2 of 2 hospitals contributed to all 2 rounds.",
        "Privacy: ON (patient-level): ε 1.98 of 3.0 spent for training, δ at most 0.001.",
        True,
        (),
    )


def test_a_run_that_did_not_end_has_failed() -> None:
    assert judged(a_run()[:-1]).status == "failed"
    assert judged([]).status == "failed"


def test_a_run_in_which_nobody_contributed_has_failed_whatever_it_says() -> None:
    happened = [event for event in a_run() if not isinstance(event, events.RoundCombined)]
    assert judged(happened).headline == "Failed: no site contributed to the model."


def test_a_failed_run_says_why_first() -> None:
    reason = "too few sites in round 2 — got: 1 — fix: see the report"
    found = judged([*a_run()[:-1], events.RunEnded("failed", "ROUND-E020", reason, 1.0)])
    assert found.status == "failed"
    assert found.headline == "Failed: too few sites in round 2 (ROUND-E020)."


def test_who_was_left_out_is_said_once_for_each_cause() -> None:
    happened = a_run(sites=("hospital-a",))
    left = [events.SiteLeftOut("hospital-b", number, "training", "ROUND-E002", "no answer") for number in (1, 2)]
    found = judged([*happened[:2], *left, *happened[2:]])
    assert found.headline == "Completed: 1 of 2 hospitals contributed to all 2 rounds."
    assert found.reasons == (
        "hospital-b did not contribute; left out of training in rounds 1, 2: no answer (ROUND-E002).",
    )


@pytest.mark.parametrize(
    "study",
    [
        STUDY | {"privacy": {"mechanism": "none", "epsilon": 3.0}},
        STUDY | {"evaluation": {"release": "exact"}},
    ],
)
def test_no_guarantee_is_said_in_red(study: dict[str, Any]) -> None:
    happened = a_run(study=study)
    found = judged(happened)
    assert not found.is_private
    assert found.privacy.startswith("NO PRIVACY GUARANTEE")
    text = page(summarise(happened), found)
    assert 'class="privacy alarm"' in text
    assert 'class="verdict bad"' in text


def test_a_site_without_a_mechanism_takes_the_guarantee_from_the_run() -> None:
    happened = a_run()
    bare = replace(SPENT, unit="none")
    assert not judged([*happened, events.SiteJoined("hospital-c", 1, 60, "cpu", (), bare)]).is_private
    unlimited = replace(SPENT, run=math.inf)
    assert not judged([*happened, events.SiteJoined("hospital-c", 1, 60, "cpu", (), unlimited)]).is_private


def against(baseline: float) -> list[events.Event]:
    figures = replace(FIGURES, baseline=Estimate(baseline, baseline - 0.1, baseline + 0.1))
    return [
        replace(event, performance=figures)
        if isinstance(event, events.ModelEvaluated | events.SiteEvaluated)
        else event
        for event in a_run()
    ]


@pytest.mark.parametrize(
    ("baseline", "said"),
    [(0.6, None), (0.72, "cannot be told apart"), (0.85, "cannot be told apart"), (0.95, "worse")],
)
def test_accuracy_never_stands_without_the_majority_baseline(baseline: float, said: str | None) -> None:
    """The accuracy is 0.8 (0.7 to 0.9)."""
    happened = against(baseline)
    found = judged(happened)
    sentence = f"Always answering the most frequent class would give an accuracy of {baseline:.2f}"
    assert [sentence in reason and said in reason for reason in found.reasons] == ([True] if said else [])
    text = page(summarise(happened), found)
    assert text.count(sentence) == (2 if said else 1)  # beside the figures; and in the verdict where it qualifies it
    assert f"{baseline:.3f} (" in text.partition("How good the model is")[0]
    assert text.count("Most frequent class") == 1
    evaluated = next(event for event in happened if isinstance(event, events.ModelEvaluated))
    assert f"most frequent class {baseline:.3f}" in console.line(evaluated)


def test_a_run_from_before_the_baseline_is_still_read(tmp_path: Path) -> None:
    path = kept(tmp_path, a_run())
    path.write_text(path.read_text().replace(', "baseline": null', ""))
    assert "baseline" not in path.read_text()
    assert read_events(path) == a_run()


class Tags(HTMLParser):
    """Collects tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><script>1</script>", "&lt;b&gt;'")


def test_hostile_names_are_text(tmp_path: Path) -> None:
    happened = a_run(sites=HOSTILE)
    happened.insert(3, events.SiteLeftOut(HOSTILE[0], 1, HOSTILE[1], HOSTILE[2], "</pre><svg onload=alert(1)>"))
    kept(tmp_path, happened)
    write_report(tmp_path)
    found = Tags((tmp_path / "report.html").read_text())
    assert not {"script", "img", "iframe", "object", "b"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in (tmp_path / "report.html").read_text()


def test_the_page_loads_nothing_and_allows_only_its_own_style(tmp_path: Path) -> None:
    kept(tmp_path, a_run())
    write_report(tmp_path)
    text = (tmp_path / "report.html").read_text()
    found = Tags(text)
    policy = next(value for name, value in found.attributes if name == "content" and value and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    links = [value for name, value in found.attributes if name in ("src", "href", "action", "xlink:href")]
    assert links == ["data:,"]
    assert not [value for name, value in found.attributes if name == "style"]
    css = text.partition("<style>")[2].partition("</style>")[0]
    assert hashlib.sha256(css.encode()).digest().hex() == _pinned(policy)
    assert "url(" not in css
    assert "@import" not in css


def _pinned(policy: str) -> str:
    return base64.b64decode(policy.partition("'sha256-")[2].partition("'")[0]).hex()


def test_the_verdict_comes_first_and_charts_have_words(tmp_path: Path) -> None:
    kept(tmp_path, a_run())
    write_report(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert text.index("Completed: 2 of 2") < text.index("<svg")
    assert text.count("<svg") == text.count("<desc>") == text.count('role="img"') == 5
    assert "for words at random (32 documents)" in text


@pytest.mark.parametrize("count", range(1, 12))
def test_a_run_that_broke_off_anywhere_still_has_a_page(count: int, tmp_path: Path) -> None:
    kept(tmp_path, a_run()[:count])
    assert write_report(tmp_path).status == "failed"
    assert "Failed" in (tmp_path / "report.html").read_text()


def test_the_manifest_holds_every_other_file(tmp_path: Path) -> None:
    kept(tmp_path, a_run())
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "head.bin").write_bytes(b"weights")
    write_report(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert set(manifest) == {"events.jsonl", "report.html", "privacy.md", "metrics.csv", "adapter/head.bin"}
    assert manifest["adapter/head.bin"] == hashlib.sha256(b"weights").hexdigest()
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows[0] == "round,site,figure,value,low,high"
    assert "2,all,accuracy,0.8,0.7,0.9" in rows
    assert not [row for row in rows if "specificity" in row]


def test_run_folders_are_named_by_time_and_study_and_never_shared(tmp_path: Path) -> None:
    now = datetime(2026, 1, 31, 12, 30, 5, tzinfo=UTC)
    first = make_run_folder(tmp_path / "results", study="demo", now=now)
    second = make_run_folder(tmp_path / "results", study="demo", now=now)
    assert first.name == "20260131-123005-demo"
    assert second.name == "20260131-123005-demo-2"
    assert (tmp_path / "results" / "latest").resolve() == second.resolve()


def test_results_that_cannot_be_written_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="REPORT-E003"):
        make_run_folder(tmp_path / "file", study="demo", now=datetime.now(UTC))
