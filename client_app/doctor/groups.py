"""The groups of checks, in the order in which they are looked at and shown.

To add one: a module of this package with ``findings(examined)``, and its name here. A module is imported when its group
is looked at, so that the doctor starts in a container that has no torch or no pandas.
"""

from collections.abc import Iterator
from functools import partial
from importlib import import_module

from client_app.doctor.examined import Examined, Group
from fedfm.findings import Finding


def _findings(name: str, examined: Examined) -> Iterator[Finding]:
    group: Group = import_module(f"client_app.doctor.{name}").findings
    return group(examined)


GROUPS: dict[str, Group] = {
    name: partial(_findings, name)
    for name in ("config", "compute", "disk", "data", "privacy", "software", "keys", "network", "coordinator")
}
"""Name of a group to its checks."""
