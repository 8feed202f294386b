"""``fedfm-study simulate``: the ServerApp and the ClientApps of a real federation, unmodified, in one process."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from client_app.ledger import ledger_of
from client_app.trainer import connect
from fedfm.arrays import from_bytes
from fedfm.config.compose import load_site
from server_app.cli import app
from server_app.report import events
from server_app.report.event_log import read_events
from tests.integration.conftest import CANARY, write_hospital

OPEN = "allow_no_privacy: true\n  allow_exact_evaluation: true\n  small_cells: none"
PLAIN = ["model=tiny", "adapter=head", "privacy=none", "evaluation=exact", "explainability=none"]
PRIVATE = ["model=tiny", "adapter=ffa_lora", "standardize=global", "rounds=2", "explainability.documents=4"]
NAMES = ("hospital-a", "hospital-b", "hospital-c")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def federation(folder: Path, *, policy: str = OPEN) -> Path:
    for index, name in enumerate(NAMES):
        write_hospital(folder / "sites" / name, patients=40 + 20 * index, policy=policy, name=name)
    return folder / "sites"


def simulated(sites: Path, results: Path, *overrides: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["simulate", str(sites), "--results", str(results), *overrides])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def happened(results: Path) -> list[events.Event]:
    return read_events(results / "latest" / "events.jsonl")


def test_a_private_study_leaves_a_whole_run_behind(tmp_path: Path) -> None:
    code, output = simulated(federation(tmp_path, policy=""), tmp_path / "results", *PRIVATE)
    assert code == 0, output
    assert "Completed: 3 of 3 hospitals contributed to all 2 rounds." in output
    assert "Privacy: ON (patient-level)" in output
    run = tmp_path / "results" / "latest"
    trained = [event for event in happened(tmp_path / "results") if isinstance(event, events.SiteTrained)]
    assert len(trained) == 6
    assert [len(e.sites) for e in happened(tmp_path / "results") if isinstance(e, events.StatisticsPooled)] == [3]
    assert all(0 < event.privacy.run <= 3 for event in trained)
    assert set(json.loads((run / "manifest.json").read_text())) >= {
        "config.resolved.json",
        "events.jsonl",
        "metrics.csv",
        "report.html",
        "statistics.safetensors",
        "adapter/adapter_model.safetensors",
    }
    for path in run.rglob("*"):  # nothing of a patient is anywhere in what the coordinator keeps
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_one_exchange_a_round_gives_the_same_model_and_charges_the_same(tmp_path: Path) -> None:
    sites, ends, charged = federation(tmp_path), [], []
    for name in ("own", "with_training"):
        code, output = simulated(sites, tmp_path / "results", *PLAIN, "rounds=3", f"evaluation.exchange={name}")
        assert code == 0, output
        run = (tmp_path / "results" / "latest").resolve()  # of one folder: two runs never bear one name
        ends.append(from_bytes((run / "checkpoint-0003.safetensors").read_bytes()))
        ledgers = [ledger_of(load_site(file)).charges() for file in sorted(sites.glob("*/site.yaml"))]
        charged.append([sorted((c.round, c.purpose) for c in charges if c.run == run.name) for charges in ledgers])
    for name, array in ends[0].items():
        np.testing.assert_array_equal(ends[1][name], array)
    assert charged[0] == charged[1]
    assert all(charged[0])


def test_the_same_seed_without_noise_gives_the_same_model(tmp_path: Path) -> None:
    sites, ends = federation(tmp_path), []
    for name in ("one", "two"):
        code, output = simulated(sites, tmp_path / name, *PLAIN, "rounds=2")
        assert code == 0, output
        assert "NO PRIVACY GUARANTEE" in output
        ends.append(from_bytes((tmp_path / name / "latest" / "checkpoint-0002.safetensors").read_bytes()))
    assert all((ends[0][name] == ends[1][name]).all() for name in ends[0])


def test_the_model_learns_what_decides_the_outcome(tmp_path: Path) -> None:
    learn = ["rounds=8", "training.local_steps=10", "training.learning_rate=2.0"]
    code, output = simulated(federation(tmp_path), tmp_path / "results", *PLAIN, *learn)
    assert code == 0, output
    together = [event for event in happened(tmp_path / "results") if isinstance(event, events.ModelEvaluated)]
    auroc = together[-1].performance.auroc
    assert auroc is not None
    assert auroc.low > 0.6  # clearly above chance
    assert auroc.value > 0.8


def test_a_policy_that_refuses_fails_the_run_with_the_sites_reason(tmp_path: Path) -> None:
    code, output = simulated(federation(tmp_path, policy=""), tmp_path / "results", *PLAIN)
    assert code == 1
    assert output.count("left out of start: SITE-E") == 3
    assert "Failed: too few sites at the start" in output
    assert "Failed" in (tmp_path / "results" / "latest" / "report.html").read_text()


def test_one_broken_site_does_not_stop_the_others(tmp_path: Path) -> None:
    sites = federation(tmp_path)
    (sites / "hospital-b" / "cohort.csv").write_text("nothing,here\n1,2\n")
    code, output = simulated(sites, tmp_path / "results", *PLAIN, "rounds=1")
    assert code == 0, output
    assert "2 of 3 hospitals contributed" in output
    (left,) = [event for event in happened(tmp_path / "results") if isinstance(event, events.SiteLeftOut)]
    assert left.site == "hospital-b"
    assert left.code.startswith("SITE-E")


def test_a_folder_without_sites_is_a_clear_error(tmp_path: Path) -> None:
    code, output = simulated(tmp_path, tmp_path / "results")
    assert code == 2
    assert "STUDY-E073" in output
    assert "make-demo-data" in output
    assert not (tmp_path / "results").exists()


def test_a_wrong_setting_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    code, output = simulated(federation(tmp_path), tmp_path / "results", "rouns=3")
    assert code == 2
    assert "rounds" in output
    assert not (tmp_path / "results").exists()


def test_two_sites_of_one_name_are_refused(tmp_path: Path) -> None:
    sites = federation(tmp_path)
    write_hospital(sites / "hospital-z", name="hospital-a")
    code, output = simulated(sites, tmp_path / "results")
    assert code == 2
    assert "STUDY-E074" in output


def test_a_report_is_rendered_again_from_its_events(tmp_path: Path) -> None:
    simulated(federation(tmp_path), tmp_path / "results", *PLAIN, "rounds=1")
    run = tmp_path / "results" / "latest"
    before = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0
    assert (run / "report.html").read_bytes() == before
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 2


def test_help_teaches() -> None:
    for command in ("config", "make-demo-data", "simulate", "report"):
        shown = CliRunner().invoke(app, [command, "--help"])
        assert shown.exit_code == 0
        assert len(shown.output) > 200


def test_a_hospital_with_an_older_ledger_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    sites, results = federation(tmp_path, policy="max_epsilon: 50"), tmp_path / "results"
    study = ["model=tiny", "adapter=head", "rounds=1", "explainability=none"]
    state = sites / "hospital-b" / "state"
    assert simulated(sites, results, *study)[0] == 0
    shutil.copytree(state, tmp_path / "backup")
    assert simulated(sites, results, *study)[0] == 0
    for path in (tmp_path / "backup").glob("ledger-*"):
        shutil.copy(path, state)  # all in it is true and whole; only the second run is missing
    before = {path.name: path.read_bytes() for path in state.glob("ledger-*")}
    connect._in_process.cache_clear()  # the trainers are started again; one that runs on would notice by itself
    code, output = simulated(sites, results, *study)
    assert code == 0, output
    (left,) = [event for event in happened(results) if isinstance(event, events.SiteLeftOut)]
    assert (left.site, left.code) == ("hospital-b", "SITE-E116")
    assert {path.name: path.read_bytes() for path in state.glob("ledger-*")} == before
    for path in state.glob("ledger-*"):
        path.unlink()  # a ledger that is lost is no empty one
    connect._in_process.cache_clear()
    assert simulated(sites, results, *study)[0] == 0
    assert [event.code for event in happened(results) if isinstance(event, events.SiteLeftOut)] == ["SITE-E116"]
    shutil.rmtree(state)  # nor is an audit log, which a trainer in this process keeps as well
    connect._in_process.cache_clear()
    assert simulated(sites, results, *study)[0] == 0
    assert [event.code for event in happened(results) if isinstance(event, events.SiteLeftOut)] == ["SITE-E118"]
