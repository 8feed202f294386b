"""Which round's model is the result: decided on audit patients, who neither train nor test."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from fedfm.metrics.performance import Estimate
from server_app.evaluation import Evaluation
from server_app.report.judgements import FinalChosen
from server_app.signals import Signals


@dataclass(frozen=True)
class Judged:
    """What the audit patients say of one round's model.

    Attributes:
        round: Its number.
        sites: The sites that told the loss of their audit patients, in order.
        loss: Mean loss of all sites' audit patients, in nats; None where nobody knows.
        worst: Mean loss of the site that fares worst; None where fewer than two are known.
        gap: Largest difference between groups of audit patients, in [0, 1]; None where it was not counted.
    """

    round: int
    sites: tuple[str, ...]
    loss: Estimate | None
    worst: Estimate | None = None
    gap: float | None = None


def choose(judged: Sequence[Judged], *, last: int, marked: Collection[int] = ()) -> FinalChosen:
    """Choose by the loss over all sites, then the worst site's, then the gap; what cannot be told apart goes on.

    Rounds are compared where the same sites have told their losses: those of the latest round that most have judged.
    At each step the rounds stay whose figure is within the interval of the least. Where the gap is not known for all
    that are left, the least loss of the worst site decides, and of equals the later round.

    Args:
        judged: Rounds, in any order.
        last: Round whose model is taken where no loss is known.
        marked: Rounds whose aggregation has lost reasons; taken only where no other is left.
    """
    reasons, unmarked = [], [one for one in judged if one.round not in marked]
    if len(unmarked) < len(judged):
        reasons = [_of_marks([one.round for one in judged if one.round in marked], are_all=not unmarked)]
        judged = unmarked or judged
    known = [one for one in judged if one.loss is not None]
    if not known:
        latest = max((one.round for one in judged), default=last) if last in marked else last
        return FinalChosen(latest, (*reasons, "no loss of audit patients is known, so that the last round's is taken"))
    fullest = max(known, key=lambda one: (len(one.sites), one.round)).sites
    left = sorted((one for one in known if one.sites == fullest), key=lambda one: one.round)
    reasons += [f"{len(left)} of {len(judged)} evaluated rounds are judged by the same {len(fullest)} sites"]
    left = _within(left, lambda one: one.loss, "loss over all sites", reasons)
    if all(one.worst is not None for one in left):
        left = _within(left, lambda one: one.worst, "loss of the worst site", reasons)
    best = min(left, key=_rank(left))
    if len(left) > 1:
        reasons.append(f"of rounds {', '.join(str(one.round) for one in left)}, {_least(left)}: round {best.round}")
    return FinalChosen(best.round, tuple(reasons))


def _of_marks(rounds: Sequence[int], *, are_all: bool) -> str:
    named = f"round{'s' if len(rounds) > 1 else ''} {', '.join(map(str, sorted(rounds)))}"
    if are_all:
        return f"{named}: reasons are lost in each, so that the marks decide nothing"
    return f"{named} left out: aggregation has lost reasons there"


def _within(
    judged: list[Judged], figure: Callable[[Judged], Estimate | None], name: str, reasons: list[str]
) -> list[Judged]:
    """Return the rounds whose figure, which all have, is within the interval of the least; say so."""
    told = [(one, estimate) for one in judged if (estimate := figure(one)) is not None]
    best, least = min(told, key=lambda each: (each[1].value, -each[0].round))
    left = [one for one, estimate in told if estimate.value <= least.high]
    shown = f"{least.value:.3f} ({least.low:.3f} to {least.high:.3f})"
    reasons.append(f"{name}: least in round {best.round}, {shown} nats; {len(left)} of {len(told)} rounds within it")
    return left


def _rank(left: Sequence[Judged]) -> Callable[[Judged], tuple[float, int]]:
    if all(one.gap is not None for one in left):
        return lambda one: (one.gap or 0.0, -one.round)
    return lambda one: (one.worst.value if one.worst else 0.0, -one.round)


def _least(left: Sequence[Judged]) -> str:
    if all(one.gap is not None for one in left):
        return "the smallest gap between groups of audit patients"
    if all(one.worst is not None for one in left):
        return "the least loss of the worst site"
    return "the latest"


class Choice:
    """Remembers what the evaluations say of each round's model.

    Args:
        final: The study's ``fairness.final``; where it is not ``best`` nothing is remembered.
    """

    def __init__(self, final: str) -> None:
        self._is_open = final == "best"
        self._judged: dict[int, Judged] = {}

    @property
    def rounds(self) -> Collection[int]:
        """Rounds whose model may still be chosen."""
        return self._judged.keys()

    def kept(self) -> tuple[Judged, ...]:
        """Return all that is remembered."""
        return tuple(self._judged.values())

    def take(self, kept: Iterable[Judged]) -> None:
        """Remember what ``kept`` once returned, and nothing else."""
        self._judged = {judged.round: judged for judged in kept}

    def note(self, number: int, evaluation: Evaluation, signals: Signals) -> None:
        """Remember what a round's audit patients say; its figures on test patients are not looked at.

        Args:
            number: The round.
            evaluation: What it has found.
            signals: Hold the gap between groups of this round's audit patients, averaged with no other round's.
        """
        if not self._is_open:
            return
        compared = evaluation.spreads.get("loss")
        self._judged[number] = Judged(
            round=number,
            sites=tuple(sorted(site for site, loss in evaluation.losses.items() if loss is not None)),
            loss=evaluation.loss,
            worst=None if compared is None else compared.worst,
            gap=None if signals.gap_now is None else abs(signals.gap_now.value),
        )

    def choose(self, *, last: int, marked: Collection[int]) -> FinalChosen:
        """Return the best round, of those that are not marked where there are some, and why."""
        return choose(list(self._judged.values()), last=last, marked=marked)
