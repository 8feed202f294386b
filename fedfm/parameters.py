"""Trainable parameters of a model as named arrays, and back."""

import numpy as np
import torch
from torch import nn

from fedfm.arrays import Arrays, check_layout


def trainable(model: nn.Module) -> Arrays:
    """Return float32 copies of the trainable parameters by public name.

    The public name is the parameter's, without the adapter name that PEFT puts into it
    (``...lora_B.default.weight`` is ``...lora_B.weight``, ``...ia3_l.default`` is ``...ia3_l``).
    """
    return {name: _array(parameter) for name, parameter in _by_public_name(model).items()}


def load_trainable(model: nn.Module, arrays: Arrays) -> None:
    """Overwrite the trainable parameters in place; on the model's device, other parameters untouched.

    Raises:
        IncompatibleUpdate: A name or shape differs; nothing has been changed then.
    """
    parameters = _by_public_name(model)
    check_layout(arrays, like={name: _array(parameter) for name, parameter in parameters.items()})
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(np.array(arrays[name], dtype=np.float32)))


def public_name(name: str) -> str:
    """Return a parameter's name without PEFT's adapter name."""
    return name.replace(".default.", ".").removesuffix(".default")


def _by_public_name(model: nn.Module) -> dict[str, nn.Parameter]:
    return {public_name(name): parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _array(parameter: nn.Parameter) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return parameter.detach().cpu().numpy().astype(np.float32, copy=True)
