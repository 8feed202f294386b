"""The audit against its parts, document by document; bounds under any parameters; a planted shortcut."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfm.config.compose import compose_study
from fedfm.config.study import Adapter, Model, Task
from fedfm.examples import Example
from fedfm.explain.attribution import ATTRIBUTIONS, Method, integrated_gradients
from fedfm.explain.audit import Audit, Watched, audit, leanings
from fedfm.explain.deletion import credited_order, deletions, random_order
from fedfm.explain.randomisation import rank_correlation_after
from fedfm.explain.shortcuts import mass_and_share
from fedfm.explain.swaps import swap_effects
from fedfm.explain.terms import term_credits
from fedfm.explain.words import word_credits
from fedfm.explanations import MOST_TERMS, check_names, ranges, rises, sum_names
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from fedfm.parameters import load_trainable, trainable
from tests.unit.fedfm.judged_cases import columns_model, notes, random_credits, rows, text_model

WATCHED = Watched(
    shortcuts={"ward": ["zyx ward", "night"], "all": ["patient", "sepsis", "tachycardic"]},
    swaps={"state": {"stable": "fever"}},
    vocabulary=["sepsis", "fever", "zyx", "never said"],
)


def look(model: Classifier, examples: list[Example], *, seed: int = 0, **more: object) -> Audit:
    given_ = {"method": Method(steps=4), "watched": WATCHED, **more}
    return audit(model, examples, rng=np.random.default_rng(seed), **given_)


def bounded(found: Audit, *, documents: int) -> bool:
    limits = ranges(list(found.sums))
    inside = all(
        figures.shape == (documents,) and (limits[name][0] <= figures).all() and (figures <= limits[name][1]).all()
        for name, figures in found.sums.items()
    )
    lengths = np.linalg.norm(found.terms, axis=1)
    return inside and bool((lengths <= 1 + 1e-9).all()) and found.holds.sum(1).max(initial=0) <= MOST_TERMS


@pytest.mark.parametrize("randomised", [False, True])
def test_equal_to_its_parts_note_by_note(randomised: bool) -> None:
    model, examples, method = text_model(), notes(19, seed=3), Method(steps=4)
    found = look(model, examples, randomised=randomised)
    _, *seeds = np.random.default_rng(0).integers(2**63, size=20).tolist()
    for i, example in enumerate(examples):
        inputs = model.inputs([example])
        attributed = integrated_gradients(model, inputs, method)
        credits_, names = word_credits(attributed, inputs, 0), inputs.names[0]
        both = deletions(model, inputs, attributed.target, [credited_order(inputs, 0, credits_)])
        random, _ = deletions(model, inputs, attributed.target, [random_order(inputs, 0, seed=seeds[i])])
        effects = swap_effects(model, [example], WATCHED.swaps["state"])
        expected = {
            "comprehensiveness": both[0],
            "sufficiency": both[1],
            "random_order": random,
            "completeness_error": attributed.completeness_error.clamp(max=1).numpy(),
            "swap_shift:state": effects[0],
            "swap_flip:state": effects[1],
            "documents": 1,
        }
        for name, phrases in WATCHED.shortcuts.items():
            mass, share = mass_and_share(credits_, names, phrases)
            expected |= {f"shortcut_mass:{name}": mass, f"shortcut_share:{name}": share}
        for name, value in expected.items():
            assert found.sums[name][i] == pytest.approx(value, abs=2e-4), name
        signed = credits_ if int(attributed.target) == 1 else -credits_
        terms, holds = term_credits(signed, names, WATCHED.vocabulary)
        np.testing.assert_allclose(found.terms[i], terms, atol=1e-4)
        assert found.holds[i].tolist() == holds.tolist()
        assert found.groups[i] == example.groups
    assert {name for name, figures in found.sums.items() if figures.std() < 1e-3} <= {"swap_flip:state", "documents"}
    if randomised:
        seed = int(np.random.default_rng(0).integers(2**63, size=20)[0])
        after = rank_correlation_after(model, examples, method=method, parts="head", seed=seed)
        np.testing.assert_allclose(found.sums["randomised_head"], after.clip(0), atol=1e-2)


def test_the_sums_are_those_of_the_study_in_its_order() -> None:
    study = compose_study([]).value
    asked = dataclasses.replace(study.explainability, shortcuts=dict(WATCHED.shortcuts), swaps=dict(WATCHED.swaps))
    study = dataclasses.replace(study, explainability=asked)
    of_model = sum_names(study)
    for randomised, names in ((False, of_model), (True, (*of_model[:-1], "randomised_head", "documents"))):
        for examples in (notes(3, seed=1), []):
            found = look(text_model(), examples, randomised=randomised)
            assert tuple(found.sums) == names
            assert bounded(found, documents=len(examples))
    assert check_names(study) == (
        *("comprehensiveness", "random_order", "completeness_error", "mass_rise:all", "mass_rise:ward"),
        *("swap_rise:state", "randomised_head", "documents"),
    )
    both = found.sums | rises(found.sums, found.sums)  # all that a site tells is of one look and the one before
    assert set(check_names(study)) <= set(both)


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan, 1e38])
def test_how_a_model_leans_is_what_the_audit_says_and_leaves_it_as_it_is(value: float) -> None:
    model, examples = text_model(), notes(19, seed=3)
    with torch.no_grad():
        model.head.weight.mul_(value)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = leanings(model, examples, method=Method(steps=4), watched=WATCHED)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0, equal_nan=True)
    assert all(parameter.grad is None for parameter in model.parameters())
    whole = look(model, examples).sums
    assert found.keys() == {name for name in whole if ":" in name}
    for name, figures in found.items():
        np.testing.assert_array_equal(figures, whole[name], err_msg=name)
    for name, figures in rises(found, found).items():
        assert not figures.any(), name
    assert not leanings(model, examples, method=Method(steps=4), watched=Watched())


def test_a_rise_is_of_the_figure_and_the_list_that_it_names() -> None:
    """Closed case: a column model that learns c0 leans on it by its share of the weights, before and after."""
    watched = Watched(shortcuts={"tag": ["c0"], "other": ["c1"]}, swaps={"tag": {"c0": ""}})
    examples = [Example("a", 1, columns=(1.0, 1.0))]
    of = [
        leanings(columns_model(weights), examples, method=Method(steps=50), watched=watched)
        for weights in ([1.0, 3.0], [3.0, 1.0])
    ]
    found = rises(of[1], of[0])
    assert found["mass_rise:tag"] == pytest.approx([0.5], abs=1e-4)
    assert found["mass_rise:other"] == pytest.approx([-0.5], abs=1e-4)
    assert found["swap_rise:tag"].tolist() == (of[1]["swap_shift:tag"] - of[0]["swap_shift:tag"]).tolist()
    assert found["swap_rise:tag"] > 0.5
    assert found.keys() == {"mass_rise:tag", "mass_rise:other", "swap_rise:tag"}


def test_credit_is_told_for_the_positive_class_of_two_and_for_the_predicted_of_more() -> None:
    examples = [Example("a", 1, columns=(1.0, 0.5)), Example("b", 0, columns=(-1.0, 0.5))]
    watched = Watched(vocabulary=["c0", "c1"])
    last = look(columns_model([2.0, 1.0]), examples, watched=watched).terms
    assert last[:, 0].tolist() == pytest.approx([0.8, -0.8], abs=1e-5)  # "yes", predicted first and then not
    assert last[:, 1].tolist() == pytest.approx([0.2, 0.2], abs=1e-5)
    first = look(columns_model([2.0, 1.0], positive="no"), examples, watched=watched).terms
    np.testing.assert_allclose(first, -last, atol=1e-6)
    model, note = text_model(labels=("well", "ill", "dead")), [Example("p", 0, text="sepsis fever night")]
    found = look(model, note)
    credits_ = word_credits(integrated_gradients(model, model.inputs(note), Method(steps=4)), model.inputs(note), 0)
    assert np.sign(found.terms[0, 0]) == np.sign(credits_[0]) != 0


def test_true_reasons_beat_the_paired_random_order_by_far() -> None:
    model, examples = columns_model([4.0] + [0.1] * 19), rows(40, seed=1, columns=20)
    found = look(model, examples, watched=Watched()).sums
    gain = found["comprehensiveness"] - found["random_order"]
    assert gain.mean() > 4 * gain.std() / math.sqrt(len(gain))
    assert gain.mean() > 0.1


def test_credits_without_reason_do_not_beat_the_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: credits drawn at random. The difference must then hold zero within 3 standard errors."""
    monkeypatch.setitem(ATTRIBUTIONS, "noise", random_credits)
    model, examples = columns_model([2.0, -1.0, 0.5, 1.0, 0.3, 1.5, 0.7, -0.2]), rows(200, seed=2, columns=8)
    gains = []
    for name in ("noise", "integrated_gradients"):
        found = look(model, examples, method=Method(name, 2), watched=Watched()).sums
        gains.append(found["comprehensiveness"] - found["random_order"])
    error = gains[0].std() / math.sqrt(200)
    assert abs(gains[0].mean()) < 3 * error < gains[1].mean() / 3


def test_a_model_that_ignores_its_input_has_no_reasons() -> None:
    """All credits are equal, all drops 0; nothing is undefined."""
    text = text_model(method="head")
    load_trainable(text, {name: np.zeros_like(array) for name, array in trainable(text).items()})
    for model, examples in ((columns_model([0.0] * 5), rows(3, seed=0, columns=5)), (text, notes(5, seed=0))):
        found = look(model, examples, randomised=True)
        assert bounded(found, documents=len(examples))
        shares = {"documents", "shortcut_share:ward", "shortcut_share:all"}
        assert {name: figures.tolist() for name, figures in found.sums.items() if name not in shares} == {
            name: [0.0] * len(examples) for name in found.sums if name not in shares
        }
        assert not found.terms.any()


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38, 1e20])
def test_every_figure_is_bounded_whatever_the_parameters(value: float) -> None:
    for model, examples in ((text_model(), notes(4, seed=1)), (columns_model([1.0] * 3), rows(4, seed=1, columns=3))):
        before = {name: parameter.clone() for name, parameter in model.named_parameters()}
        with torch.no_grad():
            model.head.weight.fill_(value)
            model.head.weight[0].neg_()
        found = look(model, examples, randomised=True)
        assert bounded(found, documents=4)
        assert all(np.isfinite(figures).all() for figures in (*found.sums.values(), found.terms))
        changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
        assert changed == ["head.weight"]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 10))
def test_a_document_is_judged_the_same_in_any_company(seed: int, count: int) -> None:
    """Its random order comes with it: the first document's seed is the first, whoever follows."""
    model, examples = text_model(), notes(count, seed=seed)
    together, alone = look(model, examples, seed=seed), look(model, examples[:1], seed=seed)
    for name, figures in together.sums.items():
        if name != "completeness_error":
            assert figures[0] == pytest.approx(alone.sums[name][0], abs=1e-3), name
    np.testing.assert_allclose(together.terms[0], alone.terms[0], atol=1e-3)


def test_a_seed_repeats_everything_and_another_changes_the_random_order_only() -> None:
    model, examples = text_model(), notes(12, seed=6)
    one, same, other = (look(model, examples, seed=seed).sums for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert [name for name in one if np.abs(one[name] - other[name]).max() > 1e-5] == ["random_order"]


def test_a_planted_shortcut_holds_more_credit_than_words_and_flips_the_answer() -> None:
    """The column c0 decides; the audit of the same model without it finds nothing."""
    watched = Watched(shortcuts={"scanner": ["c0"]}, swaps={"scanner": {"c0": ""}})
    examples = rows(30, seed=3, columns=6)
    planted = look(columns_model([6.0, 0.3, 0.3, 0.3, 0.3, 0.3]), examples, watched=watched).sums
    clean = look(columns_model([0.0, 0.3, 0.3, 0.3, 0.3, 0.3]), examples, watched=watched).sums
    assert planted["shortcut_mass:scanner"].mean() > 4 * planted["shortcut_share:scanner"].mean()
    assert planted["swap_flip:scanner"].mean() > 0.8
    assert not any(clean[name].any() for name in ("shortcut_mass:scanner", "swap_shift:scanner", "swap_flip:scanner"))


def test_figures_near_a_tie_do_not_depend_on_who_else_is_there() -> None:
    """Two rows of the head that differ in the last digits let rounding answer; a lying coordinator may send them."""
    model = build_model(Model(source="random"), Adapter(method="head"), Task(labels=["well", "ill"]), seed=1)
    row = np.random.default_rng(1).normal(size=32).astype(np.float32) * 50
    near = (row.astype(np.float64) * (1 + 2e-7)).astype(np.float32)
    load_trainable(model, {"head.weight": np.stack([row, near]), "head.bias": np.zeros(2, np.float32)})
    words = ["patient", "was", "stable", "sepsis", "fever", "home", "ward", "night", "the", "oxygen"]
    rng = np.random.default_rng(3)
    notes = [Example(f"p{i}", 0, text="woman " + " ".join(rng.choice(words, 8 + i % 9))) for i in range(24)]
    watched, method = Watched(shortcuts={"sex": ["woman"]}, swaps={"sex": {"woman": "man"}}), Method(steps=2)
    alone = leanings(model, notes, method=method, watched=watched)
    for text in ("man", "woman fever", "woman " * 12):
        beside = leanings(model, [*notes, Example("q", 0, text=text)], method=method, watched=watched)
        for name, figures in alone.items():
            np.testing.assert_array_equal(beside[name][:-1], figures)
