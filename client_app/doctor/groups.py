"""The groups of checks, in the order in which they are looked at and shown.

To add one: a module with ``findings(examined)``, and a line here. A module is imported when its group is looked at,
so that the doctor starts in a container that has no torch or no pandas.
"""

from collections.abc import Iterator

from client_app.doctor.examined import Examined, Group
from fedfm.findings import Finding


def _config(examined: Examined) -> Iterator[Finding]:
    from client_app.doctor.config import findings  # noqa: PLC0415 - when it is looked at

    return findings(examined)


def _disk(examined: Examined) -> Iterator[Finding]:
    from client_app.doctor.disk import findings  # noqa: PLC0415 - when it is looked at

    return findings(examined)


def _keys(examined: Examined) -> Iterator[Finding]:
    from client_app.doctor.keys import findings  # noqa: PLC0415 - when it is looked at

    return findings(examined)


def _network(examined: Examined) -> Iterator[Finding]:
    from client_app.doctor.network import findings  # noqa: PLC0415 - when it is looked at

    return findings(examined)


def _coordinator(examined: Examined) -> Iterator[Finding]:
    from client_app.doctor.coordinator import findings  # noqa: PLC0415 - when it is looked at

    return findings(examined)


def _data(examined: Examined) -> Iterator[Finding]:
    from client_app.doctor.data import findings  # noqa: PLC0415 - when it is looked at

    return findings(examined)


def _privacy(examined: Examined) -> Iterator[Finding]:
    from client_app.doctor.privacy import findings  # noqa: PLC0415 - when it is looked at

    return findings(examined)


def _software(examined: Examined) -> Iterator[Finding]:
    from client_app.doctor.software import findings  # noqa: PLC0415 - when it is looked at

    return findings(examined)


def _compute(examined: Examined) -> Iterator[Finding]:
    from client_app.doctor.compute import findings  # noqa: PLC0415 - when it is looked at

    return findings(examined)


GROUPS: dict[str, Group] = {
    "config": _config,
    "compute": _compute,
    "disk": _disk,
    "data": _data,
    "privacy": _privacy,
    "software": _software,
    "keys": _keys,
    "network": _network,
    "coordinator": _coordinator,
}
"""Name of a group to its checks."""
