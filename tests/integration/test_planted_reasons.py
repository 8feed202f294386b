"""The demo's planted facts, found by the run itself: MiniLM, the demo's study and hospitals, fewer of everything.

Without privacy a run follows from its seed alone; what noise leaves of these findings differs from run to run.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from server_app.demo_data import make_demo_data
from server_app.demo_vocabulary import PROTECTIVE, RISK, SCANNER_TAG
from server_app.report import explanations
from tests.integration.test_simulate import happened, simulated

SITES, PATIENTS = ("hospital-a", "hospital-b", "hospital-c"), 300
STUDY = [
    *("experiment=demo", "privacy=none", "evaluation=exact", "rounds=3", "training.local_steps=10"),
    *("explainability.documents=2", "explainability.reference_documents=16", "explainability.steps=5"),
]
SCANNER = ("swap:scanner", "shortcut:scanner")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")]


def told(folder: Path, *overrides: str, shortcut: bool) -> list[explanations.Explained]:
    """Run the demo's study over three of its hospitals, and return what is told of reasons after the last round."""
    make_demo_data(folder, sites=len(SITES), patients=PATIENTS, shortcut=shortcut)
    for site in SITES:
        path = folder / site / "site.yaml"
        path.write_text(path.read_text().replace("policy:\n", f"policy:\n  {NO_PRIVACY}\n"))
    reference = f"explainability.reference={folder / 'reference.csv'}"
    code, output = simulated(folder, folder / "results", *STUDY, reference, *overrides)
    assert code == 0, output
    reasons = [event for event in happened(folder / "results") if isinstance(event, explanations.Explained)]
    return [event for event in reasons if event.round == 3]


NO_PRIVACY = "allow_no_privacy: true\n  allow_exact_evaluation: true"


def judged(reasons: list[explanations.Explained]) -> Mapping[tuple[str, str], explanations.GateJudged]:
    found = [event for event in reasons if isinstance(event, explanations.GateJudged)]
    return {(event.gate, event.subject): event for event in found if event.gate in SCANNER}


def test_the_tag_is_found_where_it_was_planted_and_the_deciding_words_lead(tmp_path: Path) -> None:
    reasons = told(tmp_path, shortcut=True)
    gates = judged(reasons)
    assert {which: gate.passed for which, gate in gates.items()} == {
        (gate, site): site != "hospital-c" for gate in SCANNER for site in SITES
    }
    (credited,) = [event for event in reasons if isinstance(event, explanations.TermsCredited)]
    certain = {term: of.credit for term, of in credited.terms.items() if of.credit.low > 0 or of.credit.high < 0}
    first = sorted(certain, key=lambda term: -abs(certain[term].value))[:10]
    planted = {*RISK, *PROTECTIVE, SCANNER_TAG}
    assert SCANNER_TAG in first[:5]
    assert planted.issuperset(first[:5])
    assert len(planted.intersection(first)) >= 7  # training has taught few patients' other words, too
    assert all(
        (certain[term].value > 0) == (term in (*RISK, SCANNER_TAG)) for term in first if term in RISK + PROTECTIVE
    )


def test_without_the_tag_no_hospital_is_named(tmp_path: Path) -> None:
    gates = judged(told(tmp_path, "explainability.vocabulary=[]", shortcut=False))
    assert len(gates) == len(SCANNER) * len(SITES)
    assert all(gate.passed for gate in gates.values())
