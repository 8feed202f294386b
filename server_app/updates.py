"""The updates of one round on disk, so that the coordinator's memory does not grow with the number of sites."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays

_BLOCK = 1 << 22
"""Bytes of float32 that are read at once for columns or inner products, over all sites."""


class Updates:
    """The accepted updates of a round, a row of float32 each in one file that is gone when this is closed.

    Args:
        like: Names and shapes that every update has.
        folder: Where the file is made.

    Attributes:
        size: Numbers in an update, P.
    """

    def __init__(self, like: Arrays, folder: Path) -> None:
        self._like = {name: like[name].shape for name in sorted(like)}
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close
        self._places: dict[str, int] = {}
        self.size = sum(int(np.prod(shape)) for shape in self._like.values())

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, which deletes it."""
        self._file.close()

    def append(self, site: str, update: Arrays) -> None:
        """Add the update of one more site; names and shapes are those of ``like``."""
        row = np.concatenate([update[name].ravel() for name in self._like]) if self._like else np.zeros(0)
        self._file.seek(0, 2)
        self._file.write(row.astype(np.float32, copy=False).tobytes())
        self._places[site] = len(self._places)

    @property
    def sites(self) -> list[str]:
        """The site of each row, in order of their names, whatever the order of arrival."""
        return sorted(self._places)

    def rows(self) -> Iterator[NDArray[np.float32]]:
        """Return float32[P] of each site, in the order of ``sites``; one is in memory at a time."""
        for site in self.sites:
            yield self._read(site, 0, self.size)

    def columns(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Return float32[S, W] of all sites, a few neighbouring numbers at a time, and which they are."""
        sites = self.sites
        width = max(1, _BLOCK // (4 * max(1, len(sites))))
        for start in range(0, self.size, width):
            part = slice(start, min(start + width, self.size))
            yield part, np.stack([self._read(site, part.start, part.stop) for site in sites])

    def gram(self) -> NDArray[np.float64]:
        """Return float64[S, S], the inner product of each two updates."""
        found = np.zeros((len(self._places), len(self._places)))
        for _, block in self.columns():
            wide = block.astype(np.float64)
            found += wide @ wide.T
        return found

    def named(self, flat: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return float64[P] as named arrays of the shapes of ``like``."""
        found, start = {}, 0
        for name, shape in self._like.items():
            size = int(np.prod(shape))
            found[name] = flat[start : start + size].reshape(shape)
            start += size
        return found

    def _read(self, site: str, start: int, stop: int) -> NDArray[np.float32]:
        self._file.seek(4 * (self._places[site] * self.size + start))
        return np.frombuffer(self._file.read(4 * (stop - start)), dtype=np.float32)
