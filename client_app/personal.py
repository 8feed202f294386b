"""A model of the site's own beside the federated one: Ditto (Li et al. 2021, arXiv:2012.04221, algorithm 1).

It is trained on the site's patients without noise, and never leaves: it costs no epsilon, and whoever holds its file
holds what the patients' notes say. The released update is made before it is touched, by the same numbers as without it.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import torch
from torch import Tensor, nn

from client_app.asked import Round
from client_app.fine_tuning import steps, training_of
from client_app.own_files import keep_model, kept_model
from client_app.training import Cohort, pull, trained
from fedfm.arrays import Arrays
from fedfm.parameters import load_trainable, trainable


def train_beside(asked: Round, cohort: Cohort) -> None:
    """Take the round's steps on the site's own model, which begins as the first model received; keep it.

    Args:
        asked: The request of a round of training; its parameters are what the personal model is pulled to.
        cohort: The site's training units, with their loss weights.

    Guarantees:
        Parameters and gradients of the model are afterwards what they were before.

    Raises:
        FedFMError: The kept model cannot be read or written, or training took longer than the policy allows.
    """
    if asked.study.personal.method == "none":
        return
    model, path = asked.prepared.model, asked.kept("personal", ".safetensors")
    released = trainable(model)
    load_trainable(model, asked.request.parameters)
    parameters, received = trained(model)
    load_trainable(model, kept_personal(asked) or asked.request.parameters)
    decay = replace(training_of(asked), proximal=0.0)
    # clipped as the study's, so that a step is as long, and without noise
    with closing(steps(asked, cohort, noise_multiplier=0.0, number=asked.request.round)) as taken:
        for _ in taken:
            pull(parameters, received, decay)
            draw(parameters, received, length=decay.learning_rate * asked.study.personal.pull)
    keep_model(path, trainable(model))
    load_trainable(model, released)


def kept_personal(asked: Round) -> Arrays | None:
    """Return the site's own model of this run; None before its first round."""
    return kept_model(asked.kept("personal", ".safetensors"))


def draw(parameters: Sequence[nn.Parameter], towards: Sequence[Tensor], *, length: float) -> None:
    """Take the proximal step of ``pull / 2 * ||v - w||^2``: v <- (v + length * w) / (1 + length).

    The point at which training rests is that of the explicit step ``v - length * (v - w)``, which overshoots from a
    length of 1 on and runs away from 2 on; this one never does.

    Args:
        parameters: v, changed in place.
        towards: w.
        length: Step length times pull; >= 0.
    """
    with torch.no_grad():
        for parameter, end in zip(parameters, towards, strict=True):
            parameter.lerp_(end, length / (1 + length))
