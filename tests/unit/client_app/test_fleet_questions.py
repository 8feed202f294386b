"""What the doctor asks a SuperLink changes nothing there: no node comes online by it, none goes, none is registered."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from client_app.doctor import coordinator, keys
from client_app.doctor.fleet import Fleet
from client_app.keys import make_node_key
from tests import superlink
from tests.unit.client_app.joined import GOOD, STUDY, Hospital, admitted, codes, look


@pytest.fixture(scope="module")
def served() -> Iterator[superlink.Served]:
    with superlink.fleet(GOOD) as started:
        yield started


@pytest.fixture
def hospital(tmp_path: Path, served: superlink.Served) -> Hospital:
    return admitted(tmp_path, served)


def test_a_twin_that_is_online_is_told_and_left_alone(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    key = keys.read_node_key(hospital.folder / "node.key")
    state = hospital.served.state
    with _fleet(hospital, key) as fleet:
        node = state.get_node_id_by_public_key(fleet._public)
    assert node
    assert state.activate_node(node, 30)
    before = state.get_node_info(node_ids=[node])[0]
    monkeypatch.setattr(coordinator, "supernode_here", lambda: False)
    found = look(hospital)
    assert (codes(found), codes(found, of="warn")) == ([], ["SITE-W126"])
    assert state.get_node_info(node_ids=[node])[0] == before, "it is as it was: online, with its own heartbeats"
    monkeypatch.setattr(coordinator, "supernode_here", lambda: True)
    assert {finding.status for finding in look(hospital)} == {"pass"}


def test_the_doctor_leaves_no_node_online_and_none_registered(hospital: Hospital) -> None:
    state = hospital.served.state
    before = {node.node_id for node in state.get_node_info()}
    look(hospital)
    make_node_key(hospital.folder / "stranger.key")
    look(hospital, replace(hospital.network, node_key="stranger.key"))
    after = state.get_node_info()
    assert {node.node_id for node in after} == before
    assert {node.node_id for node in after if node.status == "online"} <= before - {hospital_node(hospital)}


def hospital_node(hospital: Hospital) -> int:
    key = keys.read_node_key(hospital.folder / "node.key")
    with _fleet(hospital, key) as fleet:
        return hospital.served.state.get_node_id_by_public_key(fleet._public) or 0


@contextmanager
def _fleet(hospital: Hospital, key: ec.EllipticCurvePrivateKey) -> Iterator[Fleet]:
    with coordinator.fleet_at(hospital.served.address, STUDY.pem, key) as opened:
        yield opened


def test_a_coordinator_that_admits_any_key_is_told(hospital: Hospital) -> None:
    with superlink.fleet(GOOD, authenticates=False) as open_to_all:
        open_to_all.register(hospital.folder / "node.key.pub")
        found = [*coordinator.checks(hospital.at(open_to_all.address), hospital.folder)]
        assert len(open_to_all.state.get_node_info()) == 1
    assert codes(found) == ["SITE-E143"]
