"""Credits from what the predicted logit loses when words are not there; no gradients.

Each costs a forward pass for each document and removed window, over documents that shorten as words go.
"""

import torch
from torch import Tensor

from fedfm.explain.credits import ROWS, Attribution, Method, predicted
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


@torch.no_grad()
def _removed(model: Classifier, inputs: Inputs, *, window: int) -> Attribution:
    target, reached = predicted(model, inputs)
    window_of = torch.where(inputs.removable, inputs.words // window, -1)
    example, removed = _jobs(window_of, inputs.present)
    credits_ = inputs.values.new_zeros(window_of.shape)
    for start in range(0, len(example), ROWS):  # of documents without a word there is nothing to run
        row, gone = example[start : start + ROWS], removed[start : start + ROWS]
        hit = window_of[row] == gone[:, None]
        logits = model.logits_from_inputs(inputs.values[row], inputs.present[row] & ~hit)
        drop = reached[row] - logits.gather(1, target[row, None]).squeeze(1)
        credits_.index_add_(0, row, hit * (drop / hit.sum(1)).unsqueeze(1))
    return Attribution(target, credits_, completeness_error=None)


def _jobs(window_of: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return int64[J] examples and int64[J] the windows that are removed from them, most units left first.

    Rows that are like in length go through the model together, so that little is padding.
    """
    example, unit = (window_of >= 0).nonzero(as_tuple=True)
    jobs, units = torch.unique(torch.stack([example, window_of[example, unit]], 1), dim=0, return_counts=True)
    left = present.sum(1)[jobs[:, 0]] - units
    jobs = jobs[left.argsort(descending=True, stable=True)]
    return jobs[:, 0], jobs[:, 1]
