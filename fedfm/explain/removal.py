"""Credits from what the predicted logit loses when words are not there; no gradients.

Each costs a forward pass for each document and removed window, over documents that shorten as words go.
"""

import torch
from torch import Tensor

from fedfm.explain.credits import Attribution, Method, predicted
from fedfm.explain.passes import logits_of
from fedfm.model.classifier import Classifier, Inputs

WINDOW = 4
"""Words of a window, from the first of a document on; they do not overlap."""


def leave_one_out(model: Classifier, inputs: Inputs, _method: Method) -> Attribution:
    """Return how much of the predicted logit goes with each word, or column; a word's tokens share it equally.

    The words keep their positions. The gold standard of single words, at a forward pass for each.

    Source: Li, Monroe, Jurafsky 2016, arXiv:1612.08220, equation 1, of the logit.
    """
    return _removed(model, inputs, window=1)


def occlusion(model: Classifier, inputs: Inputs, _method: Method) -> Attribution:
    """Return how much of the predicted logit goes with each window of ``WINDOW`` words; its tokens share it equally.

    Source: Zeiler, Fergus 2014, arXiv:1311.2901, section 4.2, with words that are deleted in place of a grey square.
    """
    return _removed(model, inputs, window=WINDOW)


def _removed(model: Classifier, inputs: Inputs, *, window: int) -> Attribution:
    target, reached = predicted(model, inputs)
    window_of = torch.where(inputs.removable, inputs.words // window, -1)
    example, removed = _jobs(window_of)
    credits_ = inputs.values.new_zeros(window_of.shape)
    hit = window_of[example] == removed[:, None]
    logits = logits_of(model, lambda rows: inputs.values[example[rows]], inputs.present[example] & ~hit)
    drop = reached[example] - logits.gather(1, target[example, None]).squeeze(1)
    credits_.index_add_(0, example, hit * (drop / hit.sum(1)).unsqueeze(1))
    return Attribution(target, credits_, completeness_error=None)


def _jobs(window_of: Tensor) -> tuple[Tensor, Tensor]:
    """Return int64[J] examples and int64[J] the windows that are removed from them."""
    example, unit = (window_of >= 0).nonzero(as_tuple=True)
    jobs = torch.unique(torch.stack([example, window_of[example, unit]], 1), dim=0)
    return jobs[:, 0], jobs[:, 1]
