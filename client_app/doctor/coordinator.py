"""What the coordinator says of this hospital's key and clock, asked without a SuperNode coming online by it."""

import os
from collections.abc import Iterator
from pathlib import Path

from client_app.doctor.clock import lead, of_lead
from client_app.doctor.examined import Examined
from client_app.doctor.fleet import Fleet, fleet_at
from client_app.doctor.keys import name_of_key, read_authority, read_node_key
from client_app.doctor.network import shaken, strict
from client_app.doctor.reaching import read_address
from client_app.doctor.tunnel import way
from fedfm.config.site import Network
from fedfm.errors import FedFMError
from fedfm.findings import Finding, of_error

_PROCESSES = Path("/proc")


def findings(examined: Examined) -> Iterator[Finding]:
    """Yield what the coordinator that ``network`` names answers."""
    yield from checks(examined.site.network, examined.file.parent)


def checks(network: Network, folder: Path) -> Iterator[Finding]:
    """Yield the same for files that are named relative to ``folder``."""
    if not (network.coordinator and network.authority and network.node_key):
        what = "network.coordinator, authority and node_key are not all set"
        yield Finding("coordinator", "answers", "skip", what)
        return
    try:
        address = read_address(network.coordinator)
        key = read_node_key(folder / network.node_key)
        read_authority(folder / network.authority)
        with way(network, folder, os.environ) as there:
            _, protocol, _ = shaken(strict(folder / network.authority), address, there.dial)
            if protocol != "h2":
                yield Finding("coordinator", "answers", "skip", "not asked without HTTP/2: see network")
                return
            authority = (folder / network.authority).read_bytes()
            with fleet_at(there.target, authority, key, host=address.host) as fleet:
                yield from of_fleet(fleet)
    except OSError:
        yield Finding("coordinator", "answers", "skip", "not asked without TLS that can be trusted: see network")
    except FedFMError as error:
        if error.code == "SITE-E147":  # what only this group can see
            yield from of_error("coordinator", "answers", error)
            return
        yield Finding("coordinator", "answers", "skip", f"not asked ({error.code} {error.what}): see keys and network")


def of_fleet(fleet: Fleet) -> Iterator[Finding]:
    """Yield what a Fleet API answers: what time it has, whether it knows this key and who else gets in."""
    ahead = lead(fleet.takes_stamps)
    yield of_lead(ahead)
    if ahead is None:
        yield Finding("coordinator", "registered", "skip", "not to be asked before the clock is right")
        return
    yield from _of_key(fleet, -ahead)


def _of_key(fleet: Fleet, shift: float) -> Iterator[Finding]:
    known_as = name_of_key(fleet.key.public_key())
    if not fleet.is_registered(shift):
        what = f"the coordinator does not know the node key {known_as}"
        fix = "send it the file site.pub (fedfm-study admit site.pub), or ask whether it was revoked"
        yield Finding("coordinator", "registered", "fail", what, "SITE-E125", fix)
        return
    yield Finding("coordinator", "registered", "pass", f"the coordinator knows the node key {known_as}")
    yield _of_admission(fleet, shift)
    if not fleet.is_online(shift):
        yield Finding("coordinator", "online", "pass", "no SuperNode with this key is connected: this one may")
    elif supernode_here():
        yield Finding("coordinator", "online", "pass", "a SuperNode with this key is connected, and one runs here")
    else:
        what = "a SuperNode with this key is connected, or was a minute ago, and none is to be seen from here"
        fix = "if it does not run at this hospital, somebody else has the key: have it revoked, and make another"
        yield Finding("coordinator", "online", "warn", what, "SITE-W126", fix)


def _of_admission(fleet: Fleet, shift: float) -> Finding:
    if fleet.admits_anybody(shift):
        what = "the coordinator lets any SuperNode in: whoever reaches it can pass for a hospital"
        fix = "ask the coordinator to start its SuperLink with --enable-supernode-auth"
        return Finding("coordinator", "admission", "fail", what, "SITE-E143", fix)
    return Finding("coordinator", "admission", "pass", "only keys that the coordinator has admitted")


def supernode_here(processes: Path = _PROCESSES) -> bool:
    """Whether a SuperNode runs on this machine, as far as this process may see."""
    for each in processes.glob("[0-9]*/cmdline"):
        try:
            if b"flower-supernode" in each.read_bytes():
                return True
        except OSError:
            continue  # it ended, or is another user's
    return False
