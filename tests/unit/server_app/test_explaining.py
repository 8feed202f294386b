"""Reasons on public examples: a logistic regression whose reasons are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study
from fedfm.config.study import Study
from fedfm.errors import ConfigError
from fedfm.examples import Example
from fedfm.low_rank import LORA_A, LORA_B, RESIDUAL_A, RESIDUAL_B, adapted
from fedfm.model.low_rank import frozen_as_built
from server_app.model_host import build
from server_app.reasons.explaining import Explaining, alone
from server_app.reasons.reference_audit import Loaded, ReferenceAudit, chosen
from server_app.report import explanations
from server_app.report.event_log import EventLog, read_events
from server_app.updates import Updates

NUMERIC = ["task=heart_disease", "model=logistic", "adapter=full", "standardize=none", "task.mark_missing=false"]


def table(folder: Path, rows: int = 40) -> Path:
    """Public patients whose first column decides."""
    chance, task = np.random.default_rng(2), compose_study(NUMERIC).value.task
    values = {column.name: chance.uniform(column.low, column.high, rows).round(3) for column in task.columns}
    first = task.columns[0]
    middle = (first.low + first.high) / 2
    labels = [task.labels[int(value > middle)] for value in values[first.name]]
    path = folder / "reference.csv"
    pd.DataFrame({**values, "label": labels}).to_csv(path, index=False)
    return path


def study_of(folder: Path, *overrides: str) -> Study:
    names = [column.name for column in compose_study(NUMERIC).value.task.columns]
    words = [
        f"explainability.reference={table(folder)}",
        f"explainability.shortcuts={{second: [{names[1]}]}}",
        f"explainability.vocabulary=[{','.join(names)}]",
    ]
    return compose_study([*NUMERIC, *words, "rounds=12", *overrides]).value


def deciding(like: Arrays, column: int, size: float = 3.0) -> Arrays:
    """Return parameters that decide by one column alone."""
    made = {name: np.zeros_like(array) for name, array in like.items()}
    made["head.weight"][:, column] = [-size, size]
    return made


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "events.jsonl", lambda event: None)


def of(log: EventLog, kind: Any) -> list[Any]:
    return [event for event in read_events(log.path) if isinstance(event, kind)]


def updates_to(received: Arrays, made: dict[str, Arrays], folder: Path) -> Updates:
    updates = Updates(received, folder)
    for site, after in made.items():
        updates.append(site, {name: after[name] - received[name] for name in received})
    return updates


def test_documents_are_in_proportion_and_the_same_for_the_same_seed() -> None:
    examples = [Example("reference", int(n % 10 == 0), text=str(n)) for n in range(200)]
    found = chosen(examples, 50, seed=3)
    assert [example.label for example in found].count(1) == 5
    assert found == chosen(examples, 50, seed=3) != chosen(examples, 50, seed=4)
    assert chosen(examples, 500, seed=3) == examples
    assert len({example.text for example in found}) == 50


def test_every_model_is_seen_with_its_own_reasons(tmp_path: Path, log: EventLog) -> None:
    """Sites decide by other columns; each is credited alone, and the list of the second column is of one site only."""
    study = study_of(tmp_path, "explainability.warm_up=0.0", "privacy=none", "evaluation=exact")
    _, zero = build(study)
    names = [column.name for column in study.task.columns]
    made = {f"site-{column}": deciding(zero, column) for column in range(5)}
    explaining, received = Explaining(study, log), Loaded(zero, {})
    with updates_to(zero, made, tmp_path) as updates:
        explaining.measure(1, received, Loaded(made["site-0"], {}), updates, {})
    seen = {event.site: event for event in of(log, explanations.ReferenceExplained)}
    assert set(seen) == {"", *made}
    for column in range(5):
        event = seen[f"site-{column}"]
        assert max(event.credits, key=lambda term: abs(event.credits[term])) == names[column]
        assert event.means["shortcut_mass:second"].value == pytest.approx(float(column == 1), abs=1e-6)
        assert event.means["comprehensiveness"].low > event.means["random_order"].high
        assert event.documents == 32
    assert seen[""].credits == pytest.approx(seen["site-0"].credits)
    assert seen[""].means["sufficiency"] == seen["site-0"].means["sufficiency"]  # paired: the same documents and orders
    assert "randomised_head" in seen[""].means
    (terms,) = of(log, explanations.TermsCredited)
    assert (terms.round, terms.site, terms.source) == (1, "", "reference")
    ranked = sorted(terms.terms, key=lambda term: -abs(terms.terms[term].credit.value))
    assert ranked[0] == names[0]
    assert {of.documents for of in terms.terms.values()} == {40.0}
    (agreed,) = of(log, explanations.SitesAgree)
    assert agreed.source == "reference"
    assert len(agreed.pairs) == 10
    assert all(pair.rank_overlap < 0.9 for pair in agreed.pairs)
    assert agreed.site_predictability.low > 0.7
    judged = {(gate.gate, gate.subject): gate for gate in of(log, explanations.GateJudged)}
    assert judged["faithfulness", ""].passed
    assert judged["site_predictability", ""].passed is False
    assert judged["modality", ""].passed is None
    assert judged["regression:comprehensiveness", ""].passed is None
    assert all(judged["faithfulness", site].passed for site in made)


def test_terms_are_told_of_over_more_documents_and_where_enough_hold_them(tmp_path: Path) -> None:
    """Known: of n documents k hold ``fever``, of which the tiny model's credit is whatever a whole look says."""
    path, held = tmp_path / "reference.csv", {"fever": 11, "cough": 10, "stable": 25}
    rows = [f"{'recovered' if n % 2 else 'deteriorated'},{w} on the ward" for w, k in held.items() for n in range(k)]
    path.write_text("\n".join(["label,text", *rows]) + "\n")
    words = [f"explainability.reference={path}", "explainability.vocabulary=[fever,cough,stable,rigors]"]
    few = ["explainability.reference_documents=4", "explainability.vocabulary_documents=46"]
    study = compose_study(["model=tiny", "adapter=head", *words, *few]).value
    _, parameters = build(study)
    loaded = Loaded({name: np.ones_like(of) * [[1], [-1]] for name, of in parameters.items() if of.ndim == 2}, {})
    loaded = Loaded({**parameters, **{n: of.astype(np.float32) for n, of in loaded.parameters.items()}}, {})
    audit = ReferenceAudit(study)
    audit.look(Loaded(parameters, {}))  # nothing stays of what was loaded before
    told = audit.terms(3, loaded, audit.look(loaded))
    assert told is not None
    assert (told.round, told.site, told.source) == (3, "", "reference")
    assert {term: credit.documents for term, credit in told.terms.items()} == {"fever": 11, "stable": 25}
    study.explainability.reference_documents = 46
    whole = ReferenceAudit(study).look(loaded)
    for place, term in ((0, "fever"), (2, "stable")):
        found = told.terms[term].credit
        assert found.value == pytest.approx(whole.terms[:, place].mean()) != 0
        assert found.low < found.value < found.high
    study.explainability.vocabulary = []
    assert ReferenceAudit(study).terms(3, loaded, whole) is None


def test_a_site_that_decides_by_another_column_is_named(tmp_path: Path, log: EventLog) -> None:
    study = study_of(tmp_path, "explainability.warm_up=0.0")
    _, zero = build(study)
    made = {f"site-{number}": deciding(zero, 0, 2.0 + 0.1 * number) for number in range(5)} | {"z": deciding(zero, 7)}
    with updates_to(zero, made, tmp_path) as updates:
        Explaining(study, log).measure(1, Loaded(zero, {}), Loaded(made["z"], {}), updates, {})
    failed = [gate.subject for gate in of(log, explanations.GateJudged) if gate.gate == "outlier" and not gate.passed]
    assert failed == ["z"]


def test_pooled_statistics_are_what_the_model_is_seen_with(tmp_path: Path) -> None:
    study = study_of(tmp_path, "standardize=global")
    model, zero = build(study)
    audit, loaded = ReferenceAudit(study), Loaded(deciding(zero, 0), {})
    before = audit.look(loaded)
    statistics = {name: array.detach().numpy().copy() for name, array in model.standard.named_buffers()}
    moved = {name: array + 1 if "center" in name or "mean" in name else array for name, array in statistics.items()}
    assert moved.keys() == statistics.keys()
    audit.standardise({})
    np.testing.assert_array_equal(audit.look(loaded).sums["sufficiency"], before.sums["sufficiency"])
    audit.standardise(moved)
    assert not np.allclose(audit.look(loaded).sums["comprehensiveness"], before.sums["comprehensiveness"])


@pytest.mark.parametrize("combining", ["ffa_svd", "fedex"])
def test_frozen_parameters_that_travel_are_what_the_model_is_seen_with(combining: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.csv"
    words = ("fever", "walking", "cough", "stable") * 3
    rows = [f"{'deteriorated' if n % 2 else 'recovered'},{word} on the ward" for n, word in enumerate(words)]
    path.write_text("\n".join(["label,text", *rows]) + "\n")
    adapter = "ffa_lora" if combining == "ffa_svd" else "lora"
    words_of = ["model=tiny", f"adapter={adapter}", f"combining={combining}", f"explainability.reference={path}"]
    study = compose_study([*words_of, "privacy=none", "evaluation=exact"]).value
    model, parameters = build(study)
    chance = np.random.default_rng(1)
    parameters = {name: chance.normal(size=of.shape).astype(np.float32) for name, of in parameters.items()}
    audit = ReferenceAudit(study)
    built = audit.look(Loaded(parameters, {}))
    if combining == "ffa_svd":
        frozen = {name: -array for name, array in frozen_as_built(model, "factor").items()}
    else:
        frozen = residual(parameters, chance)
    changed = audit.look(Loaded(parameters, frozen))
    assert not np.allclose(changed.sums["comprehensiveness"], built.sums["comprehensiveness"])
    again = audit.look(Loaded(parameters, {}))  # nothing stays of what was loaded before
    np.testing.assert_array_equal(again.sums["comprehensiveness"], built.sums["comprehensiveness"])


def residual(parameters: Arrays, chance: np.random.Generator) -> Arrays:
    found = {}
    for layer in adapted(parameters):
        rows, columns = len(parameters[layer + LORA_B]), parameters[layer + LORA_A].shape[1]
        found[layer + RESIDUAL_B] = chance.normal(size=(rows, 2)).astype(np.float32)
        found[layer + RESIDUAL_A] = chance.normal(size=(2, columns)).astype(np.float32)
    return found


def test_a_sites_model_is_what_it_was_sent_and_its_update(tmp_path: Path) -> None:
    received = {"head.weight": np.ones((2, 3), np.float32)}
    made = {"a": {"head.weight": np.full((2, 3), 3.0, np.float32)}}
    with updates_to(received, made, tmp_path) as updates:
        found = alone(Loaded(received, {"f": np.ones(1, np.float32)}), updates, "a")
    np.testing.assert_array_equal(found.parameters["head.weight"], made["a"]["head.weight"])
    assert found.frozen.keys() == {"f"}


def test_a_reference_set_that_cannot_be_used_ends_the_run_before_it_begins(tmp_path: Path, log: EventLog) -> None:
    study = study_of(tmp_path)
    study.explainability.reference = str(tmp_path / "absent.csv")
    with pytest.raises(ConfigError, match=r"explainability\.reference") as caught:
        Explaining(study, log)
    assert caught.value.code == "STUDY-E082"
