"""What the doctor is asked to look at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedfm.findings import Finding


@dataclass(frozen=True)
class Asked:
    """A coordinator.

    Attributes:
        overrides: Of the study; none for the one that ``conf/`` makes.
        certificates: Folder with ``ca.crt``, ``server.pem`` and ``server.key``.
        superlink: ``host:port`` of the Control API.
        fleet: ``host:port`` of the Fleet API, as a hospital writes it.
        database: The SuperLink's database; None where it is not on this machine, or is not said.
        results: Where runs are written.
        memory: Where the sites' ledgers are remembered.
    """

    overrides: tuple[str, ...]
    certificates: Path
    superlink: str
    fleet: str
    database: Path | None
    results: Path
    memory: Path


Group = Callable[[Asked], Iterator[Finding]]
