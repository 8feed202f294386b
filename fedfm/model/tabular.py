"""A small network on plain numeric columns: logistic regression, or hidden layers before it."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from fedfm.errors import DataError
from fedfm.examples import Example
from fedfm.model.classifier import Classifier, Inputs, Recipe
from fedfm.model.draws import kaiming_uniform, linear_head, uniform
from fedfm.model.standardization import of_columns

LIMIT = 3.0
"""Standardised values are cut here, so that a wrong unit at one hospital cannot swamp a step."""

_FARTHEST = 1e6  # scaled values are kept up to here; infinity less a mean would be no number


class TabularClassifier(Classifier):
    """Columns to logits. Each column gives two numbers: its standardised value, and 1 where it is missing.

    ``encode`` scales by the study's public reference range (low is -1, high is +1), unless the study standardises
    by ``none``. ``standard`` then centres and scales by pooled statistics, if there are any, and the result is cut
    at ±3. A missing value is 0, the middle of the range or the mean, and says so in the second number; without it
    a model could not tell "not measured" from "normal". Where ``task.mark_missing`` is off, the network reads
    the values alone: half the parameters, and half the noise.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        per_column = 2 if recipe.task.mark_missing else 1
        sizes = [per_column * len(recipe.task.columns), *recipe.model.hidden]
        layers: list[nn.Module] = []
        for i, (size_in, size_out) in enumerate(pairwise(sizes)):
            layer = nn.Linear(size_in, size_out)
            with torch.no_grad():
                layer.weight.copy_(kaiming_uniform(recipe.seed, f"hidden.{i}.weight", (size_out, size_in)))
                layer.bias.zero_()
            layers += [layer, nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.head = linear_head(sizes[-1], self.labels, seed=recipe.seed)
        self.standard = of_columns(len(recipe.task.columns))

    def encode(self, examples: Sequence[Example]) -> list[Tensor]:
        """Return float32[2F] for each example: F values in halves of the reference range, then F marks of missing."""
        return [self._scaled(example).T.flatten() for example in examples]

    def gather(self, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return float32[B, 2F]: F values in units of half the reference range, then F marks of missing values."""
        return (torch.stack(list(states)).to(self.device),)

    def features(self, *gathered: Tensor) -> Tensor:
        """Return float32[B, 2F], what was gathered."""
        return gathered[0]

    def classify(self, *gathered: Tensor) -> Tensor:
        """Return float32[B, C] logits from columns."""
        values, missing = self.features(*gathered).chunk(2, dim=1)
        return self._logits(self._standardized(values, missing), missing)

    def inputs(self, examples: Sequence[Example], *, baseline: str = "pad") -> Inputs:
        """Return columns as units of two numbers; saying nothing is the middle of the range, or the mean."""
        del baseline  # a column has no padding and no mask
        rows, count = [self._scaled(example) for example in examples], len(self.recipe.task.columns)
        units = torch.stack(rows).to(self.device) if rows else self.head.weight.new_zeros((0, count, 2))
        values = torch.stack([self._standardized(units[..., 0], units[..., 1]), units[..., 1]], dim=-1)
        present = torch.ones(values.shape[:2], dtype=torch.bool, device=self.device)
        return Inputs(
            values=values,
            baseline=torch.zeros_like(values),
            present=present,
            removable=present,
            words=torch.arange(count, device=self.device).expand(len(units), count),
            names=(tuple(column.name for column in self.recipe.task.columns),) * len(units),
        )

    def logits_from_inputs(self, values: Tensor, present: Tensor) -> Tensor:
        """Return logits with columns that are not present set to the middle of their range, or to the mean."""
        kept = values * present.unsqueeze(-1)
        return self._logits(kept[..., 0], kept[..., 1])

    def drawn(self, count: int, units: int) -> Tensor:
        """Return columns each uniform in its reference range, none missing."""
        low, high = (np.array([getattr(column, end) for column in self.recipe.task.columns]) for end in ("low", "high"))
        rows = low + uniform(self.recipe.seed, "drawn", (count, len(low))) * (high - low)
        return self.inputs([Example("", 0, columns=tuple(row)) for row in rows.tolist()]).values[:, :units]

    def _scaled(self, example: Example) -> Tensor:
        """Return float32[F, 2]: value in halves of the reference range, or of the file, and mark of missing."""
        columns = self.recipe.task.columns
        if example.columns is None or len(example.columns) != len(columns):
            raise _other_columns(example, len(columns))
        ends = [(-1.0, 1.0) if self.recipe.standardize == "none" else (column.low, column.high) for column in columns]
        pairs = [
            (0.0, 1.0)
            if math.isnan(value)
            else (min(max(2.0 * (value - low) / (high - low) - 1.0, -_FARTHEST), _FARTHEST), 0.0)
            for value, (low, high) in zip(example.columns, ends, strict=True)
        ]
        return torch.tensor(pairs, dtype=torch.float32)

    def _standardized(self, values: Tensor, missing: Tensor) -> Tensor:
        """Return float32[B, F], cut, and 0 where a value is missing."""
        inside: Tensor = self.standard(values).clamp(-LIMIT, LIMIT)
        return inside.masked_fill(missing > 0, 0.0)

    def _logits(self, values: Tensor, missing: Tensor) -> Tensor:
        columns = torch.cat([values, missing], dim=1) if self.recipe.task.mark_missing else values
        logits: Tensor = self.head(self.hidden(columns))
        return logits


def _other_columns(example: Example, wanted: int) -> DataError:
    return DataError(
        "SITE-E029",
        "the model reads numeric columns, and an example has none or another number of them",
        where="data.loader",
        found="no columns" if example.columns is None else f"{len(example.columns)} columns",
        allowed=f"{wanted} columns",
        fix="use loader: columns for a study with inputs: columns",
    )
