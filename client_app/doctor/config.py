"""The settings, who may change them, and whether a secret lies where it should not.

Mistakes in the site file itself are told by ``visit``, each with its line; then nothing else can be looked at.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from client_app.doctor.examined import Examined
from client_app.doctor.places import in_container, is_changed_by_others, is_on_volume, is_read_by_others
from fedfm.config.origins import Source, read_source
from fedfm.config.problems import Place, Problems
from fedfm.config.settings import settings_of
from fedfm.config.site import Policy, Site
from fedfm.findings import Finding

_DECIDES = ("site.yaml", "policy.yaml", "ca.crt")
_SECRETS = ("superexec.secret", ".env")  # the node key is looked at with the certificates
_SEALED = ("ledger-", "audit.jsonl", "approvals.jsonl")  # hold nothing of a patient

_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|CREDENTIAL", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|://[^/\s:@]+:[^/\s@]+@|\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|hf_\w{30,})\b"
)


def findings(examined: Examined) -> Iterator[Finding]:
    """Yield what is to be said of the settings and of the files beside them."""
    yield _settings(examined.file)
    yield _policy(examined)
    yield _changed_by_others(examined)
    yield from _kept(Path(examined.site.state))
    yield _table(Path(examined.site.data.path))
    yield _secrets_in_text(examined.file)
    yield _secrets_in_environment()


def _settings(file: Path) -> Finding:
    known = {entry.path for entry in settings_of(Site)}
    written = sorted(known & _written(file))
    what = f"readable, and every problem looked for; written: {', '.join(written)}; all others are defaults"
    return Finding("config", "settings", "pass", what)


def _policy(examined: Examined) -> Finding:
    """Name every cap and whether a person wrote it: what a data-protection officer signs."""
    written, policy = _written(examined.file), examined.site.policy
    caps = [
        f"{cap.name} = {getattr(policy, cap.name)} ({'written' if f'policy.{cap.name}' in written else 'default'})"
        for cap in fields(Policy)
    ]
    return Finding("config", "policy", "pass", "\n".join(caps))


def _written(file: Path) -> set[str]:
    """Return the settings that the site file, or the policy file beside it, says itself."""
    policy = file.with_name("policy.yaml")
    sources = [_source(file, "")] + ([_source(policy, "policy")] if policy.is_file() else [])
    return {f"{source.prefix}.{path}" if source.prefix else path for source in sources for path in source.places}


def _source(file: Path, prefix: str) -> Source:
    return read_source(file, file.name, Problems("SITE", lambda _: Place(file.name)), prefix=prefix)


def _changed_by_others(examined: Examined) -> Finding:
    state, folder = Path(examined.site.state), examined.file.parent
    deciding = [examined.file, *(folder / name for name in _DECIDES if name != examined.file.name)]
    sealed = [path for path in state.glob("*") if path.name.startswith(_SEALED)] if state.is_dir() else []
    open_ = [path.name for path in (*deciding, state, *sealed) if path.exists() and is_changed_by_others(path)]
    if open_:
        return Finding(
            "config",
            "who may change",
            "fail",
            f"any user of this machine may change or replace {', '.join(open_)}",
            "SITE-E040",
            "chmod o-w the file, and the folder that holds it",
        )
    return Finding("config", "who may change", "pass", "site file, policy and state are not open to every user")


def _kept(state: Path) -> Iterator[Finding]:
    """Look at what may be read: secrets beside nothing, and what is kept of patients."""
    if not state.is_dir():
        return
    private = [path for path in state.rglob("*") if path.is_file() and not path.name.startswith(_SEALED)]
    open_ = sorted({path.suffix for path in private if is_read_by_others(path)})
    if open_:
        what = f"any user of this machine may read files that are kept of patients in {state} ({', '.join(open_)})"
        yield Finding("config", "kept files", "fail", what, "SITE-E041", f"chmod -R o-rwx {state}")
    else:
        yield Finding("config", "kept files", "pass", "what is kept of patients is not open to every user")


def _table(path: Path) -> Finding:
    if not path.is_file():
        return Finding("config", "patients' file", "skip", "there is no such file: see the group data")
    if is_read_by_others(path) and not (in_container() and is_on_volume(path)):
        what, fix = "any user of this machine may read the patients' table", f"chmod o-r {path}"
        if in_container():
            what = "any user of the host may read the patients' table, unless a folder above hides it, unseen from here"
            fix = (
                "on the host, in its folder: setfacl -m u:10001:r FILE && chmod o-r FILE (10001 is the trainer's user)"
            )
        return Finding("config", "patients' file", "warn", what, "SITE-W010", fix)
    return Finding("config", "patients' file", "pass", "the patients' table is not open to every user")


def _secrets_in_text(file: Path) -> Finding:
    beside = [path for path in (file, file.with_name("policy.yaml"), file.with_name(".env")) if path.is_file()]
    told = [path.name for path in beside if _SECRET_TEXT.search(path.read_text(encoding="utf-8", errors="replace"))]
    loose = [path.name for name in _SECRETS if (path := file.with_name(name)).exists() and is_read_by_others(path)]
    if loose:
        what, fix = f"any user of this machine may read {', '.join(loose)}", "chmod o-rwx, and make it anew"
        return Finding("config", "secrets", "fail", what, "SITE-E041", fix)
    if told:
        what = f"something that looks like a password or a private key stands in {', '.join(told)}"
        fix = "put it into a file of its own that one user may read, and name that file"
        return Finding("config", "secrets", "warn", what, "SITE-W011", fix)
    return Finding("config", "secrets", "pass", "none in the settings, none open to every user")


def _secrets_in_environment() -> Finding:
    """Name variables that look like secrets: whoever may inspect the container reads them. A path to one is fine."""
    named = sorted(
        name for name, value in os.environ.items() if _SECRET_NAME.search(name) and value and not Path(value).is_file()
    )
    if named:
        what = f"variables that look like secrets: {', '.join(named)}"
        fix = "give the container a file (secrets: of compose) in the place of a variable"
        return Finding("config", "environment", "warn", what, "SITE-W011", fix)
    return Finding("config", "environment", "pass", "no variable looks like a secret")
