"""A small network on plain numeric columns: logistic regression, or hidden layers before it."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fedfm.config.study import Column
from fedfm.errors import DataError
from fedfm.examples import Example
from fedfm.model.classifier import Classifier, Inputs, Recipe
from fedfm.model.draws import kaiming_uniform, linear_head

LIMIT = 3.0
"""Scaled values are cut here, so that a wrong unit at one hospital cannot swamp a step."""


class TabularClassifier(Classifier):
    """Columns to logits. Each column gives two numbers: its scaled value, and 1 where it is missing.

    The scale is the study's public reference range (low is -1, high is +1, cut at ±3), never a site's own
    statistics. A missing value is 0, the middle of the range, and says so in the second number; without it
    a model could not tell "not measured" from "normal".
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        sizes = [2 * len(recipe.task.columns), *recipe.model.hidden]
        layers: list[nn.Module] = []
        for i, (size_in, size_out) in enumerate(pairwise(sizes)):
            layer = nn.Linear(size_in, size_out)
            with torch.no_grad():
                layer.weight.copy_(kaiming_uniform(recipe.seed, f"hidden.{i}.weight", (size_out, size_in)))
                layer.bias.zero_()
            layers += [layer, nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.head = linear_head(sizes[-1], self.labels, seed=recipe.seed)

    def encode(self, examples: Sequence[Example]) -> list[Tensor]:
        """Return float32[2F] for each example: F scaled values, then F marks of missing values."""
        return [_scaled(example, self.recipe.task.columns).T.flatten() for example in examples]

    def gather(self, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return float32[B, 2F] columns."""
        return (torch.stack(list(states)).to(self.device),)

    def classify(self, *gathered: Tensor) -> Tensor:
        """Return float32[B, C] logits from columns."""
        (columns,) = gathered
        return self._logits(columns)

    def inputs(self, examples: Sequence[Example]) -> Inputs:
        """Return columns as units of two numbers; saying nothing is the middle of the reference range."""
        columns = self.recipe.task.columns
        rows = [_scaled(example, columns) for example in examples]
        values = torch.stack(rows).to(self.device) if rows else self.head.weight.new_zeros((0, len(columns), 2))
        present = torch.ones(values.shape[:2], dtype=torch.bool, device=self.device)
        return Inputs(values=values, baseline=torch.zeros_like(values), present=present, removable=present)

    def logits_from_inputs(self, values: Tensor, present: Tensor) -> Tensor:
        """Return logits with columns that are not present set to the middle of their range."""
        kept = values * present.unsqueeze(-1)
        return self._logits(kept.transpose(1, 2).flatten(1))

    def _logits(self, columns: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(columns))
        return logits


def _scaled(example: Example, columns: Sequence[Column]) -> Tensor:
    """Return float32[F, 2]: scaled value and mark of missing."""
    if example.columns is None or len(example.columns) != len(columns):
        raise DataError(
            "SITE-E029",
            "the model reads numeric columns, and an example has none or another number of them",
            where="data.loader",
            found="no columns" if example.columns is None else f"{len(example.columns)} columns",
            allowed=f"{len(columns)} columns",
            fix="use loader: columns for a study with inputs: columns",
        )
    pairs = [
        (0.0, 1.0)
        if math.isnan(value)
        else (min(max(2.0 * (value - column.low) / (column.high - column.low) - 1.0, -LIMIT), LIMIT), 0.0)
        for value, column in zip(example.columns, columns, strict=True)
    ]
    return torch.tensor(pairs, dtype=torch.float32)
