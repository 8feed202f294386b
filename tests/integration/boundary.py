"""A trainer behind its service, without a socket, and good requests for it."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_app.trainer import trainer_pb2 as pb
from client_app.trainer.calls import CALLS
from client_app.trainer.messages import request_to_proto
from client_app.trainer.service import Service
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, load_site
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from tests.integration.conftest import TINY, request, write_hospital

STUDY = compose_study(TINY).value
START: Arrays = trainable(build_model(STUDY.model, STUDY.adapter, STUDY.task, seed=STUDY.seed))


@dataclass
class Hospital:
    """A trainer behind its service, without a socket."""

    folder: Path
    service: Service

    @property
    def ledger(self) -> bytes:
        path = self.folder / "state" / "ledger-hospital-a.jsonl"
        return path.read_bytes() if path.exists() else b""

    def ask(self, name: str, message: pb.Request | bytes) -> Any:
        """The answer; never an incident, and where it is a refusal, nothing is spent."""
        before = self.ledger
        data = message if isinstance(message, bytes) else message.SerializeToString()
        answer = CALLS[name].answer.FromString(self.service.answer(name, data))  # type: ignore[attr-defined]
        if answer.WhichOneof("answer") == "refusal":
            assert answer.refusal.code not in ("SITE-E500", "SITE-E136"), answer.refusal.text
            # the second charge of an answer may be one too many; the first stays, as a charge does
            assert self.ledger == before or answer.refusal.code == "SITE-E104"
        else:
            assert answer.WhichOneof("answer") == CALLS[name].part
        return answer

    def good(self) -> Any:
        """A good request is answered next."""
        answer = self.ask("Describe", asked("Describe"))
        assert answer.description.site == "hospital-a", answer.refusal.text
        return answer


RUNS = itertools.count()


def asked(name: str, round_: int = 1) -> pb.Request:
    """A good request, of a run of its own."""
    return request_to_proto(request(round_, START if CALLS[name].with_arrays else {}, run=f"run-{next(RUNS)}"))


def hospital_in(folder: Path, *, policy: str = "") -> Hospital:
    return Hospital(folder, Service(Trainer(load_site(write_hospital(folder, policy=policy)))))
