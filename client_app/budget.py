"""What a cohort's patients have spent, from its ledger: in all, by study and run, by purpose, at several deltas."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from client_app.ledger import SPLITS, Charge, Split, ledger_of
from client_app.plain import plain
from client_app.site import own_delta
from fedfm.config.site import Site
from fedfm.privacy import epsilon

_DELTAS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
_SHOWN = 12  # runs that a person gets to see
_NO_NOISE = "no protection"
_NOTHING = "·"

By = dict[Split, float]


@dataclass(frozen=True)
class Part:
    """Some of the ledger's charges, composed.

    Attributes:
        name: Study and run, or the purpose.
        releases: Purpose to number of charges.
        spent: Split to epsilon of one of its patients, infinite after a release without noise; only splits in it.
    """

    name: tuple[str, ...]
    releases: dict[str, int]
    spent: By


@dataclass(frozen=True)
class Spending:
    """What one patient of each split has lost by all that is in the ledger.

    Attributes:
        site: The site's id.
        cap: Most that the policy lets one patient spend.
        delta: Chance of failure that the epsilons are stated at.
        spent: Split to epsilon, infinite after a release without noise.
        at: The same at other deltas, largest first, ``delta`` among them.
        runs: By study and run, oldest first.
        purposes: By purpose.
    """

    site: str
    cap: float
    delta: float
    spent: By
    at: dict[float, By]
    runs: tuple[Part, ...]
    purposes: tuple[Part, ...]

    @property
    def unprotected(self) -> list[Split]:
        """Splits of which something was released without noise."""
        return [split for split, value in self.spent.items() if math.isinf(value)]


def spending(site: Site, *, delta: float | None) -> Spending:
    """Return what is spent, at ``delta`` or the site's own.

    Raises:
        DataError: The ledger was edited, cut or damaged.
    """
    charges = ledger_of(site).charges()
    stated = own_delta(site) if delta is None else delta
    deltas = sorted({*_DELTAS, own_delta(site), stated}, reverse=True)
    at = {each: dict.fromkeys(SPLITS, 0.0) | _composed(charges, each) for each in deltas}
    return Spending(
        site=site.id,
        cap=site.policy.max_epsilon,
        delta=stated,
        spent=at[stated],
        at=at,
        runs=tuple(_parts(charges, stated, lambda charge: (charge.study, charge.run))),
        purposes=tuple(_parts(charges, stated, lambda charge: (charge.purpose,))),
    )


def as_json(told: Spending) -> dict[str, Any]:
    """Return all of it for machines; None stands for an epsilon that is infinite."""
    return {
        "site": told.site,
        "delta": told.delta,
        "max_epsilon": told.cap,
        "spent": _finite(told.spent),
        "unprotected": told.unprotected,
        "deltas": {f"{delta:.6g}": _finite(spent) for delta, spent in told.at.items()},
        "runs": [
            {"study": part.name[0], "run": part.name[1], "releases": part.releases, "spent": _finite(part.spent)}
            for part in told.runs
        ],
        "purposes": [
            {"purpose": part.name[0], "releases": sum(part.releases.values()), "spent": _finite(part.spent)}
            for part in told.purposes
        ],
    }


def tables(told: Spending) -> Iterator[Table]:
    """Yield what a person reads: the sums with their bars, then, where anything is spent, where it went."""
    table = _table(f"{told.site} at delta {told.delta:.3g}", "patients of", "epsilon spent", "cap", "", "left")
    for split, value in told.spent.items():
        left = "nothing" if value >= told.cap else f"{told.cap - value:.3f}"
        table.add_row(split, _text(value), f"{told.cap:g}", bar(value / told.cap), left)
    yield table
    if not told.runs:
        return
    yield _by_run(told)
    table = _table("Epsilon by purpose", "purpose", "releases", *SPLITS)
    for part in told.purposes:
        table.add_row(Text(plain(part.name[0])), str(sum(part.releases.values())), *_cells(part.spent))
    yield table
    table = _table("Epsilon at other deltas", "delta", *SPLITS)
    for delta, spent in told.at.items():
        table.add_row(f"{delta:.3g}", *_cells(spent))
    yield table


def bar(share: float, width: int = 20) -> str:
    """Return ``share`` as a bar of ``width`` letters; full from 1 on, and never empty for what is above 0."""
    filled = width if share >= 1 else min(width - 1, max(math.ceil(share > 0), round(share * width)))
    return "█" * filled + "░" * (width - filled)


def _by_run(told: Spending) -> Table:
    hidden = len(told.runs) - _SHOWN
    title = "Epsilon by run" + (f", the last {_SHOWN} of {len(told.runs)}; --json has all" if hidden > 0 else "")
    table = _table(title, "run", *SPLITS, "made of")
    for part in told.runs[-_SHOWN:]:
        study, run = part.name
        whose = run if run.endswith(study) else f"{run} ({study})"
        releases = ", ".join(f"{count} {purpose}" for purpose, count in part.releases.items())
        # as plain Text: the coordinator chose these names, and may not style this screen
        table.add_row(Text(plain(whose)), *_cells(part.spent), Text(releases))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.pad_edge = False
    for name in columns:
        is_number = name in {*SPLITS, "epsilon spent", "cap", "left", "releases"}
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    return table


def _parts(charges: list[Charge], delta: float, name: Callable[[Charge], tuple[str, ...]]) -> Iterator[Part]:
    grouped: dict[tuple[str, ...], list[Charge]] = {}
    for charge in charges:
        grouped.setdefault(name(charge), []).append(charge)
    for key, those in grouped.items():
        yield Part(key, dict(Counter(charge.purpose for charge in those)), _composed(those, delta))


def _composed(charges: list[Charge], delta: float) -> By:
    """Return epsilon of each split that the charges are about."""
    releases = {split: [charge.release for charge in charges if charge.split == split] for split in SPLITS}
    return {split: epsilon(those, delta) for split, those in releases.items() if those}


def _cells(spent: By) -> list[str]:
    return [_text(spent[split]) if split in spent else _NOTHING for split in SPLITS]


def _text(value: float) -> str:
    return _NO_NOISE if math.isinf(value) else f"{value:.3f}"


def _finite(spent: By) -> dict[Split, float | None]:
    return {split: None if math.isinf(value) else value for split, value in spent.items()}
