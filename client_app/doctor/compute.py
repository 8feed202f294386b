"""The machine: does a real private step run on it, how fast, and in how much memory. Random examples, no patient's."""

import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from client_app.cohorts import device_of
from client_app.doctor.examined import Examined
from client_app.doctor.studies import study_for
from client_app.memory import bytes_of_example, free_bytes, micro_batch_of
from client_app.model_problems import refuse_unfit
from client_app.noise import secure_uniform
from client_app.private_step import Mechanism
from client_app.training import Cohort, private_steps
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import DataError
from fedfm.examples import Example
from fedfm.findings import Finding, of_error
from fedfm.model.build import model_of
from fedfm.model.classifier import Classifier

_EXAMPLES, _WORDS = 16, 200
"""Of the trial: so many examples of so many words, long for a note."""

_SHM = Path("/dev/shm")  # noqa: S108 - looked at, not written to
_SHM_LEAST = 64 * 2**20  # what a container has where nobody says otherwise


def findings(examined: Examined) -> Iterator[Finding]:
    """Yield what is to be said of processors, GPUs and memory, and of one trial of the study's training."""
    site = examined.site
    yield _threads(site.threads, processors=len(os.sched_getaffinity(0)))
    yield _shared_memory()
    yield from _gpus(site)
    try:
        device = device_of(site)
    except DataError as error:
        yield from of_error("compute", "device", error)
        return
    yield Finding("compute", "device", "pass", f"computes on {device}, as device: {site.device} asks")
    yield from _trial(site, study_for(examined), device)


def _threads(wanted: int, *, processors: int) -> Finding:
    if wanted > processors:
        what = f"threads: {wanted} asks for more than the {processors} processors that this process may use"
        return Finding("compute", "threads", "warn", what, "SITE-W031", f"threads: {processors}, or 0 for all")
    return Finding("compute", "threads", "pass", f"{wanted or processors} threads on {processors} processors")


def _shared_memory() -> Finding:
    if not _SHM.is_dir():
        return Finding("compute", "shared memory", "skip", f"there is no {_SHM} on this system")
    size = shutil.disk_usage(_SHM).total
    if size < _SHM_LEAST:
        what, fix = f"{_SHM} holds {size / 2**20:.0f} MiB only", "shm_size: 64m in compose"
        return Finding("compute", "shared memory", "warn", what, "SITE-W032", fix)
    return Finding("compute", "shared memory", "pass", f"{_SHM} holds {size / 2**20:.0f} MiB")


def _gpus(site: Site) -> Iterator[Finding]:
    """Name each GPU that torch sees; where it sees none and the driver does, say so."""
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, whole = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            what = f"cuda:{number} {name}: {free / 2**30:.1f} of {whole / 2**30:.1f} GiB free"
            yield Finding("compute", "GPU", "pass", what)
        return
    seen, build = _driver(), torch.version.cuda
    if seen and site.device != "cpu":
        made = f"CUDA {build}" if build else "the CPU alone"
        what = f"the driver shows {seen}, and torch, which is built for {made}, cannot use it"
        fix = "install the build of torch that fits the driver, or a driver that fits torch; or device: cpu"
        yield Finding("compute", "GPU", "warn", what, "SITE-W030", fix)
    else:
        yield Finding("compute", "GPU", "pass", "none here, or none wanted: the CPU computes")


def _driver() -> str:
    """Return what nvidia-smi says of its GPUs and the driver; empty where it is not there or finds none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - fixed
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(done.stdout.split("\n")).strip("; ") if done.returncode == 0 else ""


def _trial(site: Site, study: Study, device: torch.device) -> Iterator[Finding]:
    """Take two private steps with the study's model and look at the second; the first warms up."""
    model = model_of(study, weights=site.weights)
    refuse_unfit(model)
    model.to(device)
    states = model.encode(random_examples(study))
    yield _memory(site, model, states)
    micro_batch = micro_batch_of(model, states, wanted=site.micro_batch)
    seconds = timed_steps(model, states, study, micro_batch=micro_batch)
    peak = (
        torch.cuda.max_memory_allocated(device)
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    what = (
        f"a private step of {study.adapter.method} on {study.model.backbone} with {_EXAMPLES} random examples: "
        f"{seconds:.2f} s; at most {peak / 2**30:.1f} GiB, with all that this process holds"
    )
    yield Finding("compute", "private step", "pass", what)


def _memory(site: Site, model: Classifier, states: Sequence[Tensor]) -> Finding:
    longest = max(states, key=lambda state: state.numel())
    one, free = bytes_of_example(model, longest), free_bytes(model.device)
    wanted = (site.micro_batch or 1) * one
    if wanted > free:
        what = f"micro_batch: {site.micro_batch} takes about {wanted / 2**30:.1f} GiB, and {free / 2**30:.1f} are free"
        fix = f"micro_batch: {max(1, int(0.5 * free / one))}, or 0; or more memory for the trainer"
        return Finding("compute", "memory", "fail", what, "SITE-E131", fix)
    what = f"about {one / 2**20:.1f} MiB for an example, {free / 2**30:.1f} GiB free"
    return Finding("compute", "memory", "pass", what)


def random_examples(study: Study) -> list[Example]:
    """Return examples of random words or numbers, one of each patient that is nobody."""
    rng = random.Random(0)  # noqa: S311 - words, no secret
    columns = study.task.columns
    if study.task.inputs == "columns":
        rows = ([rng.uniform(one.low, one.high) for one in columns] for _ in range(_EXAMPLES))
        return [Example(f"{n}", n % 2, columns=tuple(row)) for n, row in enumerate(rows)]
    texts = (" ".join(rng.choices(("fever", "stable", "cough", "pain", "rest"), k=_WORDS)) for _ in range(_EXAMPLES))
    return [Example(f"{n}", n % 2, text=text) for n, text in enumerate(texts)]


def timed_steps(model: Classifier, states: Sequence[Tensor], study: Study, *, micro_batch: int) -> float:
    """Return the seconds of the second of two private steps on all examples."""
    cohort = Cohort(
        states=states,
        labels=torch.arange(len(states)) % 2,
        units=[np.array([index], dtype=np.intp) for index in range(len(states))],
        weights=torch.ones(len(states)),
    )
    training = replace(study.training, local_steps=2, sample_rate=1.0)
    mechanism = Mechanism(1.0, study.privacy.max_grad_norm or 1.0, len(states), study.privacy.clipping)
    moments = [time.perf_counter()]
    for _ in private_steps(
        model, cohort, training=training, mechanism=mechanism, micro_batch=micro_batch, uniform=secure_uniform
    ):
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        moments.append(time.perf_counter())
    return moments[-1] - moments[-2]
