"""What `fedfm-study plan` prints: a study's privacy and noise at several sizes of hospital, before anyone trains."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedfm.config.compose import compose_study
from fedfm.config.study import Study
from server_app.planning import COHORTS, Federation, Outlook, some_of, trained_parameters
from server_app.planning_band import MEASURED, expected
from server_app.planning_feasible import Caps, Obstacle, obstacles

_ROWS, _BAR = 12, 24


@dataclass(frozen=True)
class Wishes:
    """What is asked beside the study.

    Attributes:
        patients: Declared patients of a site; a plan for each.
        sites: Sites that are averaged; 0: as the study says.
        parameters: Trained parameters; 0: count them, which needs the model's weights.
        caps: What the hospitals' policies are taken to allow.
        as_json: One JSON object for machines, in place of tables for people.
    """

    patients: Sequence[int]
    sites: int
    parameters: int
    caps: Caps
    as_json: bool


@dataclass(frozen=True)
class Cohort:
    """One column of the plan.

    Attributes:
        patients: Declared patients of each site.
        outlook: What would be spent and added; None where no noise keeps the budget.
        obstacles: What is in the way.
    """

    patients: int
    outlook: Outlook | None
    obstacles: Sequence[Obstacle]

    @property
    def refused(self) -> bool:
        """Whether a hospital of this size would refuse."""
        return any(obstacle.code for obstacle in self.obstacles)


def show(overrides: Sequence[str], wishes: Wishes, *, console: Console | None = None) -> bool:
    """Print the plan of the study that ``conf/`` and the overrides make; return whether it is feasible at every size.

    Raises:
        ConfigErrors: Every problem of the study at once.
        ModelError: The weights cannot be had on this machine, and the number of parameters is not named.
    """
    console = console or Console()
    study = compose_study(overrides).value
    federation = Federation(
        sites=wishes.sites or len(study.sites) or study.min_sites,
        parameters=wishes.parameters or trained_parameters(study),
    )
    cohorts = [
        Cohort(patients, *obstacles(study, patients, federation, wishes.caps))
        for patients in wishes.patients or COHORTS
    ]
    if wishes.as_json:
        console.print_json(json.dumps(as_machine_form(study, federation, cohorts), allow_nan=False))
    else:
        _print(console, study, federation, cohorts)
    return not any(cohort.obstacles for cohort in cohorts)


def as_machine_form(study: Study, federation: Federation, cohorts: Sequence[Cohort]) -> dict[str, Any]:
    """Return the plan as one JSON object; an epsilon without bound is null."""
    return {
        "study": study.name,
        "mechanism": study.privacy.mechanism,
        "unit": study.privacy.unit,
        "rounds": study.rounds,
        "local_steps": study.training.local_steps,
        "steps": study.rounds * study.training.local_steps,
        "sample_rate": study.training.sample_rate,
        "sites": federation.sites,
        "trained_parameters": federation.parameters,
        "cohorts": [_machine_column(cohort) for cohort in cohorts],
    }


def _machine_column(cohort: Cohort) -> dict[str, Any]:
    found = cohort.outlook
    column: dict[str, Any] = {
        "patients": cohort.patients,
        "feasible": not cohort.obstacles,
        "refused": cohort.refused,
        "obstacles": [asdict(obstacle) for obstacle in cohort.obstacles],
    }
    if found is None:
        return column
    return column | {
        "delta": found.plan.delta,
        "noise_multiplier": found.noises,
        "epsilon_after_round": {str(done): _finite(spent) for done, spent in found.rounds.items()},
        "epsilon": {
            "train": _finite(found.plan.planned),
            "test": _finite(found.test),
            "audit": _finite(found.audit),
        },
        "noise_to_signal": {"site": found.noise_to_signal, "average": found.averaged},
        "expected_share_of_gain": asdict(expected(found.averaged)),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _print(console: Console, study: Study, federation: Federation, cohorts: Sequence[Cohort]) -> None:
    console.print(Text(_headline(study, federation)))
    if study.privacy.mechanism == "none":
        console.print(Text("NO PRIVACY GUARANTEE: privacy=none adds no noise to training.", style="bold red"))
    console.print(_table(study, federation, cohorts))
    planned = [cohort.outlook for cohort in cohorts if cohort.outlook]
    if planned and study.privacy.mechanism != "none":
        console.print(_curve(study, planned[-1]))
    for cohort in cohorts:
        for obstacle in cohort.obstacles:
            console.print(_complaint(cohort, obstacle), soft_wrap=True)
    console.print(Text(_CAVEAT))


def _headline(study: Study, federation: Federation) -> str:
    rate = study.training.sample_rate
    steps = f"{study.rounds} rounds x {study.training.local_steps} steps = "
    steps += f"{study.rounds * study.training.local_steps} steps"
    taking = "of all patients" if rate == 1 else f"of each patient by a chance of {rate:g}"
    return (
        f"Plan of {study.name}: nothing has been trained or spent.\n"
        f"{steps} {taking}; {federation.parameters:,} trained parameters; {_average(federation)}."
    )


def _average(federation: Federation) -> str:
    return "average of 1 site" if federation.sites == 1 else f"average of {federation.sites} sites"


def _table(study: Study, federation: Federation, cohorts: Sequence[Cohort]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("training patients of a site")
    for cohort in cohorts:
        table.add_column(f"{cohort.patients:,}", justify="right", no_wrap=True)
    for name, cells in _rows(federation, cohorts):
        if not cells:
            table.add_section()
            table.add_row(Text(name, style="bold"))
        else:
            table.add_row(Text(name), *cells)
    return table


def _rows(federation: Federation, cohorts: Sequence[Cohort]) -> list[tuple[str, list[Text]]]:
    def row(name: str, cell: Callable[[Outlook], str]) -> tuple[str, list[Text]]:
        return name, [Text(cell(cohort.outlook) if cohort.outlook else "-") for cohort in cohorts]

    return [
        ("privacy of one patient, at most", []),
        row("epsilon of training patients", lambda found: _number(found.plan.planned)),
        row("epsilon of test patients", lambda found: _number(found.test)),
        row("epsilon of audit patients", lambda found: _number(found.audit)),
        row("delta, chance of failure", lambda found: f"{found.plan.delta:.2g}"),
        ("noise multiplier (sigma)", []),
        *(row(name.replace("_", " "), partial(_noise, name)) for name in _released(cohorts)),
        ("noise to signal of the update", []),
        row("one site", lambda found: f"{found.noise_to_signal:.3f}"),
        row(_average(federation), lambda found: f"{found.averaged:.3f}"),
        ("outlook", []),
        row("keeps of the gain without privacy", lambda found: _band(found.averaged)),
        ("would it run, and learn?", [_verdict(cohort) for cohort in cohorts]),
    ]


def _released(cohorts: Sequence[Cohort]) -> list[str]:
    planned = next((cohort.outlook for cohort in cohorts if cohort.outlook), None)
    return list(planned.noises) if planned else []


def _noise(name: str, found: Outlook) -> str:
    return f"{found.noises[name]:.2f}"


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "no bound"


def _band(noise_to_signal: float) -> str:
    band = expected(noise_to_signal)
    return f"{100 * band.low:.0f}-{100 * band.high:.0f} %"


def _verdict(cohort: Cohort) -> Text:
    if cohort.refused:
        return Text("refused", style="bold red")
    return Text("too noisy", style="bold yellow") if cohort.obstacles else Text("yes", style="green")


def _curve(study: Study, found: Outlook) -> Table:
    table = Table(
        title=f"epsilon of a training patient after each round, {found.patients:,} patients",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("round", justify="right")
    table.add_column("epsilon", justify="right")
    table.add_column(f"of the budget of {study.privacy.epsilon:g}")
    rounds = list(found.rounds)
    for place in some_of(len(rounds), _ROWS):
        done = rounds[place - 1]
        share = found.rounds[done] / study.privacy.epsilon
        table.add_row(str(done), f"{found.rounds[done]:.2f}", "█" * round(_BAR * share))
    return table


def _complaint(cohort: Cohort, obstacle: Obstacle) -> Text:
    code = f"{obstacle.code} " if obstacle.code else ""
    text = Text(f"{cohort.patients:,} patients: {code}{obstacle.what}.\n", style="bold")
    text.append("  feasible would be one of:\n", style="not bold")
    for proposal in obstacle.instead:
        text.append(f"  - {proposal}\n", style="not bold")
    return text


_CAVEAT = (
    "Noise to signal: how long the noise in the update of the whole study is, over the longest update that the "
    "patients could make together. What is kept of the gain is an expectation from "
    f"{len(MEASURED)} measured studies, not a promise."
)
