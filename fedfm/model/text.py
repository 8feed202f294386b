"""A transformer encoder with a linear head, split where training begins.

The embeddings and the layers below the first adapted one never change, so ``encode`` runs them once per
note and ``forward`` only the rest. The two together equal one pass through the whole model.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from fedfm.errors import DataError, ModelError
from fedfm.examples import Example
from fedfm.model.classifier import Classifier, Inputs, Recipe
from fedfm.model.draws import linear_head, uniform
from fedfm.model.standardization import of_states

BATCH = 32
"""Notes that the frozen part takes at once; of similar length, so that little is padding."""

_UNUSED = re.compile(r"\[unused\d+\]|madeupword\d+").fullmatch
"""Places that BERT's and RoBERTa's vocabularies keep free; nothing was ever learnt of them."""


class TextClassifier(Classifier):
    """Token embeddings, encoder layers, the mean over tokens, the standardisation, a linear head.

    Attributes:
        backbone: The encoder, of the BERT family (``embeddings`` and ``encoder.layer``).
        tokenizer: Its tokenizer.
        first_adapted: The layers below this one are frozen and run in ``encode``; the number of
            layers where all are frozen.
    """

    def __init__(self, recipe: Recipe, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(recipe)
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.first_adapted = len(self.layers)
        self.head = linear_head(backbone.config.hidden_size, self.labels, seed=recipe.seed)
        self.standard = of_states(backbone.config.hidden_size)
        self.max_tokens = _checked_length(recipe.model.max_tokens, backbone)

    @property
    def layers(self) -> list[nn.Module]:
        """The encoder's layers, lowest first."""
        return list(self.backbone.get_submodule("encoder.layer").children())

    @torch.no_grad()
    def encode(self, examples: Sequence[Example]) -> list[Tensor]:
        """Return for each note float32[T, D] states that enter the first adapted layer.

        Where every layer is frozen: float32[D], the mean over tokens of the last layer.
        """
        tokens = self._tokens(examples)
        shortest_first = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        states: dict[int, Tensor] = {}
        for start in range(0, len(tokens), BATCH):
            batch = shortest_first[start : start + BATCH]
            values, present = self._words([tokens[i] for i in batch])
            hidden = self._run(self._embed(values), present, layers=self.layers[: self.first_adapted])
            if self.first_adapted == len(self.layers):
                rows = list(_mean(hidden, present))
            else:
                rows = [row[: len(tokens[i])] for i, row in zip(batch, hidden, strict=True)]
            states.update({i: row.cpu().clone() for i, row in zip(batch, rows, strict=True)})
        return [states[i] for i in range(len(tokens))]

    def gather(self, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return float32[B, D] means, or float32[B, T, D] states and bool[B, T] true where a note has a token."""
        if self.first_adapted == len(self.layers):
            return (torch.stack(list(states)).to(self.device),)
        return _padded([state.to(self.device, non_blocking=True) for state in states])

    def features(self, *gathered: Tensor) -> Tensor:
        """Return float32[B, D], the mean over tokens of the last layer."""
        if self.first_adapted == len(self.layers):
            return gathered[0]
        values, present = gathered
        return _mean(self._run(values, present, layers=self.layers[self.first_adapted :]), present)

    def classify(self, *gathered: Tensor) -> Tensor:
        """Return float32[B, C] logits from means, or from states and where they are present."""
        logits: Tensor = self.head(self.standard(self.features(*gathered)))
        return logits

    def inputs(self, examples: Sequence[Example], *, baseline: str = "pad") -> Inputs:
        """Return tokens as units of D numbers, their word embeddings; saying nothing is as ``baseline`` says.

        Special tokens stay: they are part of every note and say nothing about one. An unknown word is a word.
        """
        told = self._told(examples)
        values, present = self._words(told["input_ids"])
        words, _ = _padded(
            [torch.tensor([-1 if w is None else w for w in told.word_ids(i)]) for i in range(len(values))]
        )
        words = words.to(self.device).masked_fill(~present, -1)
        plain = words >= 0
        return Inputs(
            values=values,
            baseline=torch.where(plain.unsqueeze(-1), self._nothing(baseline), values),
            present=present,
            removable=plain,
            words=words,
            names=tuple(_names(told, row, example.text or "") for row, example in enumerate(examples)),
        )

    def logits_from_inputs(self, values: Tensor, present: Tensor) -> Tensor:
        """Return logits from word embeddings; tokens that are not present are neither attended to nor pooled."""
        # Positions are in the embeddings already, so what is absent need not go through the layers at all.
        hidden, present = _packed(self._embed(values), present)
        hidden = self._run(hidden, present, layers=self.layers)
        logits: Tensor = self.head(self.standard(_mean(hidden, present)))
        return logits

    def drawn(self, count: int, units: int) -> Tensor:
        """Return word embeddings of ``count`` random sequences of word pieces, each as likely as any other."""
        vocabulary, special = self.tokenizer.get_vocab(), set(self.tokenizer.all_special_ids)
        plain = np.array(sorted(i for piece, i in vocabulary.items() if i not in special and not _UNUSED(piece)))
        chosen = plain[(uniform(self.recipe.seed, "drawn", (count, self.max_tokens)) * len(plain)).astype(np.int64)]
        return self._words(chosen[:, :units].tolist())[0]

    @torch.no_grad()
    def attentions(self, values: Tensor, present: Tensor) -> Iterator[Tensor]:
        """Yield for each layer float32[B, H, T, T]: how much each token (third) looks at each (fourth), by H heads.

        Computed from the layer's own queries and keys, since a fused attention does not tell its weights.
        """
        hidden, heads = self._embed(values), self.backbone.config.num_attention_heads
        for layer in self.layers:
            query, key = (
                layer.get_submodule(f"attention.self.{name}")(hidden).unflatten(-1, (heads, -1)).transpose(1, 2)
                for name in ("query", "key")
            )
            scores = query @ key.mT / math.sqrt(query.shape[-1])
            yield scores.masked_fill(~present[:, None, None, :], -math.inf).softmax(-1)
            hidden = self._run(hidden, present, layers=[layer])

    def _nothing(self, baseline: str) -> Tensor:
        """Return float32[D], the word embedding that says nothing."""
        if baseline == "mean":
            (matrix,) = self.backbone.get_input_embeddings().parameters()
            return matrix.detach().mean(dim=0)
        token = self.backbone.config.pad_token_id if baseline == "pad" else self.tokenizer.mask_token_id
        return self._words([[token]])[0][0, 0]

    def _tokens(self, examples: Sequence[Example]) -> list[list[int]]:
        if not examples:
            return []
        ids: list[list[int]] = self._told(examples)["input_ids"]
        return ids

    def _told(self, examples: Sequence[Example]) -> BatchEncoding:
        texts = [example.text for example in examples if example.text is not None]
        if len(texts) != len(examples):
            raise DataError(
                "SITE-E029",
                "the model reads text, and an example has none",
                where="data.loader",
                fix="use loader: text or loader: template for a study with inputs: text",
            )
        told: BatchEncoding = self.tokenizer(texts, truncation=True, max_length=self.max_tokens)
        return told

    def _words(self, tokens: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Return word embeddings float32[B, T, D] and bool[B, T] true where a note has a token."""
        ids, present = _padded([torch.tensor(row) for row in tokens])
        with torch.no_grad():
            words: Tensor = self.backbone.get_input_embeddings()(ids.to(self.device))
        return words, present.to(self.device)

    def _embed(self, values: Tensor) -> Tensor:
        """Add position and type to word embeddings, and normalise."""
        embeddings: Callable[..., Tensor] = self.backbone.get_submodule("embeddings")
        return embeddings(inputs_embeds=values)

    @staticmethod
    def _run(hidden: Tensor, present: Tensor, *, layers: Iterable[nn.Module]) -> Tensor:
        # The mask as transformers' create_bidirectional_mask makes it for sdpa: true where a token may be looked at.
        mask = present[:, None, None, :].expand(-1, 1, present.shape[1], -1)
        for layer in layers:
            hidden = layer(hidden, mask)
        return hidden


def _padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return rows[B, T, ...] padded with zeros to the longest, and bool[B, T] true where a row has a token."""
    lengths = torch.tensor([len(row) for row in rows])
    present = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
    return pad_sequence(rows, batch_first=True), present.to(rows[0].device)


def _packed(hidden: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tokens that are present in their order, first in their rows: [B, T', ...] and bool[B, T'].

    T' is the most that any row has, so that rows of a like number of tokens cost least.
    """
    longest = int(present.sum(1).max()) if len(present) else 0
    if longest == present.shape[1]:
        return hidden, present
    order = present.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    return hidden.gather(1, order.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])), present.gather(1, order)


def _names(told: BatchEncoding, row: int, text: str) -> tuple[str, ...]:
    """Return the words of one note as they are written, as far as the model reads it."""
    count = max((word for word in told.word_ids(row) if word is not None), default=-1) + 1
    spans = [told.word_to_chars(row, word) for word in range(count)]
    return tuple(text[span.start : span.end] for span in spans)


def _mean(hidden: Tensor, present: Tensor) -> Tensor:
    """Return float32[B, D], the mean over the tokens that are present."""
    weights = present.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def _checked_length(max_tokens: int, backbone: PreTrainedModel) -> int:
    # RoBERTa counts positions from behind the padding token.
    offset = 0 if backbone.config.model_type == "bert" else backbone.config.pad_token_id + 1
    longest = backbone.config.max_position_embeddings - offset
    if max_tokens > longest:
        raise ModelError(
            "MODEL-E145",
            "the model cannot read notes that long",
            where="model.max_tokens",
            found=str(max_tokens),
            allowed=f"at most {longest}",
        )
    return max_tokens
