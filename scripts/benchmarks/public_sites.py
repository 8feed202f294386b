"""Copies of public sites with a ledger of their own, so that no benchmark spends what a study may want."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from fedfm.errors import DataError
from scripts.engine.federation import PROJECT
from scripts.public_data.site_folders import declared_patients


def public_folder(name: str) -> Path:
    """Return the folder of a fetched public data set, one sub-folder for each site.

    Raises:
        DataError: It has not been fetched.
    """
    folder = PROJECT / "data" / name
    if not (folder / "fetched.json").is_file():
        fix = f"fetch it with 'scripts/fetch-data {name}'"
        raise DataError("BENCH-E001", f"the data set {name} is not there", where=f"data/{name}", fix=fix)
    return folder


def copy_sites(source: Path, to: Path) -> Path:
    """Copy the sites without their state to ``to``, open to any study: their patients are public; return it."""
    shutil.copytree(source, to, ignore=shutil.ignore_patterns("state"))
    for file in sorted(to.glob("*/*.yaml")):
        content = OmegaConf.load(file)
        for setting in ("policy.small_cells", "policy.approval"):  # folders of older releases lack them
            OmegaConf.update(content, setting, "none", force_add=True)
        OmegaConf.save(content, file)
    return to


def copy_divided(source: Path, to: Path, *, part_of: Callable[[str], str]) -> Path:
    """Copy the sites without their state, patients divided anew; return ``to``.

    Args:
        source: Sites as ``scripts/fetch-data`` writes them.
        to: Does not exist.
        part_of: Patient to ``train``, ``audit`` or ``test``; the declared number of patients follows it.
    """
    for file in sorted(copy_sites(source, to).glob("*/site.yaml")):
        content = OmegaConf.load(file)
        table = pd.read_csv(file.parent / "cohort.csv")
        table["split"] = table[content.data.patient].astype(str).map(part_of)
        table.to_csv(file.parent / "cohort.csv", index=False)
        OmegaConf.update(content, "data.split", {"column": "split"}, merge=False)
        data = {"patient": str(content.data.patient), "split": {"column": "split"}}
        OmegaConf.update(content, "declared_patients", declared_patients(table, data))
        OmegaConf.save(content, file)
    return to
