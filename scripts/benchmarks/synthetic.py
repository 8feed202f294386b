"""Synthetic(1,1): sites whose labels follow another model each, to see what a weighting rule does for the worst.

Recipe: Li, Sanjabi, Beirami and Smith (2020, arXiv:1905.10497), section 4.1, as the authors' generator has it: 100
sites, 60 features, 10 classes, sizes lognormal. Published with q = 0 and 1 (table 1): mean accuracy 80.8 and 79.0 %,
worst tenth 18.8 and 31.1 %, variance 724 and 472 (accuracy in percent). Absolute values depend on the draw and on how
far training goes; the direction does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server_app.weighting.heard import Heard, Signal, SiteReport, Weighed

Table = NDArray[np.float64]

SITES, FEATURES, CLASSES = 100, 60, 10
MOST_EXAMPLES = 4000
"""Most examples of a site: the largest of a lognormal draw would outweigh, and outlast, all others together."""

TEST_EXAMPLES = 2000
"""Of each site, drawn anew: a fifth of the smallest is 10, and the worst tenth would be that of chance."""

_TRAIN = 0.8  # of a site's examples, as published; the others are not looked at


@dataclass(frozen=True)
class SyntheticSite:
    """One site: float64[N, F] features and int[N] classes, to train on and to test on."""

    train: tuple[Table, NDArray[np.intp]]
    test: tuple[Table, NDArray[np.intp]]


@dataclass(frozen=True)
class Spread:
    """How the sites fare, in percent.

    Attributes:
        mean: Mean over sites of the test accuracy.
        worst: The same of the worst tenth of the sites.
        best: The same of the best tenth.
        variance: Variance over sites, in squared percent.
    """

    mean: float
    worst: float
    best: float
    variance: float


def synthetic(seed: int, *, alpha: float = 1.0, beta: float = 1.0) -> list[SyntheticSite]:
    """Return the sites of Synthetic(alpha, beta).

    Args:
        seed: Of all chance.
        alpha: How much the sites' models differ.
        beta: How much their features differ.
    """
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.lognormal(4, 2, SITES).astype(int) + 50, MOST_EXAMPLES)
    models, centres = rng.normal(0, alpha, SITES), rng.normal(0, beta, SITES)
    deviations = np.sqrt(np.arange(1, FEATURES + 1) ** -1.2)
    return [_site(rng, int(n), models[k], (centres[k], deviations)) for k, n in enumerate(sizes)]


def _site(rng: np.random.Generator, size: int, model: float, spread: tuple[float, Table]) -> SyntheticSite:
    centre, deviations = spread
    middle = rng.normal(centre, 1, FEATURES)
    slopes, offsets = rng.normal(model, 1, (FEATURES, CLASSES)), rng.normal(model, 1, CLASSES)

    def examples(number: int) -> tuple[Table, NDArray[np.intp]]:
        features = middle + deviations * rng.normal(size=(number, FEATURES))
        return features, (features @ slopes + offsets).argmax(axis=1)

    return SyntheticSite(examples(int(_TRAIN * size)), examples(TEST_EXAMPLES))


def federated(
    sites: Sequence[SyntheticSite], weigh: Callable[[Heard], Weighed], *, rounds: int, learning_rate: float
) -> Table:
    """Return float64[F + 1, C], a linear model trained in a federation whose weights a rule gives.

    In each round every site takes one gradient step from where all are; momentum 0.9 is the coordinator's.

    Args:
        sites: The sites.
        weigh: The rule; it hears each site's exact training loss under the model that the site has received.
        rounds: Rounds.
        learning_rate: Of the sites' step.
    """
    names = [f"site-{number:03}" for number in range(len(sites))]
    sizes = [len(site.train[1]) for site in sites]
    features = np.concatenate([_with_one(site.train[0]) for site in sites])
    classes = np.concatenate([site.train[1] for site in sites])
    starts, rows = np.cumsum([0, *sizes[:-1]]), np.arange(len(classes))
    model = np.zeros((FEATURES + 1, CLASSES))
    velocity, state = np.zeros_like(model), Weighed(np.zeros(0)).state
    for _ in range(rounds):
        chances = _softmax(features @ model)
        losses = np.add.reduceat(-np.log(np.maximum(chances[rows, classes], 1e-300)), starts) / sizes
        heard = [
            SiteReport(name, size, loss=Signal(float(loss), 0.0))
            for name, size, loss in zip(names, sizes, losses, strict=True)
        ]
        weighed = weigh(Heard(heard, state=state))
        chances[rows, classes] -= 1
        chances *= np.repeat(weighed.weights / sizes, sizes)[:, None]
        velocity = 0.9 * velocity - learning_rate * (features.T @ chances)
        model, state = model + velocity, weighed.state
    return model


def spread_of(sites: Sequence[SyntheticSite], model: Table) -> Spread:
    """Return how the sites' test examples fare under a model of ``federated``."""
    accuracies = np.sort(
        [100 * float(((_with_one(x) @ model).argmax(axis=1) == y).mean()) for x, y in (site.test for site in sites)]
    )
    tenth = len(accuracies) // 10
    return Spread(
        mean=float(accuracies.mean()),
        worst=float(accuracies[:tenth].mean()),
        best=float(accuracies[-tenth:].mean()),
        variance=float(accuracies.var()),
    )


def _with_one(features: Table) -> Table:
    return np.column_stack([features, np.ones(len(features))])


def _softmax(scores: Table) -> Table:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Table = raised / raised.sum(axis=1, keepdims=True)
    return found
