"""How much each token or column speaks for the predicted class, by a method of choice.

To add one: write a function with the signature of ``integrated_gradients``, add it to ``ATTRIBUTIONS``, its name
to the choices of ``explainability.attribution`` and a file to ``conf/explainability``. It gets each example's
credits from that example alone (``Inputs`` of a batch hold several patients), and leaves the model as it was.
"""

from collections.abc import Callable

from fedfm.config.explainability import Explainability
from fedfm.explain.credits import Attribution, Method
from fedfm.explain.gradients import expected_gradients, gradient_input, gradient_norm, integrated_gradients
from fedfm.explain.guard import refuse_hooks
from fedfm.explain.removal import leave_one_out, occlusion
from fedfm.explain.rollout import attention_rollout
from fedfm.model.classifier import Classifier, Inputs

__all__ = ["ATTRIBUTIONS", "Attribution", "Method", "attribute", "method_of", "refuse_hooks"]

ATTRIBUTIONS: dict[str, Callable[[Classifier, Inputs, Method], Attribution]] = {
    "integrated_gradients": integrated_gradients,
    "expected_gradients": expected_gradients,
    "gradient_input": gradient_input,
    "gradient_norm": gradient_norm,
    "occlusion": occlusion,
    "leave_one_out": leave_one_out,
    "attention_rollout": attention_rollout,
}
"""Name to what credits units; ``attribute`` calls it."""


def method_of(asked: Explainability) -> Method:
    """Return how a study credits words."""
    return Method(asked.attribution, asked.steps, asked.baseline)


def attribute(model: Classifier, inputs: Inputs, method: Method) -> Attribution:
    """Credit the units of each example by the named method.

    Guarantees:
        An example's credits depend on no other example of the batch, up to rounding. Parameters, their gradients
        and flags, the training mode and torch's global random state are as before. Finite where the model is.

    Raises:
        ModelError: Hooks are attached, by a private step or anything else; a backward pass now could corrupt it.
            Or the model lacks what the method needs.
    """
    refuse_hooks(model)
    return ATTRIBUTIONS[method.name](model, inputs, method)
