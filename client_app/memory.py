"""How many examples go through the model at once, from the memory that is free."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from client_app.layer_gradients import untrackable
from fedfm.model.classifier import Classifier

MOST = {"cpu": 64, "cuda": 512}
"""More examples at once make no step quicker; they only pad more."""

_SHARE = 0.5
"""Of the free memory that a step may take; the rest is for what else the machine does."""
_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 2**62


def micro_batch_of(model: Classifier, states: Sequence[Tensor], *, wanted: int) -> int:
    """Return how many examples a step holds at once: ``wanted``, or by the free memory where that is 0.

    Args:
        model: On its device.
        states: What ``encode`` returned; the longest one counts.
        wanted: The site's setting ``micro_batch``.

    Guarantees:
        At least 1, and at most ``MOST``. The result of a step does not depend on it, up to rounding.
    """
    most = MOST[model.device.type]
    if wanted or not states:
        return wanted or most
    longest = max(states, key=lambda state: state.numel())
    return max(1, min(most, int(_SHARE * free_bytes(model.device)) // bytes_of_example(model, longest)))


def bytes_of_example(model: Classifier, state: Tensor) -> int:
    """Return about how much memory one example takes in a private step, measured in one pass through the model.

    What the backward pass needs of the forward pass, twice: the second time for gradients. Where each example has a
    gradient over the whole model, that gradient and a working copy come on top.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, int] = {}

    def count(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(count, lambda saved: saved):
        logits = model([state])
    del logits
    alone = 2 * _trained_bytes(model) if untrackable(model) else 0
    return max(1, 2 * sum(seen.values()) + alone)


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on the device; on a CPU no more than the container may still take.

    On a GPU what torch holds of it and does not use counts as free: the frozen part has just run over every example.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_available(), _left_to_container(_CGROUP))


def _trained_bytes(model: nn.Module) -> int:
    return sum(own.numel() * own.element_size() for own in model.parameters() if own.requires_grad)


def _available() -> int:
    """Return MemAvailable, which counts the page cache as free; where there is none, the pages that are free."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return (
        os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_AVPHYS_PAGES" in os.sysconf_names else 2**32
    )


def _left_to_container(folder: Path) -> int:
    """Return what a container's limit (cgroup v2) leaves; very much where there is none."""
    limit, used = folder / "memory.max", folder / "memory.current"
    if not limit.exists() or not used.exists():
        return _UNLIMITED
    allowed = limit.read_text().strip()
    return _UNLIMITED if allowed == "max" else max(0, int(allowed) - int(used.read_text()))
