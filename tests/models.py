"""Small Transformers and sentences, for the tests that need some."""

from types import SimpleNamespace
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn
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


VARIANTS = [
    {},
    {"norm_first": True, "activation": "gelu"},
    {"positions": "learned", "tie_weights": True},
    {"positions": "none", "head_dim": 3, "share_qk": True},
    {"num_encoder_layers": 1, "num_decoder_layers": 3, "nhead": 1, "norm": "none", "residual": False},
]


def will_end(model: Transformer, by: float = 1.5) -> Transformer:
    """A model with random weights rarely ends a sentence; make this one do so, some time."""
    model.generator.bias.data[2] += by
    return model


def unpadded(row: np.ndarray) -> list[int]:
    return row[: np.flatnonzero(row)[-1] + 1].tolist()


class Fickle(nn.Module):
    """A model for decoding without any weights: random logits, drawn anew for each source and prefix.

    It has what decoding may use of a model and nothing else, and its cache tells when it does not fit to the prefixes.
    `batches` are the numbers of sentences in the calls of `decode`, `computed` those of positions.
    """

    max_len = None

    def __init__(self, vocab_size: int = 5) -> None:
        super().__init__()
        self.config = SimpleNamespace(pad_id=0, bos_id=1, eos_id=2, target_vocab_size=vocab_size)
        self.batches: list[int] = []
        self.computed: list[int] = []

    def logits(self, source: Any, prefix: Any) -> np.ndarray:
        """Of the token after the prefix; padding and begin of sentence are not probable."""
        logits = np.random.default_rng([int(source), *map(int, prefix)]).normal(size=self.config.target_vocab_size)
        logits[:2] = -1e9
        return logits

    def encode(self, src: Any) -> mg.Tensor:
        return mg.tensor(np.asarray(src)[:, 0])

    def padding_mask(self, ids: Any) -> mg.Tensor:
        return mg.tensor(np.asarray(ids) != 0)

    def decode(self, tgt: Any, memory: Any, memory_mask: Any = None, cache: Any = None) -> mg.Tensor:
        done = 0
        if cache is not None:
            done = cache.length
            if done:
                np.testing.assert_array_equal(cache.read, np.column_stack([memory.numpy(), tgt[:, :done]]))
            cache.read, cache.length = np.column_stack([memory.numpy(), tgt]), tgt.shape[1]
        assert len(tgt) == len(memory) == len(memory_mask)
        self.batches.append(len(tgt))
        self.computed.append(tgt.shape[1] - done)
        ends = range(done + 1, tgt.shape[1] + 1)
        rows = zip(memory.tolist(), tgt, strict=True)
        return mg.tensor(np.array([[self.logits(source, row[:end]) for end in ends] for source, row in rows]))

    def new_cache(self) -> Any:
        return FickleCache()


class FickleCache:
    def __init__(self) -> None:
        self.length = 0
        self.read = np.empty((0, 0), int)

    def select(self, rows: np.ndarray) -> None:
        self.read = self.read[rows] if self.length else self.read

    def truncate(self, length: int) -> None:
        assert 0 <= length <= self.length
        self.read, self.length = self.read[:, : 1 + length], length
