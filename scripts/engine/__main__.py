"""``scripts/demo``: hospitals, a federation, a run, a verdict; and nothing left behind."""

import argparse
import fcntl
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from fedfm.offline import go_offline

go_offline()  # what is imported below reads the environment then

from fedfm.errors import EngineError, FedFMError
from scripts.engine import processes, sources
from scripts.engine.federation import PROJECT, Federation, record_of, stage_app
from scripts.engine.launching import running

STATE = Path(os.environ.get("FEDFM_DEMO", "") or PROJECT / ".demo").resolve()
_TRIES = 40  # two seconds
DESCRIPTION = """\
Run a whole federation on this machine: hospitals fine-tune one model together through the real Flower
engine, over gRPC and TLS with node keys. It ends with a verdict and a report, and stops all it started."""
EXAMPLES = """\
examples:
  scripts/demo                                    four synthetic hospitals, five rounds, MiniLM
  scripts/demo --data heart_disease               four real hospitals, 13 columns
  scripts/demo --rounds 2 -- privacy.epsilon=1    anything of conf/ can be changed after --
  scripts/demo --keep                             leaves the federation up for more runs:
      export FLWR_HOME=$PWD/.demo/flower
      .venv/bin/flwr run . demo --stream --run-config 'overrides="experiment=demo adapter=head rounds=3"'
  scripts/demo --stop                             ends it

`fedfm-study config` shows every setting. Logs of every process are in .demo/logs."""


def main() -> int:
    """Do what the command line says; return 0 only if the run completed."""
    arguments = _parser().parse_args()
    for wanted in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(wanted, _interrupted)
    STATE.mkdir(parents=True, exist_ok=True)
    try:
        if arguments.stop:
            return _stop()
        with _alone():
            return _demo(arguments)
    except KeyboardInterrupt:
        print("Stopped; nothing is left running.", file=sys.stderr)
        return 130
    except FedFMError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        default=sources.SYNTHETIC,
        choices=(sources.SYNTHETIC, *sources.PUBLIC),
        help="whose patients: synthetic ones (demo, the default) or a public data set",
    )
    parser.add_argument("--sites", type=int, metavar="N", help="number of hospitals (default: 4, or all of the data)")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of training (default: what the study says)")
    parser.add_argument("--from", dest="source", type=Path, metavar="DIR", help="folder that holds the public data")
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="port of the Control API (default: a free one)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the federation up, for more runs with flwr run")
    parser.add_argument("--stop", action="store_true", help="end a federation that --keep left up, or a running demo")
    parser.add_argument("overrides", nargs="*", metavar="-- OVERRIDE", help="changes to the study, as for flwr run")
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    from scripts.engine.following import run_and_follow  # noqa: PLC0415 - the SuperLink need not wait for this

    began = time.monotonic()
    results = Path(os.environ.get("FEDFM_RESULTS", "") or PROJECT / "results").resolve()
    files = sources.site_files(arguments.data, STATE / "data", sites=arguments.sites, source=arguments.source)
    print(f"Starting a SuperLink and {len(files)} hospitals on this machine (logs: {STATE / 'logs'}) ...", flush=True)
    with running(files, STATE, results=results, port=arguments.port, keep=arguments.keep) as federation:
        print(f"[{time.monotonic() - began:.0f} s] gRPC fleet at {federation.fleet}, TLS, node keys; the run begins.")
        overrides = _overrides(arguments, federation, notes=sources.public_notes(arguments.data, files))
        finished = run_and_follow(federation, stage_app(STATE), results=results, overrides=overrides)
        judged = finished.verdict
        print("\n" + "\n".join([judged.headline, judged.privacy, *judged.reasons]))
        if finished.first_training:
            print(f"{finished.first_training - began:.0f} s until the first training.")
        print(f"{time.monotonic() - began:.0f} s in all. Report: {finished.folder / 'report.html'}")
        if arguments.keep:
            print(_how_to_go_on(federation, arguments.data))
    return 0 if finished.completed else 1


def _overrides(arguments: argparse.Namespace, federation: Federation, *, notes: Path | None) -> str:
    """Return the study's changes; what the command line does not say is the data's own: experiment, hospitals, notes.

    The notes are for a study that asks about reasons.
    """
    names = ",".join(site.id for site in federation.sites)
    usual = {"experiment": arguments.data, "sites": f"[{names}]", "rounds": arguments.rounds}
    if notes is not None and "explainability=none" not in arguments.overrides:
        usual["explainability.reference"] = f'"{notes}"'  # a path may hold what means something to Hydra
    said = {override.partition("=")[0] for override in arguments.overrides}
    added = [f"{key}={value}" for key, value in usual.items() if value is not None and key not in said]
    return shlex.join([*added, *arguments.overrides])


def _how_to_go_on(federation: Federation, data: str) -> str:
    return f"""
The federation stays up. Run as often as you like, from this folder:
  export FLWR_HOME={shlex.quote(str(federation.flower_home))}
  .venv/bin/flwr run . demo --stream --run-config 'overrides="experiment={data} rounds=3"'
End it with: scripts/demo --stop"""


def _stop() -> int:
    with (STATE / "lock").open("a+") as lock:
        if not _locked(lock.fileno()):
            os.kill(_holder(lock), signal.SIGTERM)  # whoever holds the lock lives, and cleans up after itself
            fcntl.flock(lock, fcntl.LOCK_EX)
        count = processes.stop(record_of(STATE))
    print(f"Stopped {count} processes." if count else "Nothing was left running.")
    return 0


def _holder(lock: TextIO) -> int:
    """Return the process that holds the lock; it writes its id an instant after it took it."""
    for _ in range(_TRIES):
        lock.seek(0)
        text = lock.read()
        if text.isdecimal():
            return int(text)
        time.sleep(0.05)
    raise EngineError(
        "ENGINE-E106",
        "a demo runs in this folder, and its lock does not say which process it is",
        where=lock.name,
        fix="end that demo in its own terminal with Ctrl-C",
    )


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the state directory against a second demo; the lock vanishes with its process."""
    with (STATE / "lock").open("a+") as lock:
        if not _locked(lock.fileno()):
            raise EngineError(
                "ENGINE-E106",
                "another demo runs in this folder",
                where=str(STATE),
                fix="wait for it, or end it with scripts/demo --stop",
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _interrupted(*_: int | FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
