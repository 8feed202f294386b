"""One visit of the doctor: every group looked at, whatever befalls one of them, and nothing of a patient told."""

import importlib.metadata
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from client_app.doctor.examined import Examined, Group
from client_app.doctor.groups import GROUPS
from client_app.trainer.incidents import as_refusal
from fedfm.config.compose import load_site
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import FedFMError
from fedfm.findings import Examination, Finding, of_error
from fedfm.private_files import replace_private

LOG = "doctor.log"
"""What the checks say to the hospital alone, in its state folder: counts, places, and the text of incidents."""

_OURS = ("client_app", "fedfm", "server_app")


def examine(file: Path, *, study_file: Path | None, groups: Sequence[str] = ()) -> Examination:
    """Look at a hospital.

    Args:
        file: Its site.yaml.
        study_file: A resolved study to examine it for, ``config.resolved.json``; None for no one in particular.
        groups: Names in ``GROUPS``; all where empty.

    Guarantees:
        Every group asked for has a finding, also where a check fails in a way that nobody foresaw. What the checks
        log goes to ``state/doctor.log`` alone, which only its owner may read; never to the console.
    """
    started, moment = time.monotonic(), datetime.now(UTC)
    with _kept_log() as lines:
        site, findings = _loaded(file)
        if site is not None:
            study, about = _study(study_file)
            findings += about
            findings += _looked_at(Examined(file, site, study), groups or tuple(GROUPS))
    if site is not None and lines:
        findings += _keep(Path(site.state), lines)
    facts = {
        "site file": str(file),
        "study": str(study_file) if study_file else "none in particular",
        "groups": ", ".join(groups) or "all",
        "looked at": f"{moment:%Y-%m-%d %H:%M} UTC",
        "took": f"{time.monotonic() - started:.0f} s",
        "fedfm": _release(),
    }
    return Examination(site.id if site else file.name, facts, tuple(findings))


def _loaded(file: Path) -> tuple[Site | None, list[Finding]]:
    """Return the hospital, or why nothing else can be looked at."""
    try:
        return load_site(file), []
    except FedFMError as error:
        return None, list(of_error("config", "settings", error))


def _study(file: Path | None) -> tuple[Study | None, list[Finding]]:
    """Return the study, and where it cannot be read a failure; what asks for it goes on without."""
    if file is None:
        return None, []
    try:
        from client_app.privacy_audit import read_study  # noqa: PLC0415 - torch

        return read_study(file), []
    except FedFMError as error:
        return None, list(of_error("study", "file", error))
    except ModuleNotFoundError as error:
        return None, [_without(error, "study")]


def _looked_at(examined: Examined, groups: Sequence[str]) -> Iterator[Finding]:
    for name in groups:
        yield from guarded(name, GROUPS[name], examined)


def guarded(name: str, group: Group, examined: Examined) -> Iterator[Finding]:
    """Yield the findings of a group, and one in the place of what it raises."""
    try:
        yield from group(examined)
    except ModuleNotFoundError as error:
        yield _without(error, name)
    except Exception as error:
        yield from of_error(name, "check", as_refusal(error))


def _without(error: ModuleNotFoundError, group: str) -> Finding:
    """Return a skip for a package that is not in this container, and a failure for a module of ours."""
    package = (error.name or "").partition(".")[0]
    if not package or package in _OURS:
        return next(of_error(group, "check", as_refusal(error)))
    return Finding(group, "packages", "skip", f"not installed here: {package}")


@contextmanager
def _kept_log() -> Iterator[list[str]]:
    """Gather what is logged, in the place of every other handler: a log may tell what a console may not."""
    root, lines = logging.getLogger(), list[str]()
    handler = _Gathered(lines)
    others, root.handlers = root.handlers, [handler]
    try:
        yield lines
    finally:
        root.handlers = others


class _Gathered(logging.Handler):
    """Keeps records as lines."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


def _keep(state: Path, lines: list[str]) -> Iterator[Finding]:
    """Write the log where there is a state folder, and say where it is."""
    try:
        replace_private(state / LOG, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        why = error.strerror or type(error).__name__
        yield Finding("log", "details", "skip", f"what is for this hospital alone could not be kept: {why}")
        return
    yield Finding("log", "details", "pass", f"counts and places, for this hospital alone: {state / LOG}")


def _release() -> str:
    try:
        return importlib.metadata.version("fedfm")
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
