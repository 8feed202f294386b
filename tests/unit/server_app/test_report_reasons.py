"""The report's section on reasons: what is found is said with the hospital's name, what is not known is a dash."""

from collections.abc import Mapping, Sequence

import pytest

from fedfm.metrics.performance import Estimate
from server_app.report import events, explanations
from server_app.report.explained_lines import explained_line
from server_app.report.findings import other_findings, shortcuts_found
from server_app.report.markup import UNKNOWN, written
from server_app.report.reasons import reasons
from server_app.report.summary import Summary, summarise
from server_app.report.verdict import verdict

SITES = ("hospital-a", "hospital-b", "hospital-c")
TERMS = ["lactate rising", "alert", "gout", "migraine", "rigors"]
STUDY = {
    "task": {"labels": ["recovered", "deteriorated"], "positive": ""},
    "rounds": 3,
    "explainability": {"vocabulary": TERMS},
}


def at(value: float) -> Estimate:
    return Estimate(value, value - 0.05, value + 0.05)


def means(**more: float) -> dict[str, Estimate]:
    return {name: at(value) for name, value in {"comprehensiveness": 0.4, "random_order": 0.1, **more}.items()}


def gate(name: str, subject: str, passed: bool | None, reason: str = "because") -> explanations.GateJudged:
    return explanations.GateJudged(3, name, subject, passed, None if passed is None else at(0.2), 0.05, reason)


def pairs(overlap: float | None) -> tuple[explanations.Agreement, ...]:
    return tuple(
        explanations.Agreement(one, other, overlap, None, None)
        for index, one in enumerate(SITES)
        for other in SITES[index + 1 :]
    )


def credited(number: int, terms: Mapping[str, float], source: str = "reference") -> explanations.TermsCredited:
    known = {term: explanations.Credit(at(value), 20.0) for term, value in terms.items()}
    return explanations.TermsCredited(number, "", source, known)


HAPPENED: list[events.Event] = [
    events.RunStarted("run", STUDY, "0" * 64, 10, "1"),
    *(
        explanations.ReferenceExplained(
            number,
            "",
            32,
            means(comprehensiveness=0.1 * number, randomised_head=0.3),
            {},
        )
        for number in (1, 2, 3)
    ),
    *(
        credited(number, {"lactate rising": 0.06 * number, "alert": -0.1, "gout": 0.04 - 0.01 * number, "rigors": -0.3})
        for number in (1, 3)
    ),
    explanations.SiteChecked("hospital-a", 3, 60.0, means(randomised_head=0.2), (), False),
    explanations.SiteChecked(
        "hospital-c", 3, 60.0, means(**{"swap_rise:scanner": 0.3}), ("swap:scanner", "completeness"), True
    ),
    gate("swap:scanner", "hospital-c", False),
    gate("shortcut:scanner", "hospital-a", True),
    gate("drift", "", None),
    explanations.SitesAgree(3, "reference", pairs(0.8)),
]


def page(happened: Sequence[events.Event]) -> str:
    section = reasons(summarise(happened))
    assert section is not None
    return written(section)


def summary(*more: events.Event) -> Summary:
    return summarise([*HAPPENED, *more])


def test_a_run_that_asks_nothing_about_reasons_has_no_section() -> None:
    assert reasons(summarise(HAPPENED[:1])) is None


def test_the_hospital_that_teaches_a_shortcut_is_named_once_and_in_the_verdict() -> None:
    (found,) = shortcuts_found(summary())
    assert "hospital-c" in found
    assert "scanner" in found
    assert found.endswith(
        "(its own check of round 3, by exchanging it; on public texts after round 3, by exchanging it)."
    )
    (both,) = shortcuts_found(summary(gate("shortcut:scanner", "hospital-c", False)))
    assert both.endswith("; on public texts after round 3, by exchanging it and by credit).")
    assert found in verdict(summary()).reasons
    assert shortcuts_found(summarise([event for event in HAPPENED if "hospital-c" not in str(event)])) == []


def test_other_gates_are_said_in_words() -> None:
    (found,) = other_findings(summary())
    assert found == "At hospital-c, the model of round 3 has credits that do not add up."
    assert "The global model: gone (round 3)." in other_findings(summary(gate("faithfulness", "", False, "gone")))


def test_only_the_last_round_that_was_judged_speaks() -> None:
    later = explanations.GateJudged(4, "drift", "", True, at(0.1), 0.2, "as usual")
    assert "public texts" not in shortcuts_found(summary(later))[0]


def test_everything_that_is_known_is_shown() -> None:
    text = page(HAPPENED)
    for said in (
        "more than 0.100 (0.05 to 0.15) for words at random (32 documents)",
        "they explain what was learned",
        "Agreement between hospitals, with each hospital's update alone, on public texts",
        "for recovered",
        "for deteriorated",
        "Gained weight",
        "lactate rising (+0.120)",
        "not judged",
    ):
        assert said in text
    assert "nan" not in text.lower().replace("governance", "")


def test_a_fall_that_may_be_chance_is_not_called_more() -> None:
    text = page([HAPPENED[0], explanations.ReferenceExplained(3, "", 32, means(comprehensiveness=0.15), {})])
    assert "by 0.150 (0.10 to 0.20): it cannot be told whether more than 0.100 (0.05 to 0.15)" in text


def test_a_head_that_does_not_matter_is_said() -> None:
    alike = explanations.ReferenceExplained(3, "", 32, means(randomised_head=0.9), {})
    assert "they explain the text, not what was learned" in page([HAPPENED[0], alike])


def test_what_is_not_known_is_a_dash_and_no_chart() -> None:
    known = [HAPPENED[0], explanations.SitesAgree(3, "audit", pairs(None)), gate("drift", "", None)]
    text = page(known)
    assert "Agreement" not in text
    assert UNKNOWN in text
    one_dash = (explanations.Agreement("hospital-a", "hospital-b", None, None, None), *pairs(0.5)[1:])
    assert UNKNOWN in page([HAPPENED[0], explanations.SitesAgree(3, "audit", one_dash)])


def test_words_of_a_study_are_text_and_never_markup() -> None:
    text = page([HAPPENED[0], credited(1, {"<script>alert(1)</script>": 0.2, "a, b": -0.1})])
    assert "<script>" not in text
    assert "a, b" in text


@pytest.mark.parametrize("source", ["reference", "audit"])
def test_words_lead_of_which_it_is_certain_what_they_speak_for(source: str) -> None:
    """Gout cannot be told from nothing, and migraine is not told of: neither is drawn, and both are named."""
    sizes = {"lactate rising": 0.18, "alert": -0.1, "gout": 0.04, "rigors": 0.051}
    text = page([HAPPENED[0], credited(3, sizes, source)])
    chart = text[text.index("<svg") : text.index("</svg>")]
    assert [term in chart for term in TERMS] == [True, True, False, False, True]
    assert chart.index("lactate rising") < chart.index("rigors") < chart.index("alert")
    assert "lactate rising +0.180 (+0.130 to +0.230)" in chart
    assert "Cannot be told from no credit: gout." in text
    noise = ", or drowned in noise" if source == "audit" else ""
    assert f"Held by too few documents to say (fewer than 11){noise}: migraine." in text
    assert "no term is known to be credited" in page([HAPPENED[0], credited(3, {"gout": 0.04}, source)])


def test_the_largest_credits_are_drawn_and_the_rest_counted() -> None:
    many = {f"term {number}": (-1) ** number * (0.06 + 0.01 * number) for number in range(15)}
    text = page([HAPPENED[0], credited(3, many)])
    chart = text[text.index("<svg") : text.index("</svg>")]
    assert [f"term {number} " in chart for number in range(15)] == [False] * 3 + [True] * 12
    assert "3 more terms are credited with less." in text


def test_a_change_that_intervals_do_not_tell_is_not_said() -> None:
    """Rigors moves by less than its intervals are wide, alert turns round and weighs less, and gout is told of once."""
    before = {"lactate rising": 0.1, "alert": -0.2, "rigors": 0.1}
    now = {"lactate rising": 0.3, "alert": 0.06, "rigors": 0.19, "gout": 0.2}
    text = page([HAPPENED[0], credited(1, before), credited(3, now)])
    assert "<td>lactate rising (+0.200)</td>" in text
    assert "<td>alert (-0.140)</td>" in text
    same = page([HAPPENED[0], credited(1, before), credited(3, before)])
    assert same.count("<td>none for certain</td>") == 2


def test_a_word_that_turns_round_is_said_and_has_gained_nothing() -> None:
    text = page([HAPPENED[0], credited(1, {"rigors": 0.3, "alert": 0.1}), credited(3, {"rigors": -0.31, "alert": 0.1})])
    assert text.count("<td>none for certain</td>") == 2
    assert "Speaks for the other class now" in text
    assert "<td>rigors</td>" in text


def test_terms_with_a_comma_can_be_told_apart() -> None:
    assert "no credit: a, b; c." in page([HAPPENED[0], credited(3, {"a, b": 0.01, "c": 0.01})])


@pytest.mark.parametrize("event", [event for event in HAPPENED if isinstance(event, explanations.Explained)])
def test_the_console_says_each_in_one_sentence(event: explanations.Explained) -> None:
    said = explained_line(event)
    assert said
    assert "\n" not in said
