"""No explanation goes through hooks, whoever put them there and in whatever shape."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleHooks, GradSampleModule
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_hook

from client_app.layer_gradients import Grouping, recording
from fedfm.errors import ModelError
from fedfm.explain.attribution import ATTRIBUTIONS, Method, attribute
from fedfm.explain.audit import Watched, audit
from fedfm.explain.guard import refuse_hooks
from fedfm.model.classifier import Classifier
from tests.unit.fedfm.explained_cases import CASES, case


def hook(*_arguments: object) -> None:
    """Record something, for all that can be known."""


def nothing_to_undo() -> None: ...


def opacus_hooks(model: Classifier) -> Callable[[], None]:
    return GradSampleHooks(model, loss_reduction="sum").cleanup


def opacus_wrapper(model: Classifier) -> Callable[[], None]:
    wrapped = GradSampleModule(model, loss_reduction="sum")
    return wrapped.remove_hooks


def opacus_wrapper_asleep(model: Classifier) -> Callable[[], None]:
    wrapped = GradSampleModule(model, loss_reduction="sum")
    wrapped.disable_hooks()
    return wrapped.remove_hooks


def opacus_functorch(model: Classifier) -> Callable[[], None]:
    wrapped = GradSampleModule(model, loss_reduction="sum", force_functorch=True)
    return wrapped.remove_hooks


def opacus_from_outside(model: Classifier) -> Callable[[], None]:
    return GradSampleHooks(nn.Sequential(model), loss_reduction="sum").cleanup


def opacus_on_the_head(model: Classifier) -> Callable[[], None]:
    model.head = GradSampleModule(model.head, loss_reduction="sum")  # type: ignore[assignment]
    return nothing_to_undo


def of_the_site(model: Classifier) -> Callable[[], None]:
    block = recording(model, Grouping(torch.zeros(1, dtype=torch.int64), 1))
    block.__enter__()

    def undo() -> None:
        with pytest.raises(ModelError, match="MODEL-E150"):  # nothing went through the step
            block.__exit__(None, None, None)

    return undo


def a_partial(model: Classifier) -> Callable[[], None]:
    return model.head.register_forward_hook(functools.partial(hook, "kept")).remove


def a_closure(model: Classifier) -> Callable[[], None]:
    seen: list[object] = []
    return model.head.register_forward_hook(lambda *arguments: seen.append(arguments)).remove


def before_the_layer(model: Classifier) -> Callable[[], None]:
    return model.head.register_forward_pre_hook(hook).remove


def backward(model: Classifier) -> Callable[[], None]:
    return model.head.register_full_backward_hook(hook).remove


def before_backward(model: Classifier) -> Callable[[], None]:
    return model.head.register_full_backward_pre_hook(hook).remove


def on_the_whole(model: Classifier) -> Callable[[], None]:
    return model.register_forward_hook(hook, with_kwargs=True).remove


def on_all_modules(_model: Classifier) -> Callable[[], None]:
    return register_module_forward_hook(hook).remove


def backward_on_all_modules(_model: Classifier) -> Callable[[], None]:
    return register_module_full_backward_hook(hook).remove


WAYS = [
    opacus_hooks,
    opacus_wrapper,
    opacus_wrapper_asleep,
    opacus_functorch,
    opacus_from_outside,
    opacus_on_the_head,
    of_the_site,
    a_partial,
    a_closure,
    before_the_layer,
    backward,
    before_backward,
    on_the_whole,
    on_all_modules,
    backward_on_all_modules,
]


@contextmanager
def attached(way: Callable[[Classifier], Callable[[], None]], model: Classifier) -> Iterator[None]:
    undo = way(model)
    try:
        yield
    finally:
        undo()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["text", "columns"])
def test_every_method_refuses_a_model_with_hooks_however_it_is_called(way, kind: str) -> None:  # noqa: ANN001 - many ways
    model, examples = case(kind)
    inputs = model.inputs(examples)
    with attached(way, model):
        for name in (name for of, name in CASES if of == kind):
            with pytest.raises(ModelError, match="MODEL-E147"):
                attribute(model, inputs, Method(name, steps=2))
            with pytest.raises(ModelError, match="MODEL-E147"):
                ATTRIBUTIONS[name](model, inputs, Method(name, steps=2))
        with pytest.raises(ModelError, match="MODEL-E147"):
            audit(model, examples, method=Method(steps=2), watched=Watched(), rng=np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["text", "columns"])
def test_a_model_whose_hooks_are_gone_is_explained_again(kind: str) -> None:
    model, _ = case(kind)
    for way in (opacus_hooks, opacus_wrapper, of_the_site, a_partial, backward, on_all_modules):
        with attached(way, model):
            pass
        refuse_hooks(model)
