"""``fedfm-site explain --checks``: what the site's kept checks of its own models say, worst first."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from client_app.reasons.before_sending import verdict_of
from client_app.reasons.check_history import Kept
from client_app.reasons.gates import Gate
from client_app.reasons.readable import readable_line
from fedfm.metrics.performance import Estimate

_WORDS = {False: ("FAILED", "bold red"), None: ("not judged", "dim"), True: ("passed", "green")}
_UNSETTLED = 1e-9


def check_tables(kept: Sequence[Kept], *, last: int) -> Iterator[Table]:
    """Yield a table for each of the last checks, the newest first.

    Args:
        kept: Oldest first.
        last: How many.
    """
    for one in reversed(kept[-last:]):
        spared = "" if one.counts else ", one of the first rounds: no gate counts"
        title = (
            f"{one.run} ({one.study}), round {one.round}: {verdict_of(one.gates)}, {len(one.rows)} documents{spared}"
        )
        table = Table(
            title=Text(readable_line(title)),
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for name in ("gate", "", "figure, 95 % interval", "limit", "in words"):
            table.add_column(name, overflow="fold", no_wrap=name == "")
        for gate in worst_first(one.gates):
            word, style = _WORDS[gate.passed]
            limit = "" if gate.estimate is None else f"{gate.limit:+.3f}"
            named, why = (Text(readable_line(told)) for told in (gate.name, gate.reason))  # markup is shown, not obeyed
            table.add_row(named, Text(word, style=style), Text(_interval(gate)), limit, why)
        yield table


def worst_first(gates: Sequence[Gate]) -> list[Gate]:
    """Return gates that failed, the farthest from its limit first, then those not judged, then those passed."""
    return sorted(gates, key=lambda gate: ((False, None, True).index(gate.passed), -_beyond(gate)))


def _beyond(gate: Gate) -> float:
    """Return how far a figure is from its limit, in half widths of its interval."""
    if gate.estimate is None:
        return 0.0
    found = gate.estimate
    return abs(found.value - gate.limit) / max((found.high - found.low) / 2, _UNSETTLED) if not gate.passed else 0.0


def _interval(gate: Gate) -> str:
    found: Estimate | None = gate.estimate
    if found is None:
        return ""
    is_exact = found.low == found.value == found.high
    return f"{found.value:+.3f}" if is_exact else f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
