"""``fedfm-site approve`` and ``withdraw``: what a study asks of this hospital, and whether its people agree."""

import datetime
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client_app.approvals import Approvals, Decision
from client_app.commands.console import AsJson, SiteFile, complain, friendly
from client_app.plain import plain
from fedfm.config.compose import load_site
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.console import print_json, say
from fedfm.errors import PolicyError

if TYPE_CHECKING:
    from client_app.study_card import Card

By = Annotated[str, typer.Option("--by", help="Who decides, as it is to stand in the record; asked for otherwise.")]


def approve(
    site_file: SiteFile,
    study: Annotated[
        str, typer.Argument(help="config.resolved.json of a study, or the first digits of its hash; none: list them.")
    ] = "",
    by: By = "",
    yes: Annotated[str, typer.Option("--yes", metavar="ID", help="The site's id, instead of being asked.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show what a study asks of this hospital, and approve it. Without STUDY: list what waits and what is approved.

    Shows the purpose, code and model by their hashes, what leaves in which rounds with how much noise, what it costs
    each patient, what is then left of the cap, and what differs from the last approved study. A study that the policy
    refuses cannot be approved. With --json nothing is asked: it is approved only with --yes and --by.

    Exit code 0: shown, or approved; 1: the policy refuses it; 2: not approved, or could not be shown.
    """
    with friendly():
        site = load_site(site_file)
        approvals = Approvals(site)
        if not study:
            _list(site, approvals, as_json=as_json)
            return
        from client_app.study_card import as_json as card_as_json  # noqa: PLC0415 - torch
        from client_app.study_card import card_of  # noqa: PLC0415 - torch

        found = _study_of(study, approvals)
        card = card_of(site, found, approvals)
        if not as_json:
            _show(card)
        agreed = not card.refusals and _agreed(site, yes=yes, ask=not as_json)
        decision = approvals.approve(found, by=by or _who(ask=not as_json), now=_now()) if agreed else None
        if as_json:
            print_json(card_as_json(card) | {"approved": decision is not None})
        elif decision is not None:
            told = f"{decision.name}, {decision.study[:12]}, wire version {decision.wire_version}"
            say(f"approved by {decision.by}: {told}")
    if card.refusals:
        raise typer.Exit(1)


def withdraw(
    site_file: SiteFile,
    study: Annotated[str, typer.Argument(help="The first digits of the hash of an approved study.")],
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Withdraw the approval of a study. From the next request on the trainer refuses it; what was sent stays sent."""
    with friendly():
        approvals = Approvals(load_site(site_file))
        decision = approvals.withdraw(study, by=by or _who(ask=not as_json), now=_now())
        head = approvals.log_head()
        if as_json:
            print_json(_told(decision) | {"audit": head._asdict()})
        else:
            say(f"withdrawn by {decision.by}: {decision.name}, {decision.study[:12]}")
            say(f"the audit log has it; note its head, by which that can be shown later:\n  {head.entries}:{head.seal}")


def _study_of(named: str, approvals: Approvals) -> Study:
    """Return the study of a file, or the one whose hash begins so."""
    if re.fullmatch(r"[0-9a-f]{1,64}", named) and not Path(named).exists():
        return approvals.find(named)
    from client_app.privacy_audit import read_study  # noqa: PLC0415 - torch

    return read_study(Path(named))


def _show(card: "Card") -> None:
    from client_app.study_card_page import page  # noqa: PLC0415 - torch

    console = Console(highlight=False, markup=False)
    for part in page(card):
        console.print(part)


def _agreed(site: Site, *, yes: str, ask: bool) -> bool:
    """Return whether the site's id was typed; False where nobody is asked and nobody said it."""
    if not yes and not ask:
        return False
    typed = yes or _typed(f"\nTo approve, type the id of this site ({site.id})")
    if typed.strip() == site.id:
        return True
    what = "not approved: what was typed is not this site's id"
    raise PolicyError("SITE-E227", what, where=site.id, fix="type the id to approve; anything else leaves all as it is")


def _who(*, ask: bool) -> str:
    return _typed("Who decides? Name, as it is to stand in the record") if ask else ""


def _typed(question: str) -> str:
    """Return the answer; empty where nobody is there to give one."""
    try:
        return str(typer.prompt(question, default="", show_default=False))
    except typer.Abort:
        return ""


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _list(site: Site, approvals: Approvals, *, as_json: bool) -> None:
    found, standing = approvals.waiting(), list(approvals.standing().values())
    wrong = approvals.disagreeing()
    waiting = [
        {"study": digest, "name": study.name, "purpose": study.purpose} for digest, study in found.studies.items()
    ]
    if as_json:
        decided = [_told(decision) for decision in standing]
        lost = {name: str(problem) for name, problem in found.unreadable.items()}
        told = {"site": site.id, "approval": site.policy.approval, "pending": waiting, "decided": decided}
        print_json(told | {"unreadable": lost, "disagreeing": list(wrong)})
        return
    if site.policy.approval == "none":
        say("policy.approval is none: this site answers every study that stays within its caps.")
    rows = [(one["study"][:12], plain(one["name"]), plain(one["purpose"]) or "not stated") for one in waiting]
    _print_rows(f"{site.id}: waits for approval", ("hash", "study", "purpose"), rows)
    last = [(d.study[:12], plain(d.name), d.action, d.time[:10], d.by, f"wire {d.wire_version}") for d in standing]
    _print_rows(f"{site.id}: decided", ("hash", "study", "decision", "on", "by", "under"), last)
    if wrong:
        say(f"not what the audit log has as decided last (SITE-E228): {', '.join(digest[:12] for digest in wrong)}")
        say("They are refused until somebody decides anew, or puts back the newest approvals.")
    complain(*found.unreadable.values())
    if found.is_full:
        say("No further study can wait: decide about some of these, or remove their files.")
    say("Look at one, and decide: fedfm-site approve SITE_FILE HASH; fedfm-site withdraw SITE_FILE HASH")


def _print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        say(f"{title}: nothing")
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 2, 0, 0))
    table.pad_edge = False
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name == "hash")
    for row in rows:
        table.add_row(*map(Text, row))  # as plain Text: the coordinator chose these names
    Console().print(table)


def _told(decision: Decision) -> dict[str, Any]:
    return {name: value for name, value in asdict(decision).items() if name != "resolved"}
