"""The ServerApp that Flower starts for a run: compose, build, run, report."""

import json
import logging
import os
import shlex
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedfm.offline import go_offline

go_offline()  # what is imported below reads the environment then

from fedfm.arrays import layout
from fedfm.config.compose import compose_study
from fedfm.config.study import Study
from fedfm.errors import ConfigError, EngineError, FedFMError
from fedfm.records import write_arrays
from server_app import model_host
from server_app.checkpoints import keep_only, not_of_this_release, write_whole
from server_app.ledgers import Ledgers
from server_app.refusals import refusal_of
from server_app.report import console
from server_app.report.event_log import EventLog
from server_app.report.events import RunEnded, RunStarted
from server_app.report.files import make_run_folder
from server_app.report.page import write_report
from server_app.resuming import STUDY, Interrupted, cut_back, find_run
from server_app.strategy import FairFedAvg

_LOGGER = logging.getLogger("server_app")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one study, or go on with one; raises where it fails, so that Flower's run fails too."""
    logging.getLogger("flwr").addFilter(_is_news)
    with console.shown():
        try:
            folder, study = _asked(context)
        except FedFMError as problem:
            _LOGGER.critical("%s", problem)
            raise
        run(study, grid, folder, memory=_memory(context), is_resumed=bool(_resume(context)))


def run(study: Study, grid: Grid, folder: Path, *, memory: Path, is_resumed: bool = False) -> None:
    """Run the study over the grid, and leave adapter, events and report in ``folder``; also when it fails.

    What sites tell of their ledgers is remembered in the folder ``memory``, for all runs.

    Raises:
        FedFMError: What ended the run early, or why it cannot be resumed.
    """
    log, start = EventLog(folder / "events.jsonl", console.tell), time.monotonic()
    with log.held():
        interrupted = cut_back(log) if is_resumed else None
        status, code, reason = "failed", "RUN-E001", "the run was stopped"
        try:
            final = _federate(study, grid, log, memory=memory, interrupted=interrupted)
            status, code, reason = "completed", "", ""
        except FedFMError as problem:
            code, reason = refusal_of(problem)
            raise
        except Exception as problem:
            code, reason = "RUN-E002", f"unexpected {type(problem).__name__} at the coordinator; its log says more"
            raise
        finally:
            log.emit(RunEnded(status, code, reason, time.monotonic() - start))
            if status == "completed":  # not before: until then the run may have to go on from its last round
                keep_only(folder, round_number=final)
            judged = write_report(folder)
            _LOGGER.info("%s", "\n".join(filter(None, [judged.headline, judged.gain, judged.privacy, *judged.reasons])))
            _LOGGER.info("Report: %s", (folder / "report.html").resolve())
    if judged.status != "completed":
        raise EngineError("RUN-E003", judged.headline)


def _asked(context: Context) -> tuple[Path, Study]:
    """Return folder and study of a new run, or of the one that is to go on."""
    results, name, overrides = _results(context), _resume(context), _overrides(context)
    if not name:
        study = compose_study(overrides).value
        folder = make_run_folder(results, study=study.name, now=datetime.now(UTC))
        resolved = json.dumps(asdict(study), indent=2, ensure_ascii=False)
        write_whole(folder / STUDY, f"{resolved}\n".encode())
        return folder, study
    folder, study = find_run(results, name)
    if overrides and compose_study(overrides).value != study:
        where, fix = "--run-config overrides", "leave them out: a run goes on with the study that it began with"
        raise ConfigError("RUN-E007", "the overrides describe another study than the run's", where=where, fix=fix)
    return folder, study


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether Flower's line says more than ours: of an error of ours the log has told already, without a trace."""
    return not (record.exc_info and isinstance(record.exc_info[1], FedFMError))


def _federate(study: Study, grid: Grid, log: EventLog, *, memory: Path, interrupted: Interrupted | None) -> int:
    """Run the rounds, write the adapter, and return the round whose model it is."""
    model, parameters = model_host.build(study)
    folder, checkpoint = log.path.parent, interrupted.checkpoint if interrupted else None
    if checkpoint is None:
        log.emit(
            RunStarted(
                run=folder.name,
                study=asdict(study),
                layout=layout(parameters),
                parameters=sum(array.size for array in parameters.values()),
                release=_release(),
            )
        )
    elif layout(checkpoint.parameters) != layout(parameters):
        raise not_of_this_release(folder, found="other parameters")
    frozen = model_host.first_frozen(model, study)
    strategy = FairFedAvg(study, run=folder.name, folder=folder, log=log, ledgers=Ledgers(memory), frozen=frozen)
    if interrupted is not None:
        log.emit(interrupted.told)
    if interrupted is not None and checkpoint is not None:
        strategy.resume(checkpoint, interrupted.happened)
    final = {name: array.numpy() for name, array in strategy.start(grid, write_arrays(parameters)).arrays.items()}
    model_host.keep_adapter(
        folder, model=model, parameters=final, frozen=strategy.frozen, statistics=strategy.statistics
    )
    return strategy.final_round


def _release() -> str:
    try:
        return version("fedfm")
    except PackageNotFoundError:  # the coordinator runs what Flower unpacked, and nothing is installed
        return "not installed"


def _overrides(context: Context) -> list[str]:
    text = str(context.run_config.get("overrides", ""))
    try:
        return shlex.split(text)
    except ValueError as problem:
        where, fix = "--run-config overrides", "close every quotation mark"
        raise ConfigError("STUDY-E075", "unreadable overrides", where=where, found=text[:200], fix=fix) from problem


def _resume(context: Context) -> str:
    return str(context.run_config.get("resume", ""))


def _results(context: Context) -> Path:
    asked = str(context.run_config.get("results", ""))
    return Path(asked or os.environ.get("FEDFM_RESULTS", "") or "results")


def _memory(context: Context) -> Path:
    asked = str(context.run_config.get("memory", ""))
    return Path(asked or os.environ.get("FEDFM_MEMORY", "") or _results(context))
