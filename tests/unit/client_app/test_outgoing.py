"""What may leave the trainer: honest answers pass, and an answer with anything else in it is kept back by a code."""

import logging
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from client_app.asked import Round
from client_app.trainer import outgoing
from client_app.trainer.calls import CALLS, packed
from client_app.trainer.incidents import LONGEST_TEXT, as_refusal
from fedfm.arrays import layout, to_bytes
from fedfm.errors import DataError, EngineError, FedFMError
from fedfm.explanations import check_names, sum_names
from fedfm.statistics import width
from fedfm.wire import Description, EvaluateReply, Head, PrivacySpent, SummariseReply, TrainReply
from tests.unit.client_app.hospital import asked as exact_round
from tests.unit.client_app.hospital import study_of

CANARY = "ZZPATIENT-000001"
START = {"head.weight": np.zeros((2, 3), np.float32), "head.bias": np.ones(2, np.float32)}
PRIVATE = ("privacy=patient", "evaluation=noisy", "explainability=integrated_gradients", "weighting=fairfed")


def asked(state: Path, *overrides: str, number: int = 2) -> Round:
    """A request of a private study of two rounds; the last of them unless said otherwise."""
    of = study_of(*PRIVATE, "weighting.params.attribute=a", "explainability.vocabulary=[fever]", *overrides)
    made = exact_round(of, state, number=number)
    prepared: Any = SimpleNamespace(start=START, model=SimpleNamespace(standard=SimpleNamespace(mean=np.zeros(4))))
    prepared.model.standard.mean = SimpleNamespace(numel=lambda: 4)
    site = replace(made.site, cohort="a")
    request = replace(made.request, parameters=START, layout=layout(START), round=number)
    return replace(made, prepared=prepared, request=request, site=site)


def spent(of: Round) -> PrivacySpent:
    return of.spent()


def description(of: Round) -> Description:
    return Description("hospital-a", 60, layout(START), "cpu", ("a",), spent(of))


def sums(of: Round) -> SummariseReply:
    return SummariseReply("hospital-a", 2, np.zeros(width(of.study, inputs=4)), 0.5, 1.0, spent(of))


def update(of: Round) -> TrainReply:
    check = dict.fromkeys(check_names(of.study), 1.0)
    steps = of.study.training.local_steps
    moved = {name: array + 1 for name, array in START.items()}
    return TrainReply("hospital-a", 2, layout(START), moved, 60, steps, 1.0, spent(of), check, 0.5)


def counts(of: Round) -> EvaluateReply:
    explained = dict.fromkeys(sum_names(of.study), 1.0)
    return EvaluateReply(
        *("hospital-a", 2, np.ones((2, of.study.evaluation.bins)), 0.5, explained, 0.5, 1.0, spent(of)),
        groups={"a=a1": np.ones((2, 2)), "a*b=a1*b2": np.ones((2, 2))},
        groups_sd=0.5,
        losses={"loss": 1.0, "patients": 9.0},
        losses_sd=0.5,
        alone=np.zeros((2, 0)),
        terms=np.ones((2, 1)),
        terms_sd=0.5,
        term_documents_sd=0.5,
    )


HONEST: dict[str, Callable[[Round], Any]] = {
    "Describe": description,
    "Summarise": sums,
    "Train": update,
    "Evaluate": counts,
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_answer_leaves_as_it_is(tmp_path: Path, name: str) -> None:
    of = asked(tmp_path)
    reply, call, head = HONEST[name](of), CALLS[name], Head(3, "ab" * 32)
    outgoing.check(reply, of)
    told = call.answer.FromString(packed(call, reply, head))  # type: ignore[attr-defined]
    heard = call.unpack(getattr(told, call.part))
    assert (heard.privacy.audit_entries, heard.privacy.audit_seal) == head


def kept_back(reply: Any, of: Round) -> FedFMError:
    with pytest.raises(FedFMError) as refused:
        outgoing.check(reply, of)
    assert refused.value.code == "SITE-E136", refused.value
    assert CANARY not in str(refused.value)
    return refused.value


@pytest.mark.parametrize("name", HONEST)
def test_a_patients_string_in_any_field_is_kept_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """In the place of every field, of the account too; what stood there is in the local log alone."""
    of = asked(tmp_path)
    honest = HONEST[name](of)
    for field in fields(honest):
        before = len(caplog.records)
        if field.name == "privacy":
            for part in fields(PrivacySpent):
                kept_back(replace(honest, privacy=replace(honest.privacy, **{part.name: CANARY})), of)
            kept_back(replace(honest, privacy=CANARY), of)
            continue
        with pytest.raises((FedFMError, TypeError, AttributeError)) as refused:  # a wrong type is an incident, too
            outgoing.check(replace(honest, **{field.name: CANARY}), of)
        assert CANARY not in str(as_refusal(refused.value))
        assert len(caplog.records) > before


def wrong(**changes: Any) -> Callable[[Any], Any]:
    return lambda reply: replace(reply, **changes)


def more(field: str, key: str, value: object) -> Callable[[Any], Any]:
    return lambda reply: replace(reply, **{field: {**getattr(reply, field), key: value}})


def less(field: str) -> Callable[[Any], Any]:
    return lambda reply: replace(reply, **{field: dict(list(getattr(reply, field).items())[1:])})


def spending(**changes: Any) -> Callable[[Any], Any]:
    return lambda reply: replace(reply, privacy=replace(reply.privacy, **changes))


NAN, INFINITE = float("nan"), float("inf")
STOWAWAY = np.frombuffer(CANARY.encode() + b"\0\0\0\0\0\0\0\0", np.float64).reshape(3, 1)
FAULTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "describe: groups of the data": ("Describe", wrong(groups=(CANARY,))),
    "describe: a group that the study has not": ("Describe", wrong(groups=("c",))),
    "describe: a group twice": ("Describe", wrong(groups=("a", "a"))),
    "describe: counted patients": ("Describe", wrong(declared_patients=59)),
    "describe: another device": ("Describe", wrong(device="cpu of ward 7")),
    "describe: another model": ("Describe", wrong(layout="ab" * 32)),
    "sums: one more": ("Summarise", lambda r: replace(r, sums=np.append(r.sums, 1.0))),
    "sums: a NaN": ("Summarise", lambda r: replace(r, sums=r.sums + NAN)),
    "sums: no noise": ("Summarise", wrong(sums_sd=0.0)),
    "sums: of another type": ("Summarise", lambda r: replace(r, sums=r.sums.astype(np.int64))),
    "another site": ("Train", wrong(site="hospital-b")),
    "another round": ("Train", wrong(round=1)),
    "time that is none": ("Train", wrong(seconds=INFINITE)),
    "time before": ("Train", wrong(seconds=-1.0)),
    "update: an array more": ("Train", more("update", CANARY, np.zeros(2, np.float32))),
    "update: an array less": ("Train", less("update")),
    "update: another shape": ("Train", more("update", "head.bias", np.zeros((1, 2), np.float32))),
    "update: another type": ("Train", more("update", "head.bias", np.zeros(2, np.float64))),
    "update: a NaN": ("Train", more("update", "head.bias", np.array([0, NAN], np.float32))),
    "update: infinite": ("Train", more("update", "head.bias", np.array([0, -INFINITE], np.float32))),
    "update: another layout": ("Train", wrong(layout="ab" * 32)),
    "update: steps that were not asked for": ("Train", wrong(steps=1)),
    "update: a word for a truth": ("Train", wrong(downweighted=1)),
    "check: a patient's key": ("Train", more("check", CANARY, 1.0)),
    "check: one less": ("Train", less("check")),
    "check: a NaN": ("Train", more("check", "documents", NAN)),
    "check: no noise": ("Train", wrong(check_sd=0.0)),
    "cells: another shape": ("Evaluate", wrong(cells=np.ones((3, 4)))),
    "cells: withheld in a noised study": ("Evaluate", wrong(cells=np.ones((2, 0)))),
    "cells: a NaN": ("Evaluate", wrong(cells=np.full((2, 4), NAN))),
    "cells: no noise": ("Evaluate", wrong(cells_sd=0.0)),
    "cells: a string in their place": ("Evaluate", wrong(cells=STOWAWAY)),
    "groups: a patient's group": ("Evaluate", more("groups", f"a={CANARY}", np.ones((2, 2)))),
    "groups: an attribute that was not asked for": ("Evaluate", more("groups", "c=c1", np.ones((2, 2)))),
    "groups: another shape": ("Evaluate", more("groups", "a=a2", np.ones((2, 3)))),
    "groups: a NaN": ("Evaluate", more("groups", "a=a2", np.full((2, 2), NAN))),
    "groups: no noise": ("Evaluate", wrong(groups_sd=0.0)),
    "losses: a patient's key": ("Evaluate", more("losses", CANARY, 1.0)),
    "losses: infinite": ("Evaluate", more("losses", "loss", INFINITE)),
    "losses: no noise": ("Evaluate", wrong(losses_sd=0.0)),
    "explanation: a patient's word": ("Evaluate", more("explanation", f"shortcut_mass:{CANARY}", 1.0)),
    "explanation: no noise": ("Evaluate", wrong(explanation_sd=0.0)),
    "audit groups in the last round": ("Evaluate", wrong(audit_groups={"a=a1": np.ones((2, 2))}, audit_groups_sd=0.5)),
    "alone: not asked for": ("Evaluate", wrong(alone=np.ones((2, 4)), alone_sd=0.5)),
    "terms: one more": ("Evaluate", wrong(terms=np.ones((2, 2)))),
    "terms: no noise": ("Evaluate", wrong(terms_sd=0.0)),
    "terms: no noise of documents": ("Evaluate", wrong(term_documents_sd=0.0)),
    "account: another delta": ("Train", spending(delta=0.5)),
    "account: an epsilon that is none": ("Train", spending(train=NAN)),
    "account: an epsilon below zero": ("Train", spending(run=-1.0)),
    "account: another noise": ("Train", spending(noise_multiplier=99.0)),
    "account: another unit": ("Train", spending(unit="record")),
    "account: a seal that is a word": ("Train", spending(entries=1, seal=CANARY)),
    "account: a seal of an empty ledger": ("Train", spending(seal="ab" * 32)),
    "account: entries below zero": ("Train", spending(entries=-1, seal="ab" * 32)),
}


@pytest.mark.parametrize(("name", "change"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_kept_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, change: Callable[[Any], Any]
) -> None:
    of = asked(tmp_path)
    with caplog.at_level(logging.ERROR):
        refused = kept_back(change(HONEST[name](of)), of)
    number = refused.what.rpartition(" ")[2]
    assert number in caplog.text  # by which the site finds what stood there


def test_what_leaves_of_a_round_before_the_last_is_that_of_this_round(tmp_path: Path) -> None:
    """Counts on the way have two columns, groups and explanations wait for the end; a rule's audit groups come."""
    of = asked(tmp_path, "rounds=3", number=1)
    on_the_way = replace(
        counts(of),
        round=1,
        cells=np.ones((2, 2)),
        explanation={},
        explanation_sd=0.0,
        groups={},
        groups_sd=0.0,
        terms=np.zeros((2, 0)),
        audit_groups={"a=a1": np.ones((2, 2))},
        audit_groups_sd=0.5,
    )
    outgoing.check(on_the_way, of)
    for change in (wrong(cells=np.ones((2, 4))), more("groups", "a=a1", np.ones((2, 2))), wrong(groups_sd=INFINITE)):
        kept_back(change(on_the_way), of)


def test_exact_counts_of_an_open_study_may_be_coarser_or_withheld(tmp_path: Path) -> None:
    of = asked(tmp_path, "privacy=none", "evaluation=exact")
    exact = replace(counts(of), cells_sd=0.0, groups_sd=0.0, losses_sd=0.0, explanation_sd=0.0)
    for cells in (np.ones((2, of.study.evaluation.bins)), np.ones((2, 2)), np.ones((2, 0))):
        outgoing.check(replace(exact, cells=cells, groups={"a=OTHER": np.ones((2, 2))}, terms=np.zeros((2, 0))), of)
    kept_back(replace(exact, cells=np.ones((2, 3))), of)


def test_an_answer_of_another_class_or_with_more_in_it_is_kept_back(tmp_path: Path) -> None:
    of = asked(tmp_path)
    reply = update(of)
    object.__setattr__(reply, "note", CANARY)
    kept_back(reply, of)
    kept_back(SimpleNamespace(site="hospital-a"), of)


def _metadata(arrays: Any) -> bytes:
    whole = to_bytes(arrays)
    size = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + size].rstrip(b" ")[:-1] + b',"note":{}}'
    return len(header).to_bytes(8, "little") + header + whole[8 + size :]


def _blanks(arrays: Any) -> bytes:
    """Whole safetensors with blanks behind the header: room for a message that no reader sees."""
    whole = to_bytes(arrays)
    size = int.from_bytes(whole[:8], "little") + 8
    return size.to_bytes(8, "little") + whole[8:size] + b" " * 8 + whole[size:]


@pytest.mark.parametrize("spoil", [_metadata, _blanks])
def test_what_packing_adds_to_arrays_is_kept_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], bytes]
) -> None:
    reply, calls = update(asked(tmp_path)), []

    def spoiled(arrays: Any) -> bytes:
        calls.append(1)
        return spoil(arrays) if len(calls) == 1 else to_bytes(arrays)

    monkeypatch.setattr("client_app.trainer.messages.to_bytes", spoiled)
    with pytest.raises(FedFMError) as refused:
        packed(CALLS["Train"], reply, Head())
    assert refused.value.code in ("SITE-E136", "WIRE-E012")
    assert CANARY not in str(refused.value)


def test_what_packing_changes_is_kept_back(tmp_path: Path) -> None:
    call = CALLS["Train"]

    def spoiled(reply: Any) -> Any:
        made = call.pack(reply)
        made.site = CANARY
        return made

    with pytest.raises(FedFMError, match="SITE-E136") as refused:
        packed(replace(call, pack=spoiled), update(asked(tmp_path)), Head())
    assert CANARY not in str(refused.value)


def test_a_refusal_is_bounded_printable_and_has_a_code_of_a_hospital() -> None:
    long = as_refusal(DataError("SITE-E014", "x" * 10 * LONGEST_TEXT))
    assert len(str(long)) <= LONGEST_TEXT + 2
    odd = str(as_refusal(DataError("STUDY-E001", "a\x00b\ud800c\nd\x1b[31m")))
    assert odd == "STUDY-E001 a?b?c\nd?[31m"
    assert odd.encode()
    for code in ("X", "ROUND-E001", "SITE-E0014", f"{CANARY}", "ENGINE-E101"):
        assert as_refusal(EngineError(code, CANARY)).code == "SITE-E500"
        assert CANARY not in str(as_refusal(EngineError(code, CANARY)))
