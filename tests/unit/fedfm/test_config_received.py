"""A study as it travels: round trip, and what a hostile coordinator may send."""

import json
import string
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fedfm.config.compose import compose_study, study_from_json, study_to_json
from fedfm.config.study import (
    Adapter,
    Baseline,
    Column,
    Evaluation,
    Explainability,
    Fairness,
    Model,
    Personal,
    Privacy,
    Rule,
    Standardize,
    Study,
    Task,
    Training,
)
from fedfm.errors import ConfigErrors

BASE = compose_study().value
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Shrinking a study of a hundred settings takes minutes, and what it finds is printed whole anyway."""
words = st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    lambda text: "${" not in text and text != "???"
)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,8}", fullmatch=True)


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


def counts(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


@st.composite
def columns(draw: st.DrawFn) -> list[Column]:
    found = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    return [Column(name, low := draw(between(-1e6, 1e6)), low + draw(between(1, 1e6))) for name in found]


@st.composite
def tasks_with_models(draw: st.DrawFn) -> dict[str, Any]:
    labels = draw(st.lists(words, min_size=2, max_size=5, unique=True))
    positive = draw(st.sampled_from(["", *labels])) if len(labels) == 2 else ""
    groups = draw(st.lists(words.filter(lambda name: not set(name) & set("*=")), max_size=3, unique=True))
    if draw(st.booleans()):
        task = Task("columns", labels, positive, draw(columns()), groups)
        hidden = draw(st.lists(counts(1, 4096), max_size=3))
        return {"task": task, "model": Model("tabular", "none", hidden=hidden), "adapter": Adapter("full")}
    source = draw(st.sampled_from(["package", "directory", "hub", "random"]))
    digest = draw(st.text("0123456789abcdef", min_size=64, max_size=64))
    model = Model("bert", source, draw(words), digest[:40], digest, draw(counts(8, 8192)))
    method = draw(st.sampled_from(["head", "lora", "ffa_lora", "dora", "ia3", "bitfit", "full"]))
    adapter = Adapter(
        method, draw(counts(1, 256)), draw(between(1e-3, 1e3)), draw(counts(0, 12)), draw(st.lists(words))
    )
    return {"task": Task("text", labels, positive, [], groups), "model": model, "adapter": adapter}


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | between(-1e9, 1e9) | words
# a known word has parameters of its own, which others test
rules = st.builds(
    Rule,
    words.filter(lambda word: word != "none"),
    st.dictionaries(words, scalars | st.lists(scalars, max_size=3), max_size=3),
)
budgets = between(1e-3, 100)
mechanisms = st.sampled_from(["gaussian", "none"])
privacies = st.builds(
    Privacy,
    mechanisms,
    budgets,
    budgets,
    budgets,
    st.none() | between(1e-9, 0.1),
    st.sampled_from(["patient", "record"]),
    between(1e-3, 10),
    st.sampled_from(["flat", "per_layer"]),
    counts(1, 50),
)
phrases = st.from_regex(r"[a-z][a-z, ]{0,9}[a-z]", fullmatch=True)
plain = st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True)


@st.composite
def explainabilities(draw: st.DrawFn, task: Task) -> Explainability:
    """Lists hold columns where the task has some, and are empty where nothing is asked."""
    asked = Explainability(
        attribution=draw(st.sampled_from(["integrated_gradients", "none"])),
        steps=draw(counts(2, 200)),
        baseline=draw(st.sampled_from(["pad", "mask", "mean"])),
        documents=draw(counts(2, 1000)),
        every=draw(counts(0, 5)),
        check_every=draw(counts(0, 5)),
        reference_documents=draw(counts(2, 10_000)),
        vocabulary_documents=draw(counts(2, 10_000)),
        warm_up=draw(between(0, 1)),
    )
    if asked.attribution == "none":
        return asked
    word = st.sampled_from([column.name for column in task.columns]) if task.columns else phrases
    other = st.just("") if task.columns else phrases.map(str.upper).map("{} 2".format)
    return replace(
        asked,
        shortcuts=draw(st.dictionaries(plain, st.lists(word, min_size=1, max_size=2), max_size=2)),
        swaps=draw(st.dictionaries(plain, st.dictionaries(word, other, min_size=1, max_size=2), max_size=2)),
        vocabulary=draw(st.lists(word, max_size=3, unique_by=lambda term: " ".join(term.casefold().split()))),
    )


studies = (
    tasks_with_models()
    .flatmap(
        lambda parts: st.builds(
            Study,
            name=st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True),
            purpose=words,
            training=st.sampled_from([("sgd", 10), ("adam", 0.1)]).flatmap(
                lambda kind: st.builds(
                    Training,
                    counts(1, 10_000),
                    between(0.001, 1),
                    st.just(kind[0]),
                    between(1e-6, kind[1]),
                    between(0, 0.999),
                    between(0, 1),
                    between(0, 1),
                    st.sampled_from(["float32", "bfloat16"]),
                ).filter(lambda made: made.learning_rate * (made.proximal + made.weight_decay) <= 1)
            ),
            standardize=st.builds(
                Standardize, st.sampled_from(["reference", "global", "site", "none"]), between(0.01, 0.9)
            ),
            privacy=privacies,
            selection=rules,
            weighting=rules,
            combining=rules,
            reweighting=rules,
            evaluation=st.builds(
                Evaluation,
                counts(1, 9),
                counts(1, 50).map(lambda half: 2 * half),
                st.sampled_from(["noisy", "exact"]),
                st.booleans(),
                counts(0, 9),
                counts(1, 50).map(lambda half: 2 * half),
                st.sampled_from(["own", "with_training"]),
                st.booleans(),
            ),
            optimizing=rules,
            contribution=rules,
            personal=st.builds(Personal, st.sampled_from(["none", "ditto"]), between(0, 100)),
            baseline=st.builds(Baseline, st.sampled_from(["none", "alone"]), between(0.01, 0.9)),
            fairness=st.builds(
                Fairness,
                st.dictionaries(st.sampled_from(["worst_site"]), between(0, 1)),
                st.sampled_from(["report", "stop"]),
                st.sampled_from(["last", "best"]),
            ),
            explainability=explainabilities(parts["task"]),
            rounds=counts(1, 10_000),
            min_sites=counts(1, 50),
            round_minutes=between(0.1, 1000),
            patience=between(1, 100),
            quarantine_after=counts(1, 50),
            start_minutes=between(0.1, 1000),
            seed=counts(0, 2**32 - 1),
            **{name: st.just(part) for name, part in parts.items()},
        )
    )
    .filter(lambda study: study.evaluation.exchange == "own" or study.fairness.action != "stop")
)


@given(studies)
@settings(max_examples=60, deadline=None, phases=QUICK)
def test_a_valid_study_survives_the_journey(study: Study) -> None:
    assert study_from_json(study_to_json(study)) == study
    assert study_to_json(study_from_json(study_to_json(study))) == study_to_json(study)


def refused(text: str) -> str:
    with pytest.raises(ConfigErrors) as caught:
        study_from_json(text)
    assert len(str(caught.value)) < 100_000
    return str(caught.value)


def changed(path: str, value: object) -> str:
    tree: dict[str, Any] = json.loads(study_to_json(BASE))
    inner = tree
    *around, last = path.split(".")
    for name in around:
        inner = inner[name]
    inner[last] = value
    return json.dumps(tree)


nested: Any = 1
for _ in range(50):
    nested = {"a": [nested]}


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("import", "os", "E001"),
        ("privacy._target_", "os.system", "E001"),
        ("training.optimiser", "adam", "E001"),
        ("training.optimizer", "lbfgs", "E009"),
        ("purpose", "${oc.env:HOME}", "E031"),
        ("purpose", "${oc.decode:'1'}", "E031"),
        ("task.labels", ["a", "${name}"], "E031"),
        ("weighting.params", {"q": {"deep": ["${oc.env:HOME}"]}}, "E031"),
        ("weighting.params", {"${oc.env:HOME}": 1}, "E031"),
        ("weighting.params", nested, "E003"),
        ("weighting.params", [1], "E003"),
        ("purpose", "\x1b[2J cleared", "E007"),
        ("purpose", "\ud800", "E007"),
        ("purpose", None, "E002"),
        ("purpose", {"a": 1}, "E003"),
        ("rounds", "5", "E003"),
        ("rounds", True, "E003"),
        ("rounds", [5], "E003"),
        ("rounds", 10**400, "E008"),
        ("rounds", -1, "E008"),
        ("training.learning_rate", 10**400, "E008"),
        ("weighting.params", {"q": 10**400}, "E008"),
        ("privacy", "none", "E003"),
        ("privacy", [], "E003"),
        ("privacy.epsilon", 1e308, "E008"),
        ("privacy.epsilon", {"value": 3}, "E003"),
        ("privacy.max_grad_norm", None, "E030"),
        ("privacy.delta", 0.5, "E008"),
        ("model.source", "pickle", "E009"),
        ("model.sha256", "53AA" * 16, "E030"),
        ("task.columns", [{"name": "../x", "low": 0, "high": 1}], "E007"),
        ("task.columns", [[]], "E003"),
        ("name", "../../etc", "E007"),
        ("name", "a\n", "E007"),
    ],
)
def test_hostile_values_are_refused(path: str, value: object, code: str) -> None:
    message = refused(changed(path, value))
    assert f"STUDY-{code}" in message
    assert path.partition(".")[0] in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        '"study"',
        "{}",
        "[" * 200_000,
        '{"rounds":' * 5_000,
        "1" * 10_000,
        '{"rounds": NaN}',
        '{"rounds": 1e999}',
        '{"rounds": 1, "rounds": 2}',
        " " * 2_000_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_texts_are_refused(text: str) -> None:
    assert "STUDY-E0" in refused(text)


def test_refusal_of_many_problems_is_quick_and_short() -> None:
    tree = {"".join([letter, str(number)]): 1 for number in range(20_000) for letter in string.ascii_lowercase[:2]}
    start = time.monotonic()
    message = refused(json.dumps(tree))
    assert time.monotonic() - start < 5
    assert 1 <= message.count("STUDY-E001") <= 50
    assert refused(changed("task.labels", [1] * 20_000)).count("STUDY-E003") == 50


def test_environment_never_enters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDFM_SECRET", "word-of-the-hospital")
    assert "word-of-the-hospital" not in refused(changed("purpose", "${oc.env:FEDFM_SECRET}"))


@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))
@settings(max_examples=100, deadline=None)
def test_any_tree_is_refused_in_our_own_words(tree: object) -> None:
    refused(json.dumps(tree))


@given(st.sampled_from(list(json.loads(study_to_json(BASE)))), st.recursive(scalars, st.lists, max_leaves=5))
@settings(max_examples=100, deadline=None)
def test_any_change_is_either_valid_or_refused(name: str, value: object) -> None:
    try:
        study = study_from_json(changed(name, value))
    except ConfigErrors:
        return
    assert study == replace(BASE, **{name: getattr(study, name)})
