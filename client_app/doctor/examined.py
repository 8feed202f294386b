"""What every group of checks is given to look at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.findings import Finding


@dataclass(frozen=True)
class Examined:
    """A hospital whose site file can be read.

    Attributes:
        file: Its site.yaml.
        site: What that says, relative paths resolved.
        study: The study that it is examined for; None for no one in particular.
    """

    file: Path
    site: Site
    study: Study | None = None


Group = Callable[[Examined], Iterator[Finding]]
"""The checks about one matter, each yielding one finding or more.

What a check raises becomes a finding: a ``FedFMError`` a failure with its code, a package that this container does not
have a skip, anything else a failure with an incident number, whose text stays in the hospital's own log.
"""
