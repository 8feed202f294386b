"""The study: does it compose, are its weights there and the pinned ones, can its public texts be read."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from fedfm.config.compose import compose_study
from fedfm.config.study import Study
from fedfm.errors import FedFMError
from fedfm.findings import Finding, of_error
from server_app.doctor.asked import Asked


def findings(asked: Asked) -> Iterator[Finding]:
    """Yield what is to be said of the study that ``conf/`` and the overrides make; nothing is trained."""
    try:
        study = compose_study(asked.overrides).value
    except FedFMError as error:
        yield from of_error("study", "settings", error)
        return
    yield Finding("study", "settings", "pass", f"{study.name}: every setting is one that can be")
    yield from _looked_at("weights", partial(_weights, study))
    for setting, path in references(study).items():
        yield from _looked_at(setting, partial(_reference, study, setting, path))


def references(study: Study) -> dict[str, Path]:
    """Return the settings that name public texts, with the files."""
    told = {
        "explainability.reference": study.explainability.reference,
        "contribution.params.reference": study.contribution.params.get("reference", ""),
    }
    return {setting: Path(str(path)) for setting, path in told.items() if path}


def _weights(study: Study) -> str:
    if study.model.source in ("random", "none"):
        return "none: the model begins with random ones" if study.model.source == "random" else "none are needed"
    from fedfm.model.source import weights_folder  # noqa: PLC0415 - torch

    weights_folder(study.model, copies={})
    return f"those that the study pins ({study.model.sha256[:12]}...)"


def _reference(study: Study, setting: str, path: Path) -> str:
    from server_app.reference import read_reference  # noqa: PLC0415 - torch

    examples = read_reference(path, study.task, setting=setting)
    return f"{path}: {len(examples)} public examples"


def _looked_at(check: str, look: Callable[[], str]) -> Iterator[Finding]:
    try:
        yield Finding("study", check, "pass", look())
    except FedFMError as error:
        yield from of_error("study", check, error)
    except ModuleNotFoundError as error:
        yield Finding("study", check, "skip", f"not installed here: {error.name}")
