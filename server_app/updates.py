"""The updates of one round on disk, so that the coordinator's memory does not grow with the number of sites."""

import os
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
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by close
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
        row = np.empty(self.size, np.float32)
        start = 0
        for name in self._like:
            stop = start + update[name].size
            row[start:stop] = update[name].ravel()
            start = stop
        _whole(os.pwrite(self._file.fileno(), row.data, row.nbytes * len(self._places)), row)
        self._places[site] = len(self._places)

    @property
    def sites(self) -> list[str]:
        """The site of each row, in order of their names, whatever the order of arrival."""
        return sorted(self._places)

    def row(self, site: str) -> NDArray[np.float32]:
        """Return float32[P], the update of one site."""
        found = np.empty(self.size, np.float32)
        self._read(site, 0, found)
        return found

    def rows(self) -> Iterator[NDArray[np.float32]]:
        """Return float32[P] of each site, in the order of ``sites``; one is in memory at a time."""
        return map(self.row, self.sites)

    def columns(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Return float32[S, W] of all sites, a few neighbouring numbers at a time, and which they are."""
        sites = self.sites
        width = max(1, _BLOCK // (4 * max(1, len(sites))))
        for start in range(0, self.size, width):
            part = slice(start, min(start + width, self.size))
            block = np.empty((len(sites), part.stop - start), np.float32)
            for site, row in zip(sites, block, strict=True):
                self._read(site, start, row)
            yield part, block

    def gram(self) -> NDArray[np.float64]:
        """Return float64[S, S], the inner product of each two updates.

        Products and sums are of float64: distances between updates are small differences of large products.
        """
        found = np.zeros((len(self._places), len(self._places)))
        for _, block in self.columns():
            wide = block.astype(np.float64)
            found += wide @ wide.T  # of a matrix with its own transpose BLAS computes one half only
        return found

    def named(self, flat: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return float64[P] as named arrays of the shapes of ``like``."""
        found, start = {}, 0
        for name, shape in self._like.items():
            size = int(np.prod(shape))
            found[name] = flat[start : start + size].reshape(shape)
            start += size
        return found

    def _read(self, site: str, start: int, into: NDArray[np.float32]) -> None:
        """Fill ``into`` with the numbers of a site from ``start`` on."""
        offset = 4 * (self._places[site] * self.size + start)
        _whole(os.preadv(self._file.fileno(), [into.data], offset), into)


def _whole(moved: int, part: NDArray[np.float32]) -> None:
    """Let no part of an update pass for one.

    Raises:
        OSError: Fewer bytes were moved than the part has: the disk is full, or the file was cut.
    """
    if moved != part.nbytes:
        raise OSError("an update could not be written to the disk, or read from it, whole")
