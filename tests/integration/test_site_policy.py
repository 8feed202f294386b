"""A trainer asked for more than its policy allows, or than a person approved: refused by code, unspent, still there."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from client_app.approvals import study_hash
from client_app.cli import app
from client_app.ledger import ledger_of
from client_app.site import agreed_plan
from client_app.trainer.connect import SocketTrainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, load_site, study_from_json
from fedfm.config.policy import task_hash
from fedfm.errors import FedFMError
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from fedfm.plan import planned
from fedfm.privacy import epsilon
from server_app.simulate import simulate
from tests.integration.conftest import CANARY, TINY, TrainerProcess, request, study_json, write_hospital

Start = Callable[[Path], TrainerProcess]
Serve = Callable[[Path], Path]
EASY = (
    "training.local_steps=2",
    *(f"privacy.{name}=2" for name in ("epsilon", "evaluation_epsilon", "audit_epsilon")),
)
"""What is approved: a study with room for replays below the cap of all studies."""

POLICY = """\
approval: required
allow_random_weights: true
max_epsilon: 2.5
max_epsilon_per_run: 2.2
max_delta: 0.001
max_grad_norm: 0.5
max_rounds: 3
max_local_steps: 2
min_sites: 2
min_noise_multiplier: {least}
releases: [statistics, evaluation, groups, loss, audit_groups, explanation, check]
tasks: [{task}]
"""
CHANGED = {
    "epsilon of the run": ("SITE-E101", "privacy.epsilon=2.3"),
    "epsilon of all studies": ("SITE-E101", "privacy.epsilon=9"),
    "epsilon of test patients": ("SITE-E101", "privacy.evaluation_epsilon=2.3"),
    "epsilon of audit patients": ("SITE-E101", "privacy.audit_epsilon=50"),
    "delta": ("SITE-E102", "privacy.delta=0.002"),
    "no privacy": ("SITE-E103", "privacy=none"),
    "exact counts": ("SITE-E103", "evaluation=exact"),
    "weaker noise": ("SITE-E105", "rounds=1", "training.local_steps=1"),
    "rounds": ("SITE-E106", "rounds=4"),
    "steps": ("SITE-E106", "training.local_steps=3"),
    "sites": ("SITE-E107", "min_sites=1"),
    "unit": ("SITE-E108", "privacy=record"),
    "precision": ("SITE-E110", "training.precision=bfloat16"),
    "clip": ("SITE-E111", "privacy.max_grad_norm=0.6"),
    "huge clip": ("SITE-E111", "privacy.max_grad_norm=9999"),
    "task": ("SITE-E113", "task.labels=[deteriorated,recovered]"),
    "groups": ("SITE-E113", "task.groups=[age_band]"),
    "release of training alone": ("SITE-E114", "baseline=alone"),
    "release of words": ("SITE-E114", "explainability.vocabulary=[fever]"),
    "another seed": ("SITE-E220", "seed=2"),
    "another step length": ("SITE-E220", "training.learning_rate=5.1"),
    "less privacy within the caps": ("SITE-E220", "privacy.epsilon=2.1"),
    "fewer rounds": ("SITE-E220", "rounds=2"),
}


@pytest.fixture(scope="session")
def start_parameters() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


def strict_hospital(folder: Path, policy: str = POLICY) -> Path:
    """Write a hospital whose policy is a file of its own, just wide enough for the study."""
    site_file = write_hospital(folder)
    text = site_file.read_text()
    site_file.write_text(text[: text.index("policy:")])
    wanted = study_from_json(study_json(*EASY))
    (folder / "policy.yaml").write_text("max_epsilon: 2.5\nallow_random_weights: true\n")
    least = min(one.added for one in planned(wanted, agreed_plan(load_site(site_file), wanted)))
    (folder / "policy.yaml").write_text(policy.format(least=f"{0.95 * least:.4f}", task=task_hash(wanted.task)))
    return site_file


def approve(site_file: Path, *overrides: str) -> str:
    """Approve as the hospital does, in another process than the trainer's or as good as that; return the hash."""
    digest = study_hash(study_from_json(study_json(*overrides)))
    arguments = ["approve", str(site_file), digest[:12], "--yes", load_site(site_file).id, "--by", "Ada"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return digest


@dataclass
class Asked:
    """A trainer, what it is asked, and its ledger."""

    trainer: SocketTrainer
    site_file: Path
    start: Arrays
    told: list[str] = field(default_factory=list)

    @property
    def ledger(self) -> bytes:
        path = ledger_of(load_site(self.site_file)).path
        return path.read_bytes() if path.exists() else b""

    def good(self, number: int, *, run: str = "run-1") -> Any:
        return self.trainer.train(request(number, self.start, *EASY, run=run))

    def until_refused(self, run: str) -> tuple[list[Any], str]:
        """Ask for round 1 from ever so little other parameters; return the answers and what ended them, not charged."""
        replies: list[Any] = []
        while True:
            before = self.ledger
            start = {name: array + np.float32(1e-6 * len(replies)) for name, array in self.start.items()}
            try:
                replies.append(self.trainer.train(request(1, start, *EASY, run=run)))
            except FedFMError as refusal:
                assert self.ledger == before
                return replies, str(refusal)
            assert len(replies) < 20

    def refused(self, *overrides: str, call: str = "train", number: int = 1) -> str:
        """Return the code; nothing was charged, and nothing of a patient was told."""
        before, easy = self.ledger, {part.partition("=")[0]: part for part in EASY}
        changed = {part.partition("=")[0] for part in overrides}
        kept = [part for name, part in easy.items() if name not in changed]
        asked = request(number, {} if call == "describe" else self.start, *kept, *overrides)
        with pytest.raises(FedFMError) as caught:
            getattr(self.trainer, call)(asked)
        assert self.ledger == before
        assert CANARY not in str(caught.value)
        self.told.append(caught.value.code)
        return caught.value.code


def check_changed_requests(asked: Asked) -> None:
    assert asked.refused(call="describe", number=0) == "SITE-E220"
    assert asked.refused() == "SITE-E220"
    approve(asked.site_file, *EASY)
    assert asked.trainer.describe(request(0, {}, *EASY)).privacy.train == 0.0
    first = asked.good(1)
    calls = (("describe", 0), ("train", 1), ("evaluate", 1))
    for place, (name, (code, *overrides)) in enumerate(CHANGED.items()):
        for call, number in calls if name == "another seed" else (calls[place % 3],):
            assert asked.refused(*overrides, call=call, number=number) == code, (name, call)
    assert set(asked.told) >= {code for code, *_ in CHANGED.values()}
    second = asked.good(2)
    assert first.privacy.train < second.privacy.train < 2.0


def test_every_changed_request_is_refused_by_code_spends_nothing_and_the_site_goes_on(
    tmp_path: Path, start_trainer: Start, start_parameters: Arrays
) -> None:
    """In a process of its own; a person approves in another while it runs."""
    site_file = strict_hospital(tmp_path / "a")
    asked = Asked(SocketTrainer(str(start_trainer(site_file).socket)), site_file, start_parameters)
    check_changed_requests(asked)
    pending = list((site_file.parent / "state" / "pending").glob("*.json"))
    waiting = [changes for code, *changes in CHANGED.values() if code == "SITE-E220"]
    assert len(pending) == len(waiting)  # what the policy refuses does not wait
    digest = study_hash(study_from_json(study_json(*EASY)))
    assert CliRunner().invoke(app, ["withdraw", str(site_file), digest[:12], "--by", "Bo"]).exit_code == 0
    assert asked.refused(number=3) == "SITE-E221"
    approve(site_file, *EASY)
    assert asked.good(3).privacy.train < 2.01


def test_a_repeated_round_costs_again_and_ends_at_the_cap(
    tmp_path: Path, serve_here: Serve, start_parameters: Arrays
) -> None:
    """Who asks nearly the same to average the noise away gets new noise, which is charged, until none is left."""
    site_file = strict_hospital(tmp_path / "a")
    asked = Asked(SocketTrainer(str(serve_here(site_file))), site_file, start_parameters)
    assert asked.refused() == "SITE-E220"
    approve(site_file, *EASY)
    ledger = ledger_of(load_site(site_file))
    replies, refusal = asked.until_refused("run-1")
    assert len(replies) == 3  # as many as the study has rounds
    assert refusal.startswith("SITE-E104 the privacy budget of the run")
    charged = [charge.release for charge in ledger.charges() if charge.split == "train"]
    told = [reply.privacy.train for reply in replies]
    assert told == [epsilon(charged[: number + 1], replies[0].privacy.delta) for number in range(3)]
    updates = [np.concatenate([array.ravel() for array in reply.update.values()]) for reply in replies]
    assert all((one != other).mean() > 0.99 for one, other in pairwise(updates))
    for run in ("run-2", "run-3", "run-4"):  # the same round under other names: up to the cap of all studies
        _, refusal = asked.until_refused(run)
        assert refusal.startswith("SITE-E104 the privacy budget of the total")
    assert 2.0 < ledger.epsilon("train", replies[0].privacy.delta) <= 2.5
    assert asked.trainer.describe(request(0, {}, *EASY)).site == "hospital-a"


def test_a_study_under_another_hash_of_weights_is_refused_and_the_allowed_one_is_loaded(
    tmp_path: Path, serve_here: Serve
) -> None:
    minilm = ("model=minilm", "model.max_tokens=16")
    pinned = compose_study([*TINY, *minilm]).value.model.sha256
    site_file = write_hospital(tmp_path / "a", policy=f"models: [{pinned}]")
    trainer, other = SocketTrainer(str(serve_here(site_file))), f"model.sha256={'ab' * 32}"
    for changes in ((*minilm, other), ("model=tiny",), ("model=tiny", f"model.sha256={pinned}")):
        with pytest.raises(FedFMError, match="SITE-E112"):
            trainer.describe(request(0, {}, *changes))
    assert trainer.describe(request(0, {}, *minilm)).site == "hospital-a"


def test_a_refusal_for_want_of_approval_is_told_in_the_report(tmp_path: Path) -> None:
    """The coordinator hears the code, and the run goes on with the sites that agreed."""
    sites = {}
    for name, policy in (("north", ""), ("south", ""), ("west", "")):
        sites[name] = write_hospital(tmp_path / "sites" / name, name=name, policy=policy)
    text = sites["west"].read_text()
    sites["west"].write_text(text.replace("approval: none", "approval: required"))
    simulate(sites, overrides=[*TINY, "rounds=1"], results=tmp_path / "results")
    events = (tmp_path / "results" / "latest" / "events.jsonl").read_text().splitlines()
    refused = [event for event in map(json.loads, events) if event.get("code") == "SITE-E220"]
    assert {event["site"] for event in refused} == {"west"}
    assert "SITE-E220" in (tmp_path / "results" / "latest" / "report.html").read_text()
