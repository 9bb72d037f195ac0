"""Small Transformers and sentences, for the tests that need some."""

from typing import Any

import numpy as np

from minitransformer import Transformer, TransformerConfig

SMALL = {
    "src_vocab_size": 13,
    "tgt_vocab_size": 11,
    "d_model": 8,
    "nhead": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "dim_feedforward": 12,
    "dropout": 0.0,
    "max_len": 40,
}


def small_config(**changes: Any) -> TransformerConfig:
    return TransformerConfig(**SMALL | changes)


def small_model(**changes: Any) -> Transformer:
    """In float64, and with norms and biases that are not at their start of 1 and 0, so that none is without effect."""
    model = Transformer(small_config(**changes)).double()
    rng = np.random.default_rng(1)
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            parameter.data += 0.3 * rng.standard_normal(parameter.shape)
    return model


def sentences(rng: np.random.Generator, lengths: list[int], vocab_size: int = 11, bos: bool = False) -> np.ndarray:
    """Random tokens, padded at the end with 0: (B, longest). None of them is padding, begin or end of sentence."""
    ids = rng.integers(3, vocab_size, (len(lengths), max(lengths, default=0)))
    ids[:, :1] = 1 if bos else ids[:, :1]
    ids[np.arange(ids.shape[1]) >= np.array(lengths)[:, None]] = 0
    return ids
