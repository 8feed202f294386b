"""Synthetic hospitals that accept a model with random weights, for benchmarks of speed."""

from pathlib import Path

from omegaconf import OmegaConf

from server_app.demo_data import make_demo_data


def write_hospitals(folder: Path, *, sites: int, patients: int, seed: int) -> list[Path]:
    """Write hospitals and return each site.yaml."""
    files = make_demo_data(folder, sites=sites, patients=patients, seed=seed)
    for file in files:
        content = OmegaConf.load(file)
        OmegaConf.update(content, "policy.allow_random_weights", value=True, force_add=True)
        OmegaConf.save(content, file)
    return files
