"""What is installed and how it is run: releases, weights, online switches, rights, and what an image says of itself."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from client_app.doctor.examined import Examined
from client_app.doctor.places import in_container
from client_app.doctor.studies import study_for
from fedfm.errors import FedFMError
from fedfm.findings import Finding, of_error
from fedfm.wire import WIRE_VERSION

_WATCHED = ("flwr", "torch", "opacus", "transformers", "peft", "safetensors", "cryptography", "grpcio")
_OFFLINE: Mapping[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}
"""Environment variable to the value with which nothing is sent home or fetched."""

_BILL = Path("/usr/share/doc/fedfm/sbom.cdx.json")


def findings(examined: Examined) -> Iterator[Finding]:
    """Yield what is to be said of the software and of how it runs."""
    yield _python(platform.python_version_tuple())
    yield from _releases()
    yield Finding("software", "messages", "pass", f"speaks wire version {WIRE_VERSION}")
    yield _offline()
    yield _root(os.geteuid())
    yield from _image()
    yield from _weights(examined)


def _python(version: tuple[str, ...]) -> Finding:
    told = ".".join(version)
    if tuple(map(int, version[:2])) < (3, 11):
        return Finding("software", "Python", "fail", f"Python {told}", "SITE-E044", "install Python 3.11 or newer")
    return Finding("software", "Python", "pass", f"Python {told}")


def _releases() -> Iterator[Finding]:
    """Compare what is installed with what this release of fedfm asks for; a container has only some of it."""
    try:
        asked = importlib.metadata.requires("fedfm") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("software", "releases", "skip", "fedfm is not installed as a package, so nothing is pinned")
        return
    pins = {re.split(r"[^\w.-]", line, maxsplit=1)[0]: line for line in asked if "extra ==" not in line}
    found = {name: _installed(name) for name in _WATCHED if name in pins}
    wrong = [f"{name} {told}" for name, told in found.items() if told and not is_within(told, pins[name])]
    right = [f"{name} {told}" for name, told in found.items() if told and f"{name} {told}" not in wrong]
    if wrong:
        what = f"not the releases that fedfm was tested with: {', '.join(wrong)}"
        fix = "install again from the lock file: " + ", ".join(pins[name.split()[0]] for name in wrong)
        yield Finding("software", "releases", "fail", what, "SITE-E044", fix)
    else:
        yield Finding("software", "releases", "pass", f"as pinned: {', '.join(right)}")


def _installed(name: str) -> str:
    """Return the release of a package; empty where it is not in this container."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def is_within(version: str, requirement: str) -> bool:
    """Whether a release fits ``name<2,>=1.5``; only ``>=``, ``<`` and ``==`` are known, which are all that we use."""
    found = _numbers(version)
    compared = {">=": found.__ge__, "<": found.__lt__, "==": found.__eq__}
    return all(compared[sign](_numbers(bound)) for sign, bound in re.findall(r"(>=|==|<)\s*([\w.]+)", requirement))


def _numbers(version: str) -> tuple[int, ...]:
    """Return ``2.13.0+cpu`` as (2, 13), so that it equals 2.13."""
    numbers = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _offline() -> Finding:
    wrong = [name for name, value in _OFFLINE.items() if os.environ.get(name) != value]
    wrong += ["FEDFM_HUB_DOWNLOAD"] if os.environ.get("FEDFM_HUB_DOWNLOAD") == "1" else []
    if wrong:
        what = f"may call home or fetch models: {', '.join(wrong)} not switched off"
        fix = " ".join(f"{name}={_OFFLINE.get(name, '0')}" for name in wrong)
        return Finding("software", "offline", "warn", what, "SITE-W050", f"set {fix}")
    return Finding("software", "offline", "pass", "no telemetry, no update check, no hub")


def _root(user: int) -> Finding:
    if user == 0:
        what, fix = "runs as root", "run as the user of the image, or as a user of its own"
        return Finding("software", "user", "warn", what, "SITE-W051", fix)
    return Finding("software", "user", "pass", f"runs as user {user}, not as root")


def _image() -> Iterator[Finding]:
    """Look at what only an image has; elsewhere one skip says so."""
    if not in_container():
        yield Finding("software", "image", "skip", "does not run in a container")
        return
    if _is_writable(Path("/")):
        what, fix = "the container's root file system may be written", "read_only: true in compose"
        yield Finding("software", "root file system", "warn", what, "SITE-W052", fix)
    else:
        yield Finding("software", "root file system", "pass", "read-only")
    if not _BILL.is_file():
        what, fix = "the image has no list of what is in it (SBOM)", "use an image that was built by docker/Dockerfile"
        yield Finding("software", "SBOM", "warn", what, "SITE-W053", fix)
    else:
        yield Finding("software", "SBOM", "pass", f"{_BILL}")


def _is_writable(folder: Path) -> bool:
    return not os.statvfs(folder).f_flag & os.ST_RDONLY


def _weights(examined: Examined) -> Iterator[Finding]:
    """Hash the weights of the study, and those that the site names itself."""
    from fedfm.model.source import WEIGHTS, check_hash, weights_file, weights_folder  # noqa: PLC0415 - the hub's client

    wanted, site = study_for(examined).model, examined.site
    for digest, folder in site.weights.items():
        where = f"site.yaml weights.{digest[:12]}"
        try:
            check_hash(weights_file(Path(folder), where=where), pinned=digest, where=where)
        except FedFMError as error:
            yield from of_error("software", "weights", error)
    if wanted.source in ("none", "random"):
        yield Finding("software", "weights", "pass", "the model of the study has no weights to fetch")
        return
    try:
        folder_found = weights_folder(wanted, copies=site.weights)
    except FedFMError as error:
        yield from of_error("software", "weights", error)
        return
    what = f"{folder_found.name}/{WEIGHTS}: SHA-256 {wanted.sha256[:12]}…, as pinned"
    yield Finding("software", "weights", "pass", what)
