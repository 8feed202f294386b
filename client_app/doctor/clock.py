"""How far this machine's clock is from the coordinator's, found by what stamps are accepted."""

from collections.abc import Callable, Sequence

from fedfm.findings import Finding

AHEAD, BEHIND = 5.0, 305.0
"""Seconds that Flower lets a clock be ahead of, and behind, the SuperLink's."""

WARN_AHEAD, WARN_BEHIND = 2.0, 60.0
EXACT = 0.25
"""Seconds to which the difference is found; the way of a call adds to it."""

_STEP = AHEAD + BEHIND - 10.0  # stamps so far apart that one of them falls in what is accepted, whatever the clock
_HOUR = round(3600 / _STEP)
_DAY = round(26 * 3600 / _STEP)

Takes = Callable[[Sequence[float]], list[bool]]
"""Says of each shift, in seconds, whether a stamp of now and that much is accepted."""


def lead(takes: Takes) -> float | None:
    """Return by how many seconds this clock is ahead of the coordinator's; negative: behind; None: more than a day.

    A stamp that is shifted by s is accepted if and only if -305 < s + lead < 5, so the largest s that is accepted is
    5 - lead. It is looked for first near 0, then within an hour, then within a day, and then by halving.
    """
    near = _first(takes, [0])
    if near is None:
        near = _first(takes, [step for number in range(1, _HOUR + 1) for step in (number, -number)])
    if near is None:
        near = _first(takes, [step for number in range(_HOUR + 1, _DAY + 1) for step in (number, -number)])
    if near is None:
        return None
    taken, refused = near, near + AHEAD + BEHIND
    while refused - taken > EXACT:
        middle = (taken + refused) / 2
        taken, refused = (middle, refused) if takes([middle])[0] else (taken, middle)
    return AHEAD - (taken + refused) / 2


def of_lead(ahead: float | None) -> Finding:
    """Return what is to be said of a clock that is so many seconds ahead."""
    limits = f"Flower refuses more than {AHEAD:.0f} s ahead or {BEHIND:.0f} s behind"
    fix = "let both sides keep the time by NTP (timedatectl set-ntp true); ask the coordinator whether its own is right"
    if ahead is None:
        what = f"the clock is more than a day away from the coordinator's; {limits}"
        return Finding("coordinator", "clock", "fail", what, "SITE-E127", fix)
    told = f"the clock is {_told(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the coordinator's"
    if not -BEHIND < ahead < AHEAD:
        return Finding("coordinator", "clock", "fail", f"{told}; {limits}", "SITE-E127", fix)
    if not -WARN_BEHIND < ahead < WARN_AHEAD:
        return Finding("coordinator", "clock", "warn", f"{told}; {limits}", "SITE-W127", fix)
    return Finding(
        "coordinator", "clock", "pass", "within two seconds of the coordinator's" if abs(ahead) < 2 else told
    )


def _first(takes: Takes, steps: Sequence[int]) -> float | None:
    """Return the first of the shifts that is accepted."""
    shifts = [_STEP * step for step in steps]
    return next((shift for shift, taken in zip(shifts, takes(shifts), strict=True) if taken), None)


def _told(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
