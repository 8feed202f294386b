"""What a run has seen of its sites so far, for the selection of the next round: heard from its own events."""

import math
from collections.abc import Iterable, Mapping

from fedfm.errors import EngineError
from fedfm.wire import PrivacySpent
from server_app.report import events
from server_app.roster import Member
from server_app.selection import Candidate
from server_app.weighting.heard import Signal

_WHEN = {"start": "at the start", "statistics": "for the statistics"}


class Attendance:
    """Who was asked, who answered, and what each site says that it has spent.

    Args:
        least: Fewest sites that a run goes on with.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._spent: dict[str, float] = {}
        self._asked: dict[str, int] = {}  # round in which a site was last asked to train, or joined
        self._failed: dict[str, int] = {}  # round of the last failure
        self._failures: dict[str, int] = {}
        self._codes: dict[tuple[str, int], dict[str, str]] = {}  # phase and round: who was left out, with the code

    def hear(self, event: events.Event) -> None:
        """Take what an event tells of sites."""
        if isinstance(event, events.SiteLeftOut):
            self._codes.setdefault((event.phase, event.round), {})[event.site] = event.code
        match event:
            case events.SiteJoined():
                self._asked.setdefault(event.site, max(0, event.round - 1))
                self._spent[event.site] = _share(event.privacy)
            case events.RoundStarted():
                self._asked.update(dict.fromkeys(event.sites, event.round))
            case events.SiteTrained():
                self._spent[event.site] = _share(event.privacy)
                self._failures.pop(event.site, None)
            case events.SiteEvaluated():
                self._spent[event.site] = _share(event.privacy)
            case events.SiteLeftOut(phase="training" | "evaluation"):
                self._fail(event.site, event.round)

    def candidates(self, number: int, members: Iterable[Member], losses: Mapping[str, Signal]) -> dict[str, Candidate]:
        """Return what is known of each site before round ``number``."""
        return {
            member.site: Candidate(
                declared_patients=member.declared_patients,
                loss=losses.get(member.site),
                spent=self._spent.get(member.site, 0.0),
                waited=number - self._asked.get(member.site, number - 1),
                failures=self._failures.get(member.site, 0),
                since_failure=number - self._failed.get(member.site, number),
            )
            for member in members
        }

    def check_quorum(self, count: int, phase: str, number: int = 0) -> None:
        """Return if enough sites gave an answer that can be used.

        Args:
            count: So many did.
            phase: ``start``, ``statistics`` or ``training``.
            number: Of the round; 0 before the first.

        Raises:
            EngineError: Too few (ROUND-E020); names who was left out, each with the code.
        """
        if count >= self._least:
            return
        others = ", ".join(f"{site}: {code}" for site, code in sorted(self._codes.get((phase, number), {}).items()))
        raise EngineError(
            "ROUND-E020",
            f"too few sites {_WHEN.get(phase, f'in round {number}')}",
            found="; ".join(filter(None, [f"{count} whose answer can be used", others])),
            allowed=f"{self._least} or more (min_sites)",
            fix="the report says why for each site that was left out, and docs/errors.md what to do about its code; "
            "then the run can be resumed",
        )

    def _fail(self, site: str, number: int) -> None:
        """Count a round once, whether training or evaluation or both brought nothing."""
        if self._failed.get(site) != number or site not in self._failures:
            self._failures[site] = self._failures.get(site, 0) + 1
        self._failed[site] = number


def _share(privacy: PrivacySpent) -> float:
    is_planned = math.isfinite(privacy.run) and math.isfinite(privacy.planned) and privacy.planned > 0
    return privacy.run / privacy.planned if is_planned else 0.0
