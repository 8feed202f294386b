"""Ledger and audit log, and whether a study fits the policy and what is left of the budget."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from client_app.approvals import Approvals
from client_app.audit_log import AuditLog
from client_app.budget import spending
from client_app.doctor.examined import Examined
from client_app.ledger import Charge, ledger_of
from client_app.site import accept, agreed_plan
from client_app.study_card import spent_of
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import FedFMError
from fedfm.findings import Finding, of_error

_NEARLY = 0.9  # of the cap


def findings(examined: Examined) -> Iterator[Finding]:
    """Yield what is to be said of the sealed files, the budget, and the study where one was named."""
    site = examined.site
    try:
        ledger = ledger_of(site)
        charges = ledger.charges()
    except FedFMError as error:
        yield from of_error("privacy", "ledger", error)
        return
    yield _sealed("ledger", ledger.path)
    yield from _audit_log(site)
    yield from _approvals(site)
    yield from _budget(site)
    if examined.study is not None:
        yield from _study(site, examined.study, charges)
    else:
        yield Finding("privacy", "study", "skip", "no study was named: --study config.resolved.json")


def _sealed(name: str, path: Path) -> Finding:
    if path.exists() and not os.access(path, os.W_OK):
        fix = f"let user {os.geteuid()}, who runs the trainer, write {path}"
        return Finding("privacy", name, "fail", f"{path.name} may not be written", "SITE-E150", fix)
    return Finding("privacy", name, "pass", "whole, every seal follows" if path.exists() else "not begun yet")


def _audit_log(site: Site) -> Iterator[Finding]:
    try:
        log = AuditLog(Path(site.state))
        log.entries()
    except FedFMError as error:
        yield from of_error("privacy", "audit log", error)
        return
    yield _sealed("audit log", Path(site.state) / "audit.jsonl")


def _approvals(site: Site) -> Iterator[Finding]:
    try:
        wrong = Approvals(site).disagreeing()
    except FedFMError as error:
        yield from of_error("privacy", "approvals", error)
        return
    if wrong:
        what = f"not what the audit log has as decided last: {', '.join(digest[:12] for digest in wrong)}"
        fix = "put back the newest approvals.jsonl, or decide anew: fedfm-site approve"
        yield Finding("privacy", "approvals", "fail", what, "SITE-E228", fix)
    else:
        yield Finding("privacy", "approvals", "pass", "as the audit log has them")


def _budget(site: Site) -> Iterator[Finding]:
    told = spending(site, delta=None)
    spent = ", ".join(f"{split} {'no protection' if math.isinf(e) else f'{e:.2f}'}" for split, e in told.spent.items())
    what = f"epsilon spent: {spent}; policy.max_epsilon {told.cap:g} at delta {told.delta:.3g}"
    most = max(told.spent.values())
    if most >= told.cap:
        fix = "no study can go on with these patients, unless the data-protection officer raises the cap"
        yield Finding("privacy", "budget", "fail", what, "SITE-E104", fix)
    elif most > _NEARLY * told.cap:
        fix = "plan with what is left: fedfm-site budget"
        yield Finding("privacy", "budget", "warn", what, "SITE-W060", fix)
    else:
        yield Finding("privacy", "budget", "pass", what)


def _study(site: Site, study: Study, charges: list[Charge]) -> Iterator[Finding]:
    """Ask what a round would ask, in its order, and charge nothing."""
    try:
        accept(site, study)
        made = agreed_plan(site, study)
    except FedFMError as error:
        yield from of_error("privacy", "study", error)
        return
    yield Finding("privacy", "study", "pass", f"{study.name}: within every cap of the policy")
    yield from _approval(site, study)
    if study.privacy.mechanism == "none":
        yield Finding("privacy", "cost", "pass", "the study has no privacy mechanism, which the policy allows")
        return
    for one in spent_of(site, study, made, charges):
        if not one.run:
            continue
        what = f"{one.split} patients: epsilon {one.run:.2f} for the study, {_told(one.after)} with all before"
        if one.after > one.cap:
            what += f"; policy.max_epsilon {one.cap:g}"
            fix = "plan fewer rounds or a lower epsilon, or let the data-protection officer raise policy.max_epsilon"
            yield Finding("privacy", f"cost, {one.split}", "fail", what, "SITE-E104", fix)
        else:
            yield Finding("privacy", f"cost, {one.split}", "pass", f"{what}, {one.left:.2f} left")


def _approval(site: Site, study: Study) -> Iterator[Finding]:
    if site.policy.approval == "none":
        fix = "policy.approval: required, unless these patients are invented or public"
        yield Finding("privacy", "approval", "warn", "the policy lets any study within its caps run", "SITE-W061", fix)
        return
    try:
        refusal = Approvals(site).refusal(study)
    except FedFMError as error:
        yield from of_error("privacy", "approval", error)
        return
    if refusal is None:
        yield Finding("privacy", "approval", "pass", "approved")
    else:
        yield Finding("privacy", "approval", "fail", refusal.what, refusal.code, refusal.fix)


def _told(value: float) -> str:
    return "no bound" if math.isinf(value) else f"{value:.2f}"
