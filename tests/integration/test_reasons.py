"""The check before sending on the trainer's real path: what it does to training, what leaves, what stays."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client_app.reasons import before_sending, checks
from client_app.reasons.gates import Gate
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, load_site
from fedfm.errors import PrivacyBudgetExceeded
from fedfm.explanations import check_names
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from tests.integration.conftest import CANARY, TINY, request, write_hospital
from tests.integration.test_personal import known_noise

Serve = Callable[[Path], Path]
ALL = ("explainability.documents=1000", "explainability.warm_up=0")
LISTS = (
    "explainability.shortcuts={place: [ward]}",
    "explainability.swaps={state: {fever: cough}}",
    f"explainability.vocabulary=[fever, ward, patient, {CANARY.lower()}]",
)
OPEN = "allow_no_privacy: true\n  small_cells: "
OWN = f"explanations: {{shortcuts: {{{CANARY.lower()}-own: [{CANARY}-000001, lactate]}}}}\n"


@pytest.fixture(scope="session")
def start() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


def trainer_of(folder: Path, *, policy: str = "", own: str = "", patients: int = 80) -> Trainer:
    file = write_hospital(folder, policy=policy, patients=patients)
    file.write_text(file.read_text() + own)
    return Trainer(load_site(file))


@pytest.mark.parametrize("overrides", [(), ("privacy=none", "training.sample_rate=0.5")], ids=["private", "open"])
def test_training_is_bit_for_bit_the_same_with_and_without_checks(
    overrides: tuple[str, ...], tmp_path: Path, start: Arrays
) -> None:
    updates = {}
    for name in ("integrated_gradients", "none"):
        trainer, parameters = trainer_of(tmp_path / name, policy=OPEN + "none"), start
        with known_noise():
            for number in (1, 2, 3):
                explaining = () if name == "none" else (*ALL, *LISTS)
                question = request(number, parameters, f"explainability={name}", *explaining, *overrides)
                reply = trainer.train(question)
                updates[name, number] = reply.update
                parameters = {key: parameters[key] + reply.update[key] for key in parameters}
                assert bool(reply.check) == (name != "none" and number == 3)
    for number in (1, 2, 3):
        np.testing.assert_equal(updates["integrated_gradients", number], updates["none", number])


@contextmanager
def watched_model(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compare all of the model before and after each check."""
    begin, finish = before_sending.begin, before_sending.finish

    def state(model: Any) -> Any:
        gradients = {name: p.grad for name, p in model.named_parameters()}
        kept = {name: None if grad is None else grad.clone() for name, grad in gradients.items()}
        hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
        return {n: t.clone() for n, t in model.state_dict().items()}, kept, hooks, model.training

    def compared(how: Any) -> Any:
        def look(asked: Any, *of: Any) -> Any:
            before, found = state(asked.prepared.model), how(asked, *of)
            torch.testing.assert_close(state(asked.prepared.model), before, rtol=0, atol=0)
            return found

        return look

    patch.setattr(before_sending, "begin", compared(begin))
    patch.setattr(before_sending, "finish", compared(finish))
    yield


def check_the_model_is_left_as_it_is(folder: Path, start: Arrays) -> None:
    with pytest.MonkeyPatch.context() as patch, watched_model(patch):
        trainer_of(folder).train(request(3, start, *ALL, *LISTS))


def test_a_check_leaves_model_and_gradients_as_they_are(tmp_path: Path, start: Arrays) -> None:
    check_the_model_is_left_as_it_is(tmp_path, start)


def test_a_check_that_leaves_a_head_drawn_anew_is_caught(
    tmp_path: Path, start: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = before_sending.look

    def careless(model: Any, *of: Any, **how: Any) -> Any:
        found = look(model, *of, **how)
        with torch.no_grad():
            model.head.weight.mul_(1.0001)
        return found

    monkeypatch.setattr(before_sending, "look", careless)
    with pytest.raises(AssertionError):
        check_the_model_is_left_as_it_is(tmp_path, start)


def test_the_sums_of_the_check_leave_in_the_last_round_and_are_charged(tmp_path: Path, start: Arrays) -> None:
    trainer = trainer_of(tmp_path)
    replies = [trainer.train(request(number, start, *ALL, *LISTS)) for number in (1, 2, 3)]
    study = compose_study([*TINY, *ALL, *LISTS]).value
    assert [tuple(reply.check) for reply in replies] == [(), (), check_names(study)]
    assert [reply.check_sd > 0 for reply in replies] == [False, False, True]
    audited = [(c.round, c.purpose) for c in trainer.ledger.charges() if c.split == "audit"]
    assert audited == [(3, "check")]
    told = trainer.evaluate(request(3, start, *ALL, *LISTS))
    assert told.terms.shape == (2, 4)
    assert told.term_documents_sd == pytest.approx(4 * told.terms_sd)
    assert 0 < told.privacy.audit <= study.privacy.audit_epsilon


def test_a_round_asked_again_costs_again_until_nothing_is_left(tmp_path: Path, start: Arrays) -> None:
    """A look at the audit patients is paid for each time, as the update is."""
    trainer, long = trainer_of(tmp_path), ("rounds=4", "explainability.check_every=1", *ALL)
    asked = [
        request(1, {name: array + np.float32(1e-6 * number) for name, array in start.items()}, *long)
        for number in range(5)
    ]
    spent = [trainer.train(nearly_the_same).privacy.audit for nearly_the_same in asked[:4]]
    assert spent == sorted(set(spent))
    assert spent[-1] <= 3.0
    entries = len(trainer.ledger.charges())
    with pytest.raises(PrivacyBudgetExceeded, match="SITE-E104"):
        trainer.train(asked[4])
    assert len(trainer.ledger.charges()) == entries


def test_exact_sums_leave_under_the_sites_rule_of_small_cells(tmp_path: Path, start: Arrays) -> None:
    open_ = ("privacy=none", "evaluation=exact", *ALL, *LISTS)
    consent = "allow_exact_evaluation: true\n  " + OPEN
    shown = trainer_of(tmp_path / "many", policy=consent + "cms", patients=160)
    reply, told = (how(request(3, start, *open_)) for how in (shown.train, shown.evaluate))
    documents = len({e.patient for e in shown._warm[1].splits.audit})  # type: ignore[index]
    assert reply.check["documents"] == told.explanation["documents"] == documents > 11
    assert reply.check_sd == 0.0
    held = told.terms[1]
    assert held[1] == held[2] == documents  # every note has these words
    assert held[0] == 0 < len([e for e in shown._warm[1].splits.audit if "fever" in str(e.text)])  # type: ignore[index]
    few = trainer_of(tmp_path / "few", policy=consent + "cms", patients=45)
    reply, told = (how(request(3, start, *open_)) for how in (few.train, few.evaluate))
    assert len({e.patient for e in few._warm[1].splits.audit}) < 11  # type: ignore[index]
    assert (reply.check, told.explanation, told.terms.shape) == ({}, {}, (2, 0))


def test_people_at_the_site_are_told_and_the_next_round_compares(
    tmp_path: Path, start: Arrays, caplog: pytest.LogCaptureFixture
) -> None:
    own = "explanations: {shortcuts: {bay: [ward]}, swaps: {sex: {patient: person}}}\n"
    trainer, parameters = trainer_of(tmp_path, own=own), start
    with caplog.at_level(logging.INFO, "client_app"):
        for number in (1, 2, 3):
            update = trainer.train(request(number, parameters, "explainability.documents=1000")).update
            parameters = {name: parameters[name] + update[name] for name in parameters}
    lines = [record.getMessage() for record in caplog.records if record.name == before_sending.__name__]
    firsts = [line for line in lines if "gates passed" in line]
    assert [line.split(":")[0] for line in firsts] == ["round 1", "round 2", "round 3"]
    assert ["first rounds" in line for line in firsts] == [True, False, False]
    kept = sorted(
        (json.loads(p.read_text()) for p in (tmp_path / "state").glob("check-*.json")), key=lambda k: k["round"]
    )
    gates = [{gate["name"] for gate in one["gates"]} for one in kept]
    assert {"shortcut:own/bay", "swap:own/sex", "groups:sex", "faithfulness", "utility", "update"} <= gates[0]
    assert [("regression" in names, "randomisation_all" in names) for names in gates] == [
        (False, True),
        (True, False),
        (True, True),
    ]
    assert [len(one["norms"]) for one in kept] == [1, 2, 3]
    (regression,) = [gate for gate in kept[1]["gates"] if gate["name"] == "regression"]
    assert regression["estimate"] is not None  # on the same documents


@pytest.mark.parametrize(
    ("gates", "verdict"),
    [
        ({"faithfulness": True, "utility": False, "swap:sex": None}, "reasons hold"),
        ({"faithfulness": True, "swap:sex": False}, "REASONS DO NOT HOLD"),
        ({"faithfulness": None, "swap:sex": True}, "reasons cannot be judged"),
        ({"faithfulness": None, "swap:sex": False}, "REASONS DO NOT HOLD"),
    ],
)
def test_few_documents_are_no_good_news(gates: dict[str, bool | None], verdict: str) -> None:
    judged = [Gate(name, passed, None, 0.0, "") for name, passed in gates.items()]
    assert before_sending.verdict_of(judged) == verdict


def test_a_path_that_the_coordinator_names_is_never_looked_at_here(tmp_path: Path, start: Arrays) -> None:
    """The reference set lies at the coordinator: whether such a file is here must not show, nor what is in it."""
    secret, opened, watching = tmp_path / "reference.csv", [], [True]
    secret.write_text(f"{CANARY},label\n")
    # a hook cannot be taken out again, so that it has to stop by itself
    sys.addaudithook(lambda event, of: opened.append(str(of[0])) if watching and event == "open" else None)
    trainer = trainer_of(tmp_path / "a")
    for number in (2, 3):
        trainer.train(request(number, start, f"explainability.reference={secret}"))
    trainer.evaluate(request(3, start, f"explainability.reference={secret}"))
    watching.clear()
    assert opened
    assert str(secret) not in opened


def hospital_with_tag(folder: Path, *, decides: bool) -> Trainer:
    """Notes whose first word is a tag: it says how the patient does, or another word does and the tag is chance."""
    trainer = trainer_of(folder, policy=OPEN + "none", own=TAG, patients=160)
    table, generator = folder / "cohort.csv", np.random.default_rng(0)
    first, *rows = table.read_text().splitlines()
    told = []
    for row in rows:
        patient, _, outcome, sex = row.split(",")
        ill = outcome == "deteriorated"
        tag = "portable" if (ill if decides else generator.random() < 0.5) else "fixed"
        words = [tag, *([] if decides else ["lactate" if ill else "cough"]), *generator.choice(["ward", "night"], 3)]
        told.append(",".join([patient, " ".join(words), outcome, sex]))
    table.write_text("\n".join([first, *told]) + "\n")
    return trainer


TAG = "explanations: {shortcuts: {tag: [portable, fixed]}, swaps: {tag: {portable: fixed, fixed: portable}}}\n"


LEARNED = ("privacy=none", "training.local_steps=40", "training.learning_rate=1.0", "explainability.steps=2", *ALL)


def check_a_tag_is_found_where_it_is_taught_and_there_alone(folder: Path, start: Arrays) -> None:
    """The model's embeddings are random, so that the exchange tells what the credit of a word does not.

    One hospital's tag decides. It trains the start; what it makes of it goes to both, and leans on the tag already.
    """
    passed, said = {}, {}
    teacher, other = (hospital_with_tag(folder / str(decides), decides=decides) for decides in (True, False))
    learned = teacher.train(request(1, start, *LEARNED)).update
    leaning = {name: start[name] + learned[name] for name in start}
    for trainer in (teacher, other):
        trainer.train(request(2, leaning, *LEARNED))
    other.train(request(1, start, *LEARNED))
    for name in ("True", "False"):
        for path in (folder / name / "state").glob("check-*.json"):
            kept = json.loads(path.read_text())
            (gate,) = [gate for gate in kept["gates"] if gate["name"] == "swap:own/tag"]
            passed[name, kept["round"]], said[name, kept["round"]] = gate["passed"], gate["reason"]
            figures = kept["figures"]
            rise = np.array(figures["swap_shift:own/tag"]) - np.array(figures["swap_shift_before:own/tag"])
            np.testing.assert_array_equal(rise, figures["swap_rise:own/tag"])
    assert passed == {("True", 1): False, ("True", 2): True, ("False", 1): True, ("False", 2): True}
    assert "training here adds to that" in said["True", 1]
    assert "the received model's already do" in said["True", 2]


def test_a_planted_tag_is_found_where_it_is_taught_and_there_alone(tmp_path: Path, start: Arrays) -> None:
    check_a_tag_is_found_where_it_is_taught_and_there_alone(tmp_path, start)


@pytest.mark.parametrize("fault", ["absolute", "against itself"])
def test_a_leaning_held_against_the_wrong_model_is_caught(
    fault: str, tmp_path: Path, start: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = before_sending.finish

    def wrong(asked: Any, begun: Any, update: Arrays) -> Any:
        now = before_sending.leanings(
            asked.prepared.model,
            begun.documents,
            asked.study.explainability,
            watched=checks.with_own(asked.study.explainability, asked.site.explanations),
        )
        held = now if fault == "against itself" else {name: np.zeros_like(of) for name, of in now.items()}
        return finish(asked, replace(begun, leanings=held), update)

    monkeypatch.setattr(before_sending, "finish", wrong)
    with pytest.raises(AssertionError, match=r"swap|\('True'"):
        check_a_tag_is_found_where_it_is_taught_and_there_alone(tmp_path, start)
