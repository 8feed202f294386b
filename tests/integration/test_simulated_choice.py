"""A study that chooses its result, with real hospitals: what is charged is what was planned."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from client_app.ledger import Ledger
from client_app.site import agreed_plan
from fedfm.arrays import from_bytes
from fedfm.config.compose import compose_study, load_site
from fedfm.config.study import Study
from fedfm.plan import planned
from server_app.report import events
from server_app.report.judgements import ContributionMeasured, FinalChosen
from tests.integration.test_simulate import PRIVATE, federation, happened, simulated

STUDY = [*PRIVATE, "fairness.final=best", "selection=budget_aware", "selection.params.fraction=1.0"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def reference(folder: Path) -> Path:
    path = folder / "reference.csv"
    rows = [f"{'deteriorated' if word == 'fever' else 'recovered'},{word} on the ward" for word in ("fever", "walking")]
    path.write_text("\n".join(["label,text", *rows]) + "\n")
    return path


@pytest.mark.slow
def test_the_chosen_model_is_the_result_and_the_ledgers_hold_what_was_planned(tmp_path: Path) -> None:
    sites = federation(tmp_path, policy="")
    asked = [*STUDY, "contribution=shapley", f"contribution.params.reference={reference(tmp_path)}"]
    code, output = simulated(sites, tmp_path / "results", *asked)
    assert code == 0, output
    told = happened(tmp_path / "results")
    (chosen,) = [event for event in told if isinstance(event, FinalChosen)]
    assert [event.round for event in told if isinstance(event, events.ModelEvaluated)] == [1, 2, 3]
    run = tmp_path / "results" / "latest"
    kept = from_bytes((run / f"checkpoint-{chosen.round:04d}.safetensors").read_bytes())
    adapter = from_bytes((run / "adapter" / "adapter_model.safetensors").read_bytes())
    factors = {name.removeprefix("backbone."): array for name, array in kept.items() if "lora_B" in name}
    assert factors
    assert all((adapter[f"base_model.model.{name}"] == array).all() for name, array in factors.items())

    study: Study = compose_study(asked).value
    for file in sorted(sites.glob("*/site.yaml")):
        site = load_site(file)
        charges = Ledger(Path(site.state), site.id).charges()
        counted = Counter((charge.split, charge.release.noise_multiplier) for charge in charges)
        expected: Counter[tuple[str, float]] = Counter()
        for one in planned(study, agreed_plan(site, study)):
            expected[one.split, one.release.noise_multiplier] += one.times
        assert counted == expected

    contributions = [event for event in told if isinstance(event, ContributionMeasured)]
    assert [event.round for event in contributions] == [1, 2]
    for event in contributions:
        assert sum(event.values.values()) == pytest.approx(event.total, abs=1e-9)
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    written = {(row["round"], row["site"]): float(row["value"]) for row in rows if row["figure"] == "contribution"}
    assert written["2", "all"] == contributions[1].total
    assert len(written) == 2 * 4
