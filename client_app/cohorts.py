"""A study's model and this site's examples behind its frozen part, kept warm between rounds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.data.catalog import load_splits
from client_app.memory import micro_batch_of
from client_app.model_problems import refuse_unfit
from client_app.state_cache import cached_states
from client_app.training import Cohort
from fedfm.arrays import Arrays
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import DataError
from fedfm.examples import Example, Splits
from fedfm.low_rank import FROZEN
from fedfm.model.build import model_of
from fedfm.model.classifier import Classifier
from fedfm.model.low_rank import frozen_as_built, set_frozen
from fedfm.parameters import load_trainable, trainable
from fedfm.plan import explains
from fedfm.signals import asks_losses, audit_attribute, group_loss_attribute


@dataclass(frozen=True)
class Prepared:
    """What stays loaded between the rounds of a study.

    Attributes:
        model: On the site's device; its trainable parameters are overwritten in each round.
        splits: Examples, disjoint by patient; cut to the study's most examples of a patient where the patient is
            the unit.
        train: Training units behind the frozen part.
        audit: Audit units behind the frozen part; empty where the study asks neither for their loss nor for reasons.
        test: Test units behind the frozen part.
        start: The parameters that every site starts from; names and shapes.
        micro_batch: Examples that go through the model at once.
        frozen: What the study's combiner changes beside the parameters, as built; empty where it changes nothing.
    """

    model: Classifier
    splits: Splits
    train: Cohort
    audit: Cohort
    test: Cohort
    start: Arrays
    micro_batch: int
    frozen: Arrays = field(default_factory=dict)


def prepare(site: Site, study: Study) -> Prepared:
    """Load data and model, and run the frozen part once over every example that is trained on or counted.

    Raises:
        DataError: The data does not fit the site file or the study, or too few patients.
        ModelError: The weights are absent or not the pinned ones, or the model cannot be trained privately.
    """
    splits = load_splits(site, study.task)
    if study.privacy.unit == "patient":  # between records the cut would let one take another's place
        most = study.privacy.max_examples_per_patient
        splits = Splits(*(_at_most(part, most) for part in (splits.train, splits.audit, splits.test)))
    _enough_patients(site, splits.train)
    model = model_of(study, weights=site.weights)
    refuse_unfit(model)
    model.to(device_of(site))
    train = _cohort(site, study, model, splits.train)
    return Prepared(
        model=model,
        splits=splits,
        train=train,
        audit=_cohort(site, study, model, splits.audit if _measures_audit(study) else ()),
        test=_cohort(site, study, model, splits.test),
        start=trainable(model),
        micro_batch=micro_batch_of(model, train.states, wanted=site.micro_batch),
        frozen=frozen_as_built(model, FROZEN.get(study.combining.rule, "")),
    )


def load_start(prepared: Prepared) -> None:
    """Put the public start into the model: what earlier requests left in it must not matter."""
    load_trainable(prepared.model, prepared.start)
    set_frozen(prepared.model, prepared.frozen)


def device_of(site: Site) -> torch.device:
    """Return where the site computes: the device of its file; for ``auto`` the first CUDA device, or else the CPU.

    Raises:
        DataError: A CUDA device is asked for that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if site.device == "cpu" or (site.device == "auto" and not count):
        return torch.device("cpu")
    number = int(site.device.partition(":")[2] or 0)
    if number < count:
        return torch.device("cuda", number)
    offered = f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0"
    raise DataError(
        "SITE-E130",
        "a CUDA device is asked for that this machine does not offer",
        where="device",
        found=f"device: {site.device}, and {count} CUDA devices",
        allowed=f"auto, cpu or {offered}" if count else "auto or cpu",
        fix="name one of these, and give it to the trainer's container"
        if count
        else "install a driver that fits torch, or set device: auto",
    )


def units_of(examples: Sequence[Example], *, by_record: bool) -> list[NDArray[np.intp]]:
    """Return the indices of the examples of each patient, or of each record alone; in order of appearance."""
    members: dict[object, list[int]] = {}
    for index, example in enumerate(examples):
        members.setdefault(index if by_record else example.patient, []).append(index)
    return [np.array(indices, dtype=np.intp) for indices in members.values()]


def _at_most(examples: Sequence[Example], most: int) -> tuple[Example, ...]:
    seen: dict[str, int] = {}
    kept = []
    for example in examples:
        seen[example.patient] = seen.get(example.patient, 0) + 1
        if seen[example.patient] <= most:
            kept.append(example)
    return tuple(kept)


def _cohort(site: Site, study: Study, model: Classifier, examples: Sequence[Example]) -> Cohort:
    return Cohort(
        states=cached_states(Path(site.state) / "cache", study, examples, model.encode),
        labels=torch.tensor([example.label for example in examples], dtype=torch.int64),
        units=units_of(examples, by_record=study.privacy.unit == "record"),
        weights=torch.ones(len(examples)),
    )


def _measures_audit(study: Study) -> bool:
    return asks_losses(study) or explains(study) or bool(audit_attribute(study) or group_loss_attribute(study))


def _enough_patients(site: Site, train: Sequence[Example]) -> None:
    patients = len({example.patient for example in train})
    if patients < site.policy.min_patients:
        raise DataError(
            "SITE-E021",
            "too few training patients to take part",
            where=f"policy.min_patients of {site.id}",
            allowed=f"at least {site.policy.min_patients}",
            fix="take part when the cohort has grown",
        )
