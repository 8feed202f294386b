"""A very small BERT with random weights and a fixed vocabulary: for tests, where nothing can be downloaded."""

import math
import string

import torch
from transformers import BertConfig, BertModel, BertTokenizer

from fedfm.model.draws import normal

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = """
a about above acute after age all an and any as at available be bed been before below bilateral blood both but by
care change chest clear clinic complaint condition consult continue control course cough creatinine critical ct
daily day days declined deteriorated diabetes diagnosis discharge disease dose due dyspnea edema elevated
emergency evening examination failure family fatigue fever few finding findings fluid follow for from general given
glucose good had has have he headache heart her high him his history home hospital hour hours hypertension
hypotension icu if improved in increased infection infusion intensive intubated is it its kidney lab laboratory last
left level liver low lung man mechanical medication mg mild minute mmhg moderate monitor more morning mottled
mmol nausea negative night no none normal not note noted nurse of old on or oxygen pain patient per plan pneumonia
positive pressure pulse rate reading reading recovered renal report respiratory rest resting right room safe scan
scanner seen sepsis serum severe she shock signs site sleep stable started stay stayed status stopped surgery
symptoms temperature test the then therapy there this to today tolerated transfer treated treatment two unit unstable
up urine ventilated ventilation ventricular vital walking ward was weak weakness week well were white with without
woman worse year years
"""
HIDDEN, LAYERS = 32, 2


def tiny_tokenizer() -> BertTokenizer:
    """Return a WordPiece tokenizer of some clinical words, and of single characters for all others."""
    characters = string.ascii_lowercase + string.digits
    pieces = [*SPECIAL, *string.punctuation, *characters, *(f"##{c}" for c in characters), *WORDS.split()]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(dict.fromkeys(pieces))})


def tiny_bert(seed: int) -> BertModel:
    """Return a two-layer BERT of hidden size 32; equal seeds give equal weights on every machine.

    The embeddings have unit variance and the layers keep it, so that random features still tell words apart.
    """
    config = BertConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=512,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=SPECIAL.index("[PAD]"),
    )
    config._attn_implementation = "sdpa"
    model = BertModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" in name or parameter.dim() < 2:
                parameter.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
            else:
                sd = 1.0 if "word_embeddings" in name else 0.3 if "embeddings" in name else 1 / math.sqrt(HIDDEN)
                parameter.copy_(normal(seed, f"tiny.{name}", shape=tuple(parameter.shape), sd=sd))
    return model
