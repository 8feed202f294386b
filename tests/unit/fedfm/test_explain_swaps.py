"""Exchanged phrases: by hand, there and back again, and what the answer makes of it."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedfm.config.study import Adapter, Column, Model, Task
from fedfm.errors import ModelError
from fedfm.examples import Example
from fedfm.explain.swaps import swap_effects, swapped
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from fedfm.parameters import load_trainable
from tests.unit.fedfm.model_cases import COLUMNS, LOGISTIC, NOTES, ROWS, TEXT, TINY, shaken

SEX = {"woman": "man", "she": "he"}


def told(text: str, swaps: dict[str, str]) -> str:
    found = swapped(Example("p", 0, text=text), swaps, TEXT)
    assert found is None or found.text != text
    return text if found is None or found.text is None else found.text


def text_model(method: str = "lora") -> Classifier:
    return shaken(build_model(TINY, Adapter(method=method), TEXT, seed=1))


@pytest.mark.parametrize(
    ("text", "swaps", "expected"),
    [
        ("A woman. She said he (a MAN) left.", SEX, "A man. He said she (a WOMAN) left."),
        ("womanly, shed, chemistry", SEX, "womanly, shed, chemistry"),
        ("Woman's", SEX, "Man's"),
        ("portable\n film, seen", {"Portable film": "fixed unit"}, "fixed unit, seen"),
        ("Portable film", {"portable film": "fixed unit"}, "Fixed unit"),
        ("scannerx SCANNERX", {"SCANNERX": "SCANNERY"}, "scannery SCANNERY"),
        ("he fell", {"he": "Dr Smith"}, "Dr Smith fell"),
        ("M, 50", {"m": "female"}, "Female, 50"),
        ("a b", {"a": "b"}, "b a"),
        ("a b c", {"a": "b", "b": "c"}, "b c b"),
        ("seen (c++)", {"c++": "a.*"}, "seen (a.*)"),
        ("a\\1 x", {"x": "\\1"}, "a x \\1"),
        ("straße", {"STRASSE": "weg"}, "weg"),
        ("x[7]y", {"[7]": "z"}, "x z y"),
        ("", SEX, ""),
        ("a", {"": ""}, "a"),
        ("a", {}, "a"),
    ],
)
def test_exchanged_by_hand(text: str, swaps: dict[str, str], expected: str) -> None:
    assert told(text, swaps) == expected


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("Portable film. Chest clear.", "Chest clear."),
        ("Chest clear. Portable film.", "Chest clear. "),
        ("Chest clear, portable film, no effusion.", "Chest clear, no effusion."),
        ("Chest clear, PORTABLE FILM.", "Chest clear."),
        ("Chest clear, portable film", "Chest clear"),
        ("The portable film shows", "The shows"),
        ("seen on portable film", "seen on"),
        ("portable film", ""),
        ("portable film portable film a", "a"),
        ("a portable film, b", "a, b"),
        ("Clear on portable film.", "Clear on."),
    ],
)
def test_taken_out_by_hand(text: str, without: str) -> None:
    assert told(text, {"portable film": ""}) == without
    assert told(text, {"": "portable film"}) == without


def test_put_in_at_the_front_where_a_long_text_is_still_read() -> None:
    assert told("Chest clear.", {"portable film": ""}) == "portable film. Chest clear."
    assert told("Chest clear.", {"Portable film.": ""}) == "Portable film. Chest clear."
    assert told("", {"tag": ""}) == "tag. "
    assert told("films", {"portable film": "", "film": ""}) == "portable film. film. films"
    assert told("a portable film", {"portable film": "", "film": ""}) == "a"
    model = text_model()
    long = Example("p", 0, text="pain and fever " * 300)
    changed = swapped(long, {"sepsis": ""}, TEXT)
    assert changed is not None
    assert "sepsis" in model.inputs([changed]).names[0]


words = st.sampled_from(["woman", "Man", "SHE", "he", "seen", "Woman", "MAN", ".", ",", "(", "'s", "-", "é", "7", "\n"])


@given(
    st.lists(st.tuples(words, st.sampled_from(["", " ", "  "])), max_size=20).map(lambda w: "".join(map("".join, w)))
)
def test_exchanging_twice_gives_the_text_back(text: str) -> None:
    assert told(told(text, SEX), SEX) == text


@given(st.text("ab .,;:!\n-()", max_size=20))
def test_what_was_put_in_can_be_taken_out_again(text: str) -> None:
    assert told(told(text, {"the tag": ""}), {"the tag": ""}) == text


@given(
    text=st.text("abB .,[]\n+é\u80ba", max_size=15),
    swaps=st.dictionaries(st.text("abB .,[]+é", max_size=3), st.text("abB .,[]+é", max_size=3), max_size=4),
)
def test_any_text_can_be_exchanged(text: str, swaps: dict[str, str]) -> None:
    example = Example("p", 1, text=text, groups={"sex": "female"}, row=3)
    changed = swapped(example, swaps, TEXT)
    assert swapped(example, swaps, TEXT) == changed
    if changed is not None:
        assert changed.text != text
        assert (changed.patient, changed.label, changed.groups, changed.row) == ("p", 1, {"sex": "female"}, 3)


def test_columns_are_mirrored_in_their_range() -> None:
    example = Example("p", 1, columns=(30.0, float("nan"), 200.0))
    changed = swapped(example, {"AGE": "", "chol": "", "unknown": "bp"}, COLUMNS)
    assert changed is not None
    assert changed.columns is not None
    np.testing.assert_equal(changed.columns, (70.0, float("nan"), 60.0))
    assert swapped(example, {"chol": ""}, COLUMNS) is None  # a missing value stays
    assert swapped(Example("p", 1, columns=(50.0, 1.0, 1.0)), {"age": ""}, COLUMNS) is None  # the middle
    assert swapped(example, {"ag": "", "": "age bp"}, COLUMNS) is None
    assert swapped(Example("p", 1, text="age"), {"age": ""}, COLUMNS) is None
    assert swapped(Example("p", 1, columns=(1.0,)), {"age": ""}, TEXT) is None


def columns_model(weight: float) -> Classifier:
    task = Task(inputs="columns", labels=["no", "yes"], columns=[Column("age", 0, 100), Column("bp", 0, 200)])
    model = build_model(Model(backbone="tabular", source="none"), Adapter(method="full"), task, seed=1)
    weights = np.zeros((2, 4), np.float32)
    weights[1, 0] = weight
    load_trainable(model, {"head.weight": weights, "head.bias": np.zeros(2, np.float32)})
    return model


def test_effects_of_a_logistic_model_in_closed_form() -> None:
    """Scaled age 0.6 against -0.6; the probability goes from s(2 * 0.6) to s(-2 * 0.6)."""
    examples = [Example("p", 1, columns=(80.0, 1.0)), Example("q", 1, columns=(50.0, 3.0))]
    shift, flip = swap_effects(columns_model(2.0), examples, {"age": ""})
    high = 1 / (1 + np.exp(-1.2))
    assert shift.tolist() == [pytest.approx(2 * high - 1, abs=1e-6), 0.0]
    assert flip.tolist() == [1.0, 0.0]
    for swaps in ({"bp": ""}, {}, {"other": "x"}):
        shift, flip = swap_effects(columns_model(2.0), examples, swaps)
        assert shift.tolist() == flip.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("method", ["lora", "head"])
def test_effects_are_those_of_the_whole_model_note_by_note(method: str) -> None:
    model = text_model(method)
    swaps = {"fever": "sepsis", "was": ""}
    shift, flip = swap_effects(model, NOTES, swaps)
    for i, example in enumerate(NOTES):
        pair = [example, swapped(example, swaps, TEXT) or example]
        before, after = (
            model.logits_from_inputs(inputs.values, inputs.present)[0].double().softmax(-1).detach()
            for inputs in (model.inputs([each]) for each in pair)
        )
        target = before.argmax()
        assert shift[i] == pytest.approx(abs(before[target] - after[target]).item(), abs=1e-5)
        assert flip[i] == float(target != after.argmax())
    assert shift.max() > 0.01
    again = swap_effects(model, NOTES[::-1], swaps)
    np.testing.assert_allclose(again[0][::-1], shift, atol=1e-5)


def test_a_planted_tag_flips_the_answer_and_an_indifferent_word_does_not() -> None:
    """A head that has learnt by heart that the tag decides and the sex does not, by least squares."""
    model = build_model(TINY, Adapter(method="head"), Task(inputs="text", labels=["well", "ill"]), seed=1)
    texts = ["woman, chest clear", "man with no pain", "she is home today", "he is stable"]
    plain = [Example(str(i), 0, text=text) for i, text in enumerate(texts)]
    tagged = [Example(e.patient, 1, text=f"scanner. {e.text}") for e in plain]
    other = [swapped(e, SEX, TEXT) or e for e in (*plain, *tagged)]
    states = torch.stack(model.encode([*plain, *tagged, *other])).double()
    rows = torch.cat([states, torch.ones(16, 1, dtype=torch.float64)], dim=1)
    wanted = torch.tensor(([-1.0] * 4 + [1.0] * 4) * 2, dtype=torch.float64)
    weights = torch.linalg.lstsq(rows, wanted[:, None], driver="gelsd").solution[:, 0].float()
    with torch.no_grad():
        model.head.weight.copy_(torch.stack([-weights[:-1], weights[:-1]]))
        model.head.bias.copy_(torch.stack([-weights[-1], weights[-1]]))
    moved = np.tanh(1.0)  # the probability goes from s(-2) to s(2) or back
    for examples in (plain, tagged):
        shift, flip = swap_effects(model, examples, {"scanner": ""})
        np.testing.assert_allclose(shift, moved, atol=1e-3)
        assert flip.tolist() == [1.0] * 4
        shift, flip = swap_effects(model, examples, SEX)
        np.testing.assert_allclose(shift, 0, atol=1e-3)
        assert flip.tolist() == [0.0] * 4


def test_a_model_that_answers_no_numbers_has_no_effects() -> None:
    model = copy.deepcopy(columns_model(2.0))
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    shift, flip = swap_effects(model, [Example("p", 1, columns=(80.0, 1.0))], {"age": ""})
    assert (shift.tolist(), flip.tolist()) == ([0.0], [0.0])


def test_no_examples_and_missing_values() -> None:
    model = shaken(build_model(LOGISTIC, Adapter(method="full"), COLUMNS, seed=1))
    assert [figure.shape for figure in swap_effects(model, [], {"age": ""})] == [(0,), (0,)]
    shift, flip = swap_effects(model, ROWS, {"age": "", "chol": "", "bp": ""})
    assert np.isfinite(shift).all()
    assert np.isfinite(flip).all()


def test_a_model_in_a_private_step_is_refused() -> None:
    class Recorder:
        def note(self, *_: object) -> None: ...

    Recorder.__module__ = "client_app.layer_gradients"
    model = columns_model(1.0)
    model.head.register_forward_hook(Recorder().note)
    with pytest.raises(ModelError, match="MODEL-E147"):
        swap_effects(model, ROWS, {"age": ""})
