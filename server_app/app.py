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
from server_app.ledgers import Ledgers
from server_app.refusals import refusal_of
from server_app.report import console
from server_app.report.events import EventLog, RunEnded, RunStarted
from server_app.report.files import make_run_folder
from server_app.report.page import write_report
from server_app.strategy import FairFedAvg

_LOGGER = logging.getLogger("server_app")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one study; raises where it fails, so that Flower's run fails too."""
    logging.getLogger("flwr").addFilter(_is_news)
    with console.shown():
        try:
            study = compose_study(_overrides(context)).value
            folder = make_run_folder(_results(context), study=study.name, now=datetime.now(UTC))
        except FedFMError as problem:
            _LOGGER.critical("%s", problem)
            raise
        run(study, grid, folder, memory=_memory(context))


def run(study: Study, grid: Grid, folder: Path, *, memory: Path) -> None:
    """Run the study over the grid, and leave adapter, events and report in ``folder``; also when it fails.

    What sites tell of their ledgers is remembered in the folder ``memory``, for all runs.

    Raises:
        FedFMError: What ended the run early.
    """
    log, start = EventLog(folder / "events.jsonl", console.tell), time.monotonic()
    status, code, reason = "failed", "RUN-E001", "the run was stopped"
    try:
        _federate(study, grid, log, folder=folder, memory=memory)
        status, code, reason = "completed", "", ""
    except FedFMError as problem:
        code, reason = refusal_of(problem)
        raise
    except Exception as problem:
        code, reason = "RUN-E002", f"unexpected {type(problem).__name__} at the coordinator; its log says more"
        raise
    finally:
        log.emit(RunEnded(status, code, reason, time.monotonic() - start))
        judged = write_report(folder)
        _LOGGER.info("%s", "\n".join(filter(None, [judged.headline, judged.gain, judged.privacy, *judged.reasons])))
        _LOGGER.info("Report: %s", (folder / "report.html").resolve())
    if judged.status != "completed":
        raise EngineError("RUN-E003", judged.headline)


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether Flower's line says more than ours: of an error of ours the log has told already, without a trace."""
    return not (record.exc_info and isinstance(record.exc_info[1], FedFMError))


def _federate(study: Study, grid: Grid, log: EventLog, *, folder: Path, memory: Path) -> None:
    resolved = json.dumps(asdict(study), indent=2, ensure_ascii=False)
    (folder / "config.resolved.json").write_text(resolved + "\n", encoding="utf-8")
    model, parameters = model_host.build(study)
    log.emit(
        RunStarted(
            run=folder.name,
            study=asdict(study),
            layout=layout(parameters),
            parameters=sum(array.size for array in parameters.values()),
            release=_release(),
        )
    )
    frozen = model_host.first_frozen(model, study)
    strategy = FairFedAvg(study, run=folder.name, folder=folder, log=log, ledgers=Ledgers(memory), frozen=frozen)
    final = {name: array.numpy() for name, array in strategy.start(grid, write_arrays(parameters)).arrays.items()}
    model_host.keep_adapter(
        folder, model=model, parameters=final, frozen=strategy.frozen, statistics=strategy.statistics
    )


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


def _results(context: Context) -> Path:
    asked = str(context.run_config.get("results", ""))
    return Path(asked or os.environ.get("FEDFM_RESULTS", "") or "results")


def _memory(context: Context) -> Path:
    asked = str(context.run_config.get("memory", ""))
    return Path(asked or os.environ.get("FEDFM_MEMORY", "") or _results(context))
