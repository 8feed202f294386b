"""Small hospitals for tests of the coordinator: a real ClientApp whose answers a test decides."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fedfm import wire, wire_records
from fedfm.arrays import Arrays, layout
from fedfm.config.compose import compose_study, study_from_json
from fedfm.config.study import Study
from fedfm.explanations import check_names, sum_names
from fedfm.metrics.counts import columns
from fedfm.plan import explains
from fedfm.records import write_arrays
from fedfm.schedule import check_rounds, closing_round, explanation_rounds
from server_app.checkpoints import keep_only
from server_app.ledgers import Ledgers
from server_app.report.event_log import EventLog, read_events
from server_app.report.events import Event, SiteLeftOut
from server_app.simulate import InProcessGrid
from server_app.strategy import FairFedAvg

PARAMETERS: Arrays = {"head.weight": np.zeros((2, 3), np.float32), "head.bias": np.ones(2, np.float32)}
SPENT = wire.PrivacySpent("patient", 1e-3, 2.0, 0.5, 0.5, 1.5, 2.5, 1.2)

Reply = wire.Description | wire.SummariseReply | wire.TrainReply | wire.EvaluateReply


def honest(reply: Reply) -> Reply:
    return reply


@dataclass
class Hospital:
    """What one site answers: an honest reply, changed by the test's functions."""

    patients: int = 60
    shift: float = 1.0
    describe: Callable[[Any], Any] = honest
    summarise: Callable[[Any], Any] = honest
    train: Callable[[Any], Any] = honest
    evaluate: Callable[[Any], Any] = honest
    asked: list[wire.Request] = field(default_factory=list)


def client_app(hospitals: Mapping[str, Hospital]) -> ClientApp:
    app = ClientApp()

    def answer(kind: str, write: Callable[[Any], RecordDict], message: Message, context: Context) -> Message:
        site = Path(str(context.node_config["site-config"])).stem
        hospital, request = hospitals[site], wire_records.request_from_records(message.content)
        hospital.asked.append(request)
        reply = getattr(hospital, kind)(honest_reply(kind, site, hospital, request))
        if isinstance(reply, Error):
            return Message(reply, reply_to=message)
        return Message(reply if isinstance(reply, RecordDict) else write(reply), reply_to=message)

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        return answer("describe", wire_records.description_to_records, message, context)

    @app.query("summarise")
    def summarise(message: Message, context: Context) -> Message:
        return answer("summarise", wire_records.summarise_reply_to_records, message, context)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return answer("train", wire_records.train_reply_to_records, message, context)

    @app.train("evaluated")
    def both(message: Message, context: Context) -> Message:
        site = Path(str(context.node_config["site-config"])).stem
        asked = wire_records.request_from_records(message.content)
        evaluation = half("evaluate", site, hospitals[site], replace(asked, round=asked.evaluates, evaluates=0))
        training = half("train", site, hospitals[site], replace(asked, evaluates=0))
        return Message(wire_records.both_to_records({"evaluation": evaluation, "training": training}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return answer("evaluate", wire_records.evaluate_reply_to_records, message, context)

    return app


def half(kind: str, site: str, hospital: Hospital, request: wire.Request) -> RecordDict | str:
    """Return the answer to one of two questions in a message, or the refusal's text."""
    hospital.asked.append(request)
    reply = getattr(hospital, kind)(honest_reply(kind, site, hospital, request))
    if isinstance(reply, Error):
        return str(reply.reason)
    is_training = kind == "train"
    return wire_records.train_reply_to_records(reply) if is_training else wire_records.evaluate_reply_to_records(reply)


def honest_reply(kind: str, site: str, hospital: Hospital, request: wire.Request) -> Reply:
    study = study_from_json(request.study)
    if kind == "describe":
        return wire.Description(site, hospital.patients, request.layout, "cpu", ("sex",), SPENT)
    if kind == "summarise":
        return wire.SummariseReply(site, request.round, sums_of(hospital), 1.0, 0.5, SPENT)
    if kind == "train":
        update = {name: np.full_like(array, hospital.shift) for name, array in request.parameters.items()}
        reply = wire.TrainReply(site, request.round, request.layout, update, hospital.patients, 4, 0.5, SPENT)
        asked = explains(study) and request.round in check_rounds(study)
        return replace(reply, check=reasons(check_names(study)), check_sd=0.1) if asked else reply
    width = columns(2, bins=study.evaluation.bins, is_last=request.round == closing_round(study))
    cells = np.full((2, width), 3.0)
    asked = explains(study) and request.round in explanation_rounds(study)
    sums = reasons(sum_names(study)) if asked else {}
    answer = wire.EvaluateReply(site, request.round, cells, 0.5, sums, 0.1, 0.25, SPENT)
    if request.round == closing_round(study):
        halves = np.array([[12.0, 4.0], [2.0, 12.0]])
        answer = replace(answer, groups={"sex=female": halves, "sex=male": halves}, groups_sd=0.5)
    return replace(answer, losses={"loss": 4.0, "patients": 10.0}, losses_sd=0.5)


def reasons(names: Iterable[str]) -> dict[str, float]:
    """Sums over eight documents: their credited words matter, and nothing else is remarkable."""
    return dict.fromkeys(names, 1.0) | {"comprehensiveness": 4.0, "documents": 8.0}


def unsound(reply: wire.TrainReply, **more: Any) -> wire.TrainReply:
    """Where a check is asked for, let it say of 60 documents that random words matter more than credited ones."""
    if not reply.check:
        return reply
    told = dict.fromkeys(reply.check, 1.0) | {"comprehensiveness": -30.0, "random_order": 30.0, "documents": 60.0}
    return replace(reply, check=told, **more)


def sums_of(hospital: Hospital) -> NDArray[np.float64]:
    """Of the tiny study: half of the patients by label, states of length 1 along the first of three coordinates."""
    marks, state, square = [0.25, 0.25], [1.0, 0.0, 0.0], [0.125]
    return hospital.patients * np.array([*marks, *state, *square])


def study_of(*overrides: str) -> Study:
    return compose_study(["model=tiny", "start_minutes=0.005", "round_minutes=0.01", *overrides]).value


@dataclass
class Outcome:
    """What a federation left behind."""

    parameters: Arrays | None
    happened: list[Event]
    error: Exception | None
    folder: Path

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.happened if type(event) is kind]


def federate(hospitals: Mapping[str, Hospital], folder: Path, *overrides: str, grid: Any = None) -> Outcome:
    """Run the strategy over these hospitals; the error that ended it, if any, is returned."""
    study = study_of(*overrides)
    log = EventLog(folder / "events.jsonl", lambda event: None)
    grid = grid or InProcessGrid(client_app(hospitals), {name: Path(f"/{name}.yaml") for name in hospitals})
    strategy = FairFedAvg(study, run="run-1", folder=folder, log=log, ledgers=Ledgers(folder))
    arrays, error = None, None
    try:
        result = strategy.start(grid, write_arrays(PARAMETERS))
        arrays = {name: array.numpy() for name, array in result.arrays.items()}
        keep_only(folder, round_number=strategy.final_round)  # as the app does when the run has ended
    except Exception as problem:
        error = problem
    path = folder / "events.jsonl"
    return Outcome(arrays, read_events(path) if path.exists() else [], error, folder)


def changed(**changes: Any) -> Callable[[Any], Any]:
    """Return a function that changes these fields of a reply."""
    return lambda reply: replace(reply, **changes)


def four_with(liar: Hospital, *, others: Hospital | None = None) -> dict[str, Hospital]:
    """Return four hospitals, of which ``b1`` is this one; of the others one stands for all."""
    return {"b1": liar, **{name: others or Hospital() for name in ("a1", "c1", "d1")}}


def left_out(outcome: Outcome) -> list[tuple[str, int, str, str]]:
    return [(event.site, event.round, event.phase, event.code) for event in outcome.of(SiteLeftOut)]


LAYOUT = layout(PARAMETERS)
