"""How long the sites have needed for a question, and how long the next answer to the same kind is worth waiting for."""

from collections.abc import Collection

from fedfm.config.study import Study
from fedfm.schedule import (
    audit_group_rounds,
    check_rounds,
    closing_round,
    explanation_rounds,
    group_rounds,
    is_evaluated_with_training,
)

LEAST_SECONDS = 60.0
"""No deadline is shorter, unless the study's own is: networks and machines have bad moments."""

Work = tuple[bool | str, ...]


class Pace:
    """Remembers the slowest answer of each site to each kind of question in this run.

    Questions are of one kind where they ask for the same work: training in a round in which sites check reasons is
    another one than without, and so is an evaluation that counts groups or closes the study.

    Args:
        study: Its ``round_minutes`` is the longest deadline, its ``patience`` how many times the slowest is waited for.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._slowest: dict[tuple[str, Work], float] = {}

    def note(self, site: str, phase: str, number: int, seconds: float) -> None:
        """Remember how long an answer took from the question on: computing, network and waiting together."""
        kind = site, self._work(phase, number)
        self._slowest[kind] = max(self._slowest.get(kind, 0.0), seconds)

    def deadline(self, sites: Collection[str], phase: str, number: int) -> float:
        """Return the seconds after which the answers of these sites are no longer waited for.

        As long as one of them was never heard on such a question, that is the study's ``round_minutes``.
        """
        most, work = 60 * self._study.round_minutes, self._work(phase, number)
        known = [self._slowest.get((site, work)) for site in sites]
        needed = [seconds for seconds in known if seconds is not None]
        if not needed or len(needed) < len(known):
            return most
        return min(most, max(LEAST_SECONDS, self._study.patience * max(needed)))

    def _work(self, phase: str, number: int) -> Work:
        study = self._study
        if phase == "training":
            beside = self._work("evaluation", number - 1) if is_evaluated_with_training(study, number - 1) else ()
            return phase, number == 1, number in check_rounds(study), *beside
        rounds = (group_rounds(study), audit_group_rounds(study), explanation_rounds(study), (closing_round(study),))
        return phase, *(number in each for each in rounds)
