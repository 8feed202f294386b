"""Studies that look at reasons, with real hospitals: what they send passes, and what is told is of them."""

from pathlib import Path

import pytest

from fedfm.config.compose import compose_study
from fedfm.explanations import check_names, sum_names
from server_app.report import events, explanations
from tests.integration.conftest import CANARY
from tests.integration.test_simulate import OPEN, PLAIN, PRIVATE, federation, happened, simulated

WORDS = (
    "explainability.shortcuts={marks: [zzpatient], ward: [on the ward]}",
    "explainability.swaps={state: {fever: walking}}",
    "explainability.vocabulary=[fever, lactate, confused, walking, stable, cough]",
)
LEARN = ("rounds=3", "training.local_steps=10", "training.learning_rate=2.0", "explainability.documents=40")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")]


def reference(folder: Path) -> Path:
    path = folder / "reference.csv"
    words = ("fever", "lactate", "confused", "walking", "stable", "cough")
    rows = [
        f"{'deteriorated' if word in words[:3] else 'recovered'},{word} {place} the ward"
        for word in words
        for place in ("on", "in", "near")
    ]
    path.write_text("\n".join(["label,text", *rows]) + "\n")
    return path


def told(results: Path, kind: type) -> list[object]:
    return [event for event in happened(results) if isinstance(event, kind)]


def test_an_open_study_tells_reasons_of_sites_and_model(tmp_path: Path) -> None:
    results, overrides = tmp_path / "results", [*PLAIN[:-1], *LEARN, *WORDS]
    overrides += [f"explainability.reference={reference(tmp_path)}", "explainability.warm_up=0.0"]
    code, output = simulated(federation(tmp_path, policy=OPEN), results, *overrides)
    assert code == 0, output
    assert not told(results, events.SiteLeftOut)
    study = compose_study(overrides).value
    checked = [
        event for event in told(results, explanations.SiteChecked) if isinstance(event, explanations.SiteChecked)
    ]
    assert [(event.round, event.site) for event in checked] == [(3, f"hospital-{letter}") for letter in "abc"]
    assert all(event.means.keys() == set(check_names(study)) - {"documents"} for event in checked)
    explained = told(results, explanations.SiteExplained)
    assert len(explained) == 3
    assert all(
        event.means.keys() == set(sum_names(study)) - {"documents"}
        for event in explained
        if isinstance(event, explanations.SiteExplained)
    )
    looked = [
        event
        for event in told(results, explanations.ReferenceExplained)
        if isinstance(event, explanations.ReferenceExplained)
    ]
    sites = ["hospital-a", "hospital-b", "hospital-c"]
    assert [(event.round, event.site) for event in looked] == [
        *((1, site) for site in ["", *sites]),
        (2, ""),
        *((3, site) for site in ["", *sites]),
    ]
    last = next(event for event in looked if event.round == 3 and not event.site)
    assert last.documents == 18
    assert last.means["comprehensiveness"].low > last.means["random_order"].value
    assert last.credits.keys() == {"fever", "lactate", "confused", "walking", "stable", "cough"}
    terms = [
        event for event in told(results, explanations.TermsCredited) if isinstance(event, explanations.TermsCredited)
    ]
    assert [event.round for event in terms if event.source == "reference"] == [1, 3]
    agreed = [event for event in told(results, explanations.SitesAgree) if isinstance(event, explanations.SitesAgree)]
    assert [(event.round, event.source) for event in agreed if event.source == "reference"] == [
        (1, "reference"),
        (3, "reference"),
    ]
    assert told(results, explanations.GateJudged)


def test_a_private_study_sends_sums_that_pass(tmp_path: Path) -> None:
    results = tmp_path / "results"
    asked = [*PRIVATE, *WORDS, f"explainability.reference={reference(tmp_path)}", "explainability.check_every=1"]
    code, output = simulated(federation(tmp_path, policy=""), results, *asked)
    assert code == 0, output
    assert not told(results, events.SiteLeftOut)
    assert len(told(results, explanations.ReferenceExplained)) == 2 * 4
    for path in (results / "latest").rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
