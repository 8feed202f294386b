"""A hospital's privacy statement, from its own ledger and its policy: exact history, every run and study."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from client_app.ledger import SPLITS, Charge, Split, ledger_of
from client_app.site import own_delta
from fedfm import privacy
from fedfm.config.site import Policy, Site
from fedfm.errors import EngineError
from fedfm.privacy import Release
from fedfm.privacy_statement import (
    NO_GUARANTEE,
    Bound,
    Facts,
    Mechanism,
    Statement,
    Table,
    epsilon_text,
    statement,
)
from fedfm.statement_texts import paragraphs

_DELTAS = (1e-4, 1e-5, 1e-6)
_WHOSE: dict[Split, str] = {"train": "training patients", "audit": "audit patients", "test": "test patients"}


def site_statement(site: Site) -> Statement:
    """Return the statement of all that this site's cohort has spent, in every run of every study.

    Guarantees:
        Every figure comes from the ledger and the site file; the patients' table is not opened.

    Raises:
        DataError: The ledger was edited, cut or damaged.
    """
    charges = ledger_of(site).charges()
    return statement(_facts(site, charges))


def site_figures(site: Site) -> dict[str, Any]:
    """Return the figures of the statement for machines; None stands for an epsilon that is infinite.

    Raises:
        DataError: The ledger was edited, cut or damaged.
    """
    charges, stated = ledger_of(site).charges(), own_delta(site)
    made = statement(_facts(site, charges))
    deltas = (stated, *_DELTAS)
    return {
        "site": site.id,
        "cohort": site.cohort or site.id,
        "units": sorted({charge.unit for charge in charges}) or list(site.policy.units),
        "delta": stated,
        "max_epsilon": site.policy.max_epsilon,
        "charges": len(charges),
        "spent": {
            split: {f"{delta:.6g}": _finite(_epsilon(_of(charges, split), delta)) for delta in deltas}
            for split in SPLITS
        },
        "runs": [
            {
                "study": study,
                "run": run,
                "spent": {split: _finite(_epsilon(_of(those, split), stated)) for split in SPLITS},
            }
            for (study, run), those in _by_run(charges).items()
        ],
        "warnings": list(made.warnings),
        "sections": {section.heading: list(section.paragraphs) for section in made.sections},
    }


def write_statement(path: Path, text: str) -> None:
    """Write the statement to a file.

    Raises:
        EngineError: The file cannot be written.
    """
    try:
        path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as problem:
        raise EngineError(
            "SITE-E154",
            "the statement cannot be written",
            where=str(path),
            found=problem.strerror or type(problem).__name__,
            fix="name a file in a folder that is there and that this user may write",
        ) from problem


def _facts(site: Site, charges: list[Charge]) -> Facts:
    stated, policy = own_delta(site), site.policy
    bounds = tuple(
        Bound(_WHOSE[split], stated, _epsilon(_of(charges, split), stated), _releases(_of(charges, split)))
        for split in SPLITS
    )
    return Facts(
        title=f"Privacy statement of {site.id}",
        source=f"Every figure is computed from this hospital's own ledger of {len(charges)} charges, which is written "
        "before anything is computed: a crash can only count too much.",
        units=tuple(sorted({charge.unit for charge in charges})) or tuple(policy.units),
        bounds=bounds,
        planned=(),
        mechanisms=tuple(_mechanisms(charges)),
        releases_of="All releases so far, from the ledger. The clipping norm stands in each study.",
        composition=paragraphs(
            f"""
            One ledger for the cohort {site.cohort or site.id}: every round, repeated request, restart, run and study
            adds up. Whatever a run does not finish stays charged.

            The policy caps the sum of all runs at epsilon {policy.max_epsilon:g} for each set of patients. One ledger
            counts for one unit and one division of the patients; a study with another is refused.
            """
        ),
        history=(_left(bounds, policy.max_epsilon), _runs(charges, stated)),
        exposure=_exposure(site),
        warnings=tuple(_loosened(policy)),
    )


def _mechanisms(charges: list[Charge]) -> list[Mechanism]:
    counted = Counter((charge.purpose, charge.release) for charge in charges)
    return [Mechanism(purpose, release, times) for (purpose, release), times in counted.items()]


def _left(bounds: tuple[Bound, ...], cap: float) -> Table:
    rows = tuple(
        (
            bound.whose,
            epsilon_text(bound.epsilon),
            f"{cap:g}",
            "nothing" if bound.epsilon >= cap else f"{cap - bound.epsilon:.3f}",
        )
        for bound in bounds
    )
    return Table(f"Spent and left at delta {bounds[0].delta:.2g}.", ("Whose data", "spent", "cap", "left"), rows)


def _runs(charges: list[Charge], delta: float) -> Table:
    rows = tuple(
        (
            study,
            run,
            *(epsilon_text(_epsilon(_of(those, split), delta)) for split in SPLITS),
            ", ".join(f"{times} {purpose}" for purpose, times in Counter(one.purpose for one in those).items()),
        )
        for (study, run), those in _by_run(charges).items()
    )
    head = ("Study", "Run", *(f"epsilon, {_WHOSE[split]}" for split in SPLITS), "Releases")
    caption = f"By run, in order, at delta {delta:.2g}. Runs compose: the sum is not the sum of this column but less."
    return Table(caption, head, rows or (("none", *("—",) * 5),))


def _by_run(charges: list[Charge]) -> dict[tuple[str, str], list[Charge]]:
    runs: dict[tuple[str, str], list[Charge]] = {}
    for charge in charges:
        runs.setdefault((charge.study, charge.run), []).append(charge)
    return runs


def _exposure(site: Site) -> tuple[str, ...]:
    return paragraphs(
        f"""
        Differential privacy begins where data leave. Before that, the raw table stays where the hospital keeps it;
        the trainer reads it, has no network, and answers five calls. What crosses is written to the audit log as
        kinds, sizes and hashes (fedfm-site audit).

        On the hospital's disk, under {site.state}: the ledger, the audit log, and states of the frozen part of the
        model (cache), which are made from notes and need the protection of the notes. No figure of this statement
        protects them: access rights do.
        """
    )


def _loosened(policy: Policy) -> list[str]:
    found = []
    if policy.allow_no_privacy:
        found.append(
            f"The policy accepts studies without any privacy (allow_no_privacy): {NO_GUARANTEE} "
            "is then what it gives. Only for public data."
        )
    if policy.allow_exact_evaluation:
        found.append(
            "The policy accepts exact counts of test patients (allow_exact_evaluation), which protect nobody. "
            "Only for public data."
        )
    return found


def _of(charges: list[Charge], split: Split) -> list[Charge]:
    return [charge for charge in charges if charge.split == split]


def _releases(charges: list[Charge]) -> tuple[Release, ...]:
    return tuple(charge.release for charge in charges)


def _epsilon(charges: list[Charge], delta: float) -> float:
    if any(charge.release.noise_multiplier <= 0 for charge in charges):
        return math.inf
    return privacy.epsilon(_releases(charges), delta)


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
