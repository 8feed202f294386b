"""Which sites send what cannot be used, again and again: they are no longer asked. Heard from the run's own events."""

from server_app.report import events

_NONSENSE = ("ROUND-E01", "ROUND-E022", "ROUND-E030", "WIRE-")
"""Codes of answers that came and did not pass; a site that refuses, is late or away sends none."""


class Conduct:
    """Counts the rounds in a row in which a site's answer did not pass the screening.

    Args:
        most: Rounds after which a site is no longer asked.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rounds: dict[str, list[int]] = {}
        self._codes: dict[str, str] = {}

    def hear(self, event: events.Event) -> None:
        """Take what an event tells of sites."""
        match event:
            case events.SiteLeftOut(phase="training" | "evaluation") if event.code.startswith(_NONSENSE):
                bad = self._rounds.setdefault(event.site, [])
                if event.round not in bad:
                    bad.append(event.round)
                self._codes[event.site] = event.code
            case events.SiteEvaluated():
                self._forgive(event.site, event.round)
            case events.SiteTrained():
                self._forgive(event.site, event.round - 1)  # its evaluation of this round is still to come

    def due(self, number: int) -> list[events.SiteQuarantined]:
        """Return an event for each site that is not to be asked from round ``number`` on."""
        return [
            events.SiteQuarantined(site, number, tuple(bad), self._codes[site])
            for site, bad in sorted(self._rounds.items())
            if len(bad) >= self._most
        ]

    def _forgive(self, site: str, number: int) -> None:
        """A round that went well ends the row, unless something else in it did not."""
        if number not in self._rounds.get(site, []):
            self._rounds.pop(site, None)
