"""The hospitals of a demo: one folder with a site.yaml each, made or fetched when absent."""

import shutil
import subprocess
import sys
from pathlib import Path

from fedfm.errors import DataError
from scripts.engine.federation import PROJECT

SYNTHETIC = "demo"
PUBLIC = ("icu_notes", "heart_disease")
SYNTHETIC_SITES = 4


def site_files(data: str, store: Path, *, sites: int | None = None, source: Path | None = None) -> list[Path]:
    """Return the site.yaml of each hospital.

    Args:
        data: ``demo`` for synthetic hospitals, or a public data set.
        store: Where data is kept from one demo to the next.
        sites: How many hospitals; None for 4 synthetic ones, or all of a public data set.
        source: A folder that holds the public data; None: the project's own ``data`` neighbour if
            there is one, else the official home.

    Raises:
        DataError: No such data, or fewer hospitals in it than asked.
    """
    if data == SYNTHETIC:
        return _synthetic(store, SYNTHETIC_SITES if sites is None else sites)
    if data not in PUBLIC:
        raise DataError("ENGINE-E103", "no such data", found=data, allowed=", ".join((SYNTHETIC, *PUBLIC)))
    found = _public(data, store, source)
    if sites is not None and not 1 <= sites <= len(found):
        raise DataError(
            "ENGINE-E104", "not that many hospitals", where=data, found=str(sites), allowed=f"1 to {len(found)}"
        )
    return found[:sites]


def public_notes(data: str, files: list[Path]) -> Path | None:
    """Return the public notes beside the hospitals, for the coordinator; None where the data has none."""
    beside = files[0].parent.parent / "reference.csv"
    return beside if data == SYNTHETIC and beside.is_file() else None


def _synthetic(store: Path, sites: int) -> list[Path]:
    if not 1 <= sites <= 100:
        raise DataError("ENGINE-E104", "not that many hospitals", where="--sites", found=str(sites), allowed="1 to 100")
    folder = store / f"{SYNTHETIC}-{sites}"
    if not folder.is_dir():
        from server_app.demo_data import make_demo_data  # noqa: PLC0415 - only a first demo needs it

        make_demo_data(draft := _draft(folder), sites=sites)
        draft.replace(folder)
    return _answering(sorted(folder.glob("*/site.yaml")))


def _public(data: str, store: Path, source: Path | None) -> list[Path]:
    folder = store / data
    if not any(folder.glob("*/site.yaml")):
        near = PROJECT.parent / "shared" / "data"
        origin = source or (near if near.is_dir() else None)
        command = [sys.executable, "-m", "scripts.public_data", data, "--to", str(store)]  # it makes the folder whole
        command += ["--from", str(origin)] if origin else []
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataError(
                "ENGINE-E105",
                "the data could not be had",
                where=data,
                found=done.stderr.strip(),
                fix=f"scripts/fetch-data {data} --from DIR, or a connection to its official home",
            )
    return _answering(sorted(folder.glob("*/site.yaml")))


def _answering(files: list[Path]) -> list[Path]:
    """Let site files that an older release has made of the same data answer without a person's approval."""
    for file in files:
        text = file.read_text(encoding="utf-8")
        if "\n  approval:" not in text:
            file.write_text(text.replace("\npolicy:\n", "\npolicy:\n  approval: none\n"), encoding="utf-8")
    return files


def _draft(folder: Path) -> Path:
    """Return where to write what will be ``folder`` once it is whole."""
    draft = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.parent.mkdir(parents=True, exist_ok=True)
    return draft
