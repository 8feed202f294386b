"""The check before sending on the trainer's real path: what it does to training, what leaves, what stays."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from client_app import before_sending, explained, sum_gates
from client_app.gates import Gate
from client_app.layer_gradients import Grouping, recording
from client_app.trainer.messages import request_to_proto
from client_app.trainer.trainer_pb2_grpc import TrainerStub
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, load_site
from fedfm.errors import PrivacyBudgetExceeded, Withheld
from fedfm.explanations import check_names
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from fedfm.wire import TrainReply
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


def failing(patch: pytest.MonkeyPatch) -> None:
    """Let the sums say, for certain, that reasons do not hold."""
    told = {"comprehensiveness": -200.0, "random_order": 200.0, "completeness_error": 0.0, "documents": 400.0}
    patch.setattr(before_sending, "sums_of_check", lambda *_, **__: ({**told, "randomised_head": 0.0}, 1.0))


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
    finish = before_sending.finish

    def state(model: Any) -> Any:
        gradients = {name: p.grad for name, p in model.named_parameters()}
        kept = {name: None if grad is None else grad.clone() for name, grad in gradients.items()}
        hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
        return {n: t.clone() for n, t in model.state_dict().items()}, kept, hooks, model.training

    def compared(asked: Any, *of: Any) -> Any:
        before, found = state(asked.prepared.model), finish(asked, *of)
        torch.testing.assert_close(state(asked.prepared.model), before, rtol=0, atol=0)
        return found

    patch.setattr(before_sending, "finish", compared)
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


def test_hooks_of_a_private_step_end_the_round(
    tmp_path: Path, start: Arrays, serve_here: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = before_sending.look

    def hooked(model: Any, *of: Any, **how: Any) -> Any:
        with recording(model, Grouping(torch.zeros(1, dtype=torch.int64), 1)):
            return look(model, *of, **how)

    monkeypatch.setattr(before_sending, "look", hooked)
    answer = train_over(serve_here(write_hospital(tmp_path)), start)
    assert answer.refusal.code == "MODEL-E147"


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
    spent = [trainer.train(request(1, start, *long)).privacy.audit for _ in range(4)]
    assert spent == sorted(set(spent))
    assert spent[-1] <= 3.0
    entries = len(trainer.ledger.charges())
    with pytest.raises(PrivacyBudgetExceeded, match="SITE-E104"):
        trainer.train(request(1, start, *long))
    assert len(trainer.ledger.charges()) == entries


@pytest.mark.parametrize(
    ("action", "warm_up", "failed", "down"),
    [
        ("flag", "0", ("faithfulness",), False),
        ("downweight", "0", ("faithfulness",), True),
        ("downweight", "1", (), False),
        ("withhold", "1", (), False),
    ],
)
def test_a_site_acts_on_failed_gates_as_its_policy_says(
    action: str,
    warm_up: str,
    failed: tuple[str, ...],
    down: bool,
    tmp_path: Path,
    start: Arrays,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch)
    trainer = trainer_of(tmp_path, policy=f"on_failed_check: {action}")
    reply = trainer.train(request(3, start, f"explainability.warm_up={warm_up}"))
    assert (reply.failed, reply.downweighted) == (failed, down)
    assert (
        trainer.train(request(2, start, "explainability.warm_up=0")).failed == ()
    )  # nothing leaves, nothing is judged


def test_what_is_withheld_is_charged_and_says_the_gate_alone(
    tmp_path: Path, start: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch)
    trainer = trainer_of(tmp_path, policy="on_failed_check: withhold")
    with pytest.raises(Withheld, match=r"SITE-E168.*got: faithfulness") as caught:
        trainer.train(request(3, start, "explainability.warm_up=0"))
    assert not set("0123456789") & set(caught.value.found)
    assert [(c.split, c.purpose) for c in trainer.ledger.charges()] == [("train", "training"), ("audit", "check")]


def reply_of(trainer: Trainer, start: Arrays, exact: float, added: float) -> TrainReply:
    """The reply to a round in which the exact sums and the noise are as given, in each mean of 400 documents."""

    def noised(of: np.ndarray, _: float) -> np.ndarray:  # type: ignore[type-arg]
        names = check_names(compose_study(TINY).value)
        gap = {"comprehensiveness": exact + added, "documents": 1.0}
        return np.array([400.0 * gap.get(name, 0.0) for name in names])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explained, "noised_sums", noised)
        return trainer.train(request(3, start, "explainability.warm_up=0"))


def check_only_noised_sums_decide(folder: Path, start: Arrays) -> None:
    """The real model's reasons are the same in both; only what the noise made of the sums differs."""
    for added, failed in ((-0.9, ("faithfulness",)), (0.9, ())):
        reply = reply_of(trainer_of(folder / str(added)), start, 0.0, added)
        assert reply.failed == failed
        assert reply.failed == sum_gates.failed(reply.check, sd=reply.check_sd)


def test_only_noised_sums_decide(tmp_path: Path, start: Arrays) -> None:
    check_only_noised_sums_decide(tmp_path, start)


def test_a_decision_by_exact_sums_is_caught(tmp_path: Path, start: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, exact = sum_gates.failed, {}
    look = before_sending.look

    def looked(*of: Any, **how: Any) -> Any:
        found = look(*of, **how)
        exact.update({name: float(values.sum()) for name, values in found.sums.items()})
        return found

    def by_exact(sums: Mapping[str, float], *, sd: float) -> tuple[str, ...]:
        return judge({name: exact.get(name, 0.0) for name in sums}, sd=sd)

    monkeypatch.setattr(before_sending, "look", looked)
    monkeypatch.setattr(sum_gates, "failed", by_exact)
    with pytest.raises(AssertionError):
        check_only_noised_sums_decide(tmp_path, start)


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
    assert (reply.check, reply.failed, told.explanation, told.terms.shape) == ({}, (), {}, (2, 0))


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


def train_over(socket: Path, start: Arrays, *overrides: str) -> Any:
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        return TrainerStub(channel).Train(request_to_proto(request(3, start, *ALL, *LISTS, *overrides)))


def spoiled_history(folder: Path) -> None:
    for path in (folder / "state").glob("check-*.json"):
        path.write_text(f"{CANARY} {{")


def as_it_is(folder: Path, patch: pytest.MonkeyPatch) -> None:
    pass


def withheld(folder: Path, patch: pytest.MonkeyPatch) -> None:
    failing(patch)


def broken_look(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def breaks(_: Any, documents: Any, *of: Any, **how: Any) -> None:
        raise ValueError(f"cannot explain {documents[0].text}")

    patch.setattr(before_sending, "look", breaks)
    patch.setattr(explained, "look", breaks)


def damaged_history(folder: Path, patch: pytest.MonkeyPatch) -> None:
    last_before = before_sending.check_history.last_before

    def spoiling(asked: Any) -> Any:
        spoiled_history(folder)
        return last_before(asked)

    patch.setattr(before_sending.check_history, "last_before", spoiling)


def full_disk(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", f"{CANARY}.json")

    patch.setattr("client_app.own_files.os.fdopen", full)


PATHS = {
    "good": (as_it_is, ("reply", "reply")),
    "withheld": (withheld, ("refusal", "reply")),
    "look breaks": (broken_look, ("refusal", "refusal")),
    "damaged history": (damaged_history, ("reply", "reply")),
    "full disk": (full_disk, ("refusal", "reply")),
}


@pytest.mark.parametrize("name", PATHS)
def test_no_canary_leaves_with_explanations_on(
    name: str,
    tmp_path: Path,
    start: Arrays,
    serve_here: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It stands in every note, in a column's name, a group, the table's file name and a list of the site's own."""
    spoil, expected = PATHS[name]
    file = write_hospital(tmp_path, policy="on_failed_check: withhold")
    table = tmp_path / "cohort.csv"
    table.write_text(table.read_text().replace(",male", f",{CANARY}-group"))
    table.rename(tmp_path / f"{CANARY}.csv")
    site = file.read_text().replace("cohort.csv", f"{CANARY}.csv").replace("male: male", f"{CANARY}-group: male")
    file.write_text(site + OWN)
    socket = serve_here(file)
    spoil(tmp_path, monkeypatch)
    answers = []
    with grpc.insecure_channel(f"unix:{socket}") as channel, caplog.at_level(logging.INFO):
        stub = TrainerStub(channel)
        for call, number in ((stub.Train, 2), (stub.Train, 3), (stub.Evaluate, 3)):
            question = request_to_proto(request(number, start, *ALL, *LISTS))
            answers.append(call(question))
    sent = b"".join(answer.SerializeToString() for answer in answers)
    assert tuple(answer.WhichOneof("answer") for answer in answers[1:]) == expected, answers
    assert CANARY.lower().encode() not in sent.lower()
    for file in (tmp_path / "state").glob("check-*.json"):
        assert CANARY not in file.read_text() or name == "damaged history"
    told = [record for record in caplog.records if record.name.startswith(("client_app.before", "client_app.check"))]
    assert CANARY not in " ".join(record.getMessage() for record in told)
