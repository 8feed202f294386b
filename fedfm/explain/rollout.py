"""Credits from where a transformer looks, for comparison with methods that ask what it decides by."""

import torch
from torch import Tensor

from fedfm.errors import ModelError
from fedfm.explain.credits import Attribution, Method, predicted
from fedfm.model.classifier import Classifier, Inputs
from fedfm.model.text import TextClassifier

DOCUMENTS = 8
"""Documents at once: every head's attention over pairs of tokens is held."""


def attention_rollout(model: Classifier, inputs: Inputs, _method: Method) -> Attribution:
    """Return how much of each token flows into the mean over tokens, when attention is all that moves anything.

    The product over layers of ``(I + mean attention of the heads) / 2``, averaged over the tokens that are pooled.
    Never negative, and the same for every class and every head of the classifier: it says nothing about the decision,
    and fails the randomisation test.

    Raises:
        ModelError: The model has no attention.

    Source: Abnar, Zuidema 2020, arXiv:2005.00928, section 3.
    """
    if not isinstance(model, TextClassifier):
        raise ModelError(
            "MODEL-E152",
            "attention was asked of a model without any",
            where="explainability.attribution",
            found="attention_rollout",
            allowed="a text model, of the BERT family",
            fix="choose explainability=integrated_gradients",
        )
    target, _ = predicted(model, inputs)
    parts = zip(torch.split(inputs.values, DOCUMENTS), torch.split(inputs.present, DOCUMENTS), strict=True)
    flow = torch.cat([_flow(model, values, present) for values, present in parts])
    return Attribution(target, flow.masked_fill(~inputs.removable, 0.0), completeness_error=None)


@torch.no_grad()
def _flow(model: TextClassifier, values: Tensor, present: Tensor) -> Tensor:
    """Return float32[B, T], together 1 over the tokens that are present: the share of each in what is pooled."""
    # Multiplied from the output downwards a row would do; from the input upwards no layer has to be kept.
    rolled = torch.eye(present.shape[1], device=values.device).expand(len(values), -1, -1)
    for attention in model.attentions(values, present):
        rolled = (rolled + attention.mean(1) @ rolled) / 2
    pooled = present.unsqueeze(-1)
    return (rolled * pooled).sum(1) / pooled.sum(1)
