"""What a site does about a failed gate: by its own policy, and by noised sums alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.reasons import before_sending, explained
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study
from fedfm.errors import Withheld
from fedfm.explain import sum_gates
from fedfm.explain.sum_gates import failed as judged
from fedfm.explanations import check_names
from fedfm.wire import TrainReply
from tests.integration.conftest import TINY, request
from tests.integration.test_reasons import start as start  # noqa: PLC0414 - a fixture
from tests.integration.test_reasons import trainer_of


def failing(patch: pytest.MonkeyPatch) -> None:
    """Let the sums say, for certain, that reasons do not hold."""
    told = {"comprehensiveness": -200.0, "random_order": 200.0, "completeness_error": 0.0, "documents": 400.0}
    patch.setattr(before_sending, "sums_of_check", lambda *_, **__: ({**told, "randomised_head": 0.0}, 1.0))


@pytest.mark.parametrize(
    ("action", "warm_up", "down"),
    [("flag", "0", False), ("downweight", "0", True), ("downweight", "1", False), ("withhold", "1", False)],
)
def test_a_site_acts_on_failed_gates_as_its_policy_says(
    action: str,
    warm_up: str,
    down: bool,
    tmp_path: Path,
    start: Arrays,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch)
    trainer = trainer_of(tmp_path, policy=f"on_failed_check: {action}")
    reply = trainer.train(request(3, start, f"explainability.warm_up={warm_up}"))
    assert reply.downweighted == down
    early = trainer.train(request(2, start, "explainability.warm_up=0"))
    assert (early.check, early.downweighted) == ({}, False)  # nothing leaves, nothing is judged


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
        trainer = trainer_of(folder / str(added), policy="on_failed_check: downweight")
        reply = reply_of(trainer, start, 0.0, added)
        assert judged(reply.check, sd=reply.check_sd) == failed
        assert reply.downweighted == bool(failed)


def test_only_noised_sums_decide(tmp_path: Path, start: Arrays) -> None:
    check_only_noised_sums_decide(tmp_path, start)


def test_a_decision_by_exact_sums_is_caught(tmp_path: Path, start: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    exact: dict[str, float] = {}
    look = before_sending.look

    def looked(*of: Any, **how: Any) -> Any:
        found = look(*of, **how)
        exact.update({name: float(values.sum()) for name, values in found.sums.items()})
        return found

    def by_exact(sums: Mapping[str, float], *, sd: float) -> tuple[str, ...]:
        return judged({name: exact.get(name, 0.0) for name in sums}, sd=sd)

    monkeypatch.setattr(before_sending, "look", looked)
    monkeypatch.setattr(sum_gates, "failed", by_exact)
    with pytest.raises(AssertionError):
        check_only_noised_sums_decide(tmp_path, start)
