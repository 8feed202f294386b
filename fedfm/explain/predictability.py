"""Whether the reasons of a model tell which site trained it: a regression on profiles of held-out documents."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Profiles = NDArray[np.float64]

FOLDS = 5
"""Parts of the documents, each held out once."""


def held_out_chances(profiles: Profiles, *, rng: np.random.Generator) -> Profiles:
    """Return float64[S, N, S]: for site s's profile of document n the chance of each site, by others' documents.

    A document is held out under all sites at once; otherwise what the document is about would give its profiles
    away. Features are centred and scaled by the documents that are learnt from.

    Args:
        profiles: float64[S, N, F], finite; N at least ``FOLDS``.
        rng: Draws which documents are held out together.
    """
    sites, documents, features = profiles.shape
    fold = rng.permutation(documents) % FOLDS
    chances = np.zeros((sites, documents, sites))
    labels = torch.arange(sites).repeat_interleave(documents).view(sites, documents)
    for held in range(FOLDS):
        known = profiles[:, fold != held].reshape(-1, features)
        middle, spread = known.mean(0), known.std(0)
        scaled = torch.from_numpy((profiles - middle) / np.where(spread > 0, spread, 1.0))
        rest, out = torch.from_numpy(fold != held), torch.from_numpy(fold == held)
        weights = _regression(scaled[:, rest].flatten(0, 1), labels[:, rest].flatten(), classes=sites)
        chances[:, fold == held] = (_with_one(scaled[:, out]) @ weights).softmax(-1).numpy()
    return chances


def _regression(features: Tensor, labels: Tensor, *, classes: int) -> Tensor:
    """Return float64[F + 1, classes] of multinomial logistic regression, the last row the intercepts.

    The penalty is half the squared length of the weights, against the sum of the cross-entropies; the intercepts are
    free. This is scikit-learn's ``LogisticRegression()``.
    """
    rows = _with_one(features)
    weights = torch.zeros(rows.shape[1], classes, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [weights], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        entropy = torch.nn.functional.cross_entropy(rows @ weights, labels, reduction="sum")
        total: Tensor = (entropy + weights[:-1].square().sum() / 2) / len(rows)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        search.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_ones(*features.shape[:-1], 1)], dim=-1)
