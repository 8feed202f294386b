"""Fetch public data sets: ``scripts/fetch-data NAME [--from DIR] [--to DIR]``."""

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from scripts.public_data import heart_disease, icu_notes, icu_tables, medical_abstracts
from scripts.public_data.fetching import FetchError, check_folder, download, sha256_of
from scripts.public_data.site_folders import write_sites

SETS: dict[str, ModuleType] = {
    "heart_disease": heart_disease,
    "icu_notes": icu_notes,
    "icu_tables": icu_tables,
    "medical_abstracts": medical_abstracts,
}
_RECORD = "fetched.json"


def main(arguments: list[str] | None = None) -> int:
    """Fetch what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/fetch-data", description="Fetch public data, one folder per site.")
    parser.add_argument("name", choices=[*SETS, "all"], help="which data set")
    parser.add_argument("--from", dest="source", type=Path, help="take the files from DIR/NAME instead of their home")
    parser.add_argument("--to", type=Path, default=Path("data"), help="where NAME/SITE/ is written (default: data)")
    options = parser.parse_args(arguments)
    for name in SETS if options.name == "all" else [options.name]:
        try:
            fetch(name, options.to, source=options.source)
        except FetchError as error:
            print(f"fetch-data: {name}: {error}", file=sys.stderr)
            return 1
    return 0


def fetch(name: str, to: Path, *, source: Path | None = None) -> None:
    """Have ``<to>/<name>/<site>/cohort.csv`` and ``site.yaml`` of one data set.

    What is already there and unaltered is kept. The folder appears only when all of it is
    written; the state of a site that has run (its privacy ledger) stays.

    Raises:
        FetchError: A file is missing, altered, or could not be downloaded.
    """
    folder = to / name
    if _is_fetched(folder):
        print(f"{name}: already in {folder}")
        return
    print(f"{name}: preparing")
    data_set: Any = SETS[name]
    raw = to / ".downloads" / name if source is None else source / name
    if source is None:
        download(data_set.FILES, raw)
    else:
        check_folder(data_set.FOLDER_FILES, raw)
    part = to / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    sites = data_set.sites(raw)
    write_sites(sites, part)
    (part / _RECORD).write_text(json.dumps({"code": _code_sum(), "files": _sums(part)}, indent=2) + "\n")
    _replace(folder, part)
    for site in sites:
        print(f"  {site.id}: {len(site.table)} examples of {site.table[site.data['patient']].nunique()} patients")
    print(f"{name}: {len(sites)} sites in {folder}")


def _is_fetched(folder: Path) -> bool:
    record = folder / _RECORD
    if not record.is_file():
        return False
    known = json.loads(record.read_text())
    return bool(known["code"] == _code_sum() and known["files"] == _sums(folder))


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that a fetch writes, by its path in the folder."""
    files = [path for pattern in ("*/cohort.csv", "*/site*.yaml") for path in folder.glob(pattern)]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(files)}


def _code_sum() -> str:
    """Return the SHA-256 of the code that prepares: newer code prepares again."""
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(code).hexdigest()


def _replace(folder: Path, part: Path) -> None:
    """Put the new files in place; what else lies there, such as a site's privacy ledger, is never touched."""
    if not folder.exists():
        part.rename(folder)
        return
    (folder / _RECORD).unlink(missing_ok=True)  # from here to the last line, an interrupted run starts again
    for name in set(_sums(folder)) - set(_sums(part)):
        (folder / name).unlink()
    for file in part.glob("*/*"):
        (folder / file.parent.name).mkdir(exist_ok=True)
        file.replace(folder / file.relative_to(part))
    (part / _RECORD).replace(folder / _RECORD)
    shutil.rmtree(part)


if __name__ == "__main__":
    sys.exit(main())
