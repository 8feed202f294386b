"""What docker/compose.yaml prepares: made once, where the containers mount it, readable by whom it must be."""

import stat
from pathlib import Path

import pytest

from fedfm.config.compose import load_site
from scripts import demo_containers
from scripts.demo_containers import SITES, STEPS

FOLDERS = ("certificates", "authority", "coordinator-secret", "public-keys", "public")
PARTS = ("node-key", "secret", "data", "config")


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders that the image has, and Compose mounts volumes on."""
    for name in (*FOLDERS, *(f"{site}/{part}" for site in SITES for part in PARTS)):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(demo_containers, "DEMO", tmp_path)
    monkeypatch.setenv("FEDFM_PATIENTS", "20")
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_step_makes_its_files_once(demo: Path) -> None:
    for step in ("coordinator", "keys", "data"):
        STEPS[step]()
    made = files(demo)
    per_site = {
        "node-key/node.key",
        "node-key/node.key.pub",
        "secret/superexec.secret",
        "data/cohort.csv",
        "config/site.yaml",
    }
    assert set(made) == {
        *("certificates/ca.crt", "certificates/server.pem", "certificates/server.key", "authority/ca.crt"),
        *("coordinator-secret/superexec.secret", "public/reference.csv"),
        *(f"public-keys/{site}.pub" for site in SITES),
        *(f"{site}/{name}" for site in SITES for name in per_site),
    }
    for step in ("coordinator", "keys", "data"):
        STEPS[step]()
    assert files(demo) == made


def test_a_private_key_is_its_owners_and_a_secret_the_groups_too(demo: Path) -> None:
    STEPS["coordinator"]()
    STEPS["keys"]()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in demo.rglob("*") if path.is_file()}
    assert (modes["node.key"], modes["server.key"], modes["superexec.secret"]) == (0o600, 0o600, 0o440)


def test_a_site_file_names_the_paths_of_its_containers(demo: Path) -> None:
    STEPS["data"]()
    for name in SITES:
        site = load_site(demo / name / "config" / "site.yaml")
        assert (site.id, site.data.path, site.state) == (name, "/data/cohort.csv", "/var/lib/fedfm")
        assert set(site.weights.values()) == {"/weights/all-MiniLM-L6-v2"}
    assert len({(demo / name / "data" / "cohort.csv").read_bytes() for name in SITES}) == len(SITES)
