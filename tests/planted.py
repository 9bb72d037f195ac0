"""Language models with a mistake planted in each: what the mask laboratory has to find, and to name.

`PLANTED[name](**changes)` is a small model of which later tokens change earlier results; `name` is the diagnosis.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn
from minitransformer import LanguageModel, ScaledDotProduct
from minitransformer.model import Encoder
from tests.models import small_config


def language_model(**changes: Any) -> LanguageModel:
    """One without a mistake."""
    mg.manual_seed(3)
    return LanguageModel(small_config(**{"tgt_vocab_size": None, "num_decoder_layers": 1} | changes)).double()


class OffByOne(Encoder):
    """The mask lets every query see one key too many, as s <= t + 1 does."""

    def forward(self, x: Any, mask: Any = None, *rest: Any) -> Any:
        T = x.shape[1]
        return super().forward(x, mask | np.eye(T, k=1, dtype=bool), *rest)


class Missing(Encoder):
    """There is no mask."""

    def forward(self, x: Any, mask: Any = None, *rest: Any) -> Any:
        return super().forward(x, np.ones_like(mask), *rest)


class Transposed(Encoder):
    """Queries and keys have been exchanged: triu in place of tril."""

    def forward(self, x: Any, mask: Any = None, *rest: Any) -> Any:
        return super().forward(x, mask.swapaxes(-1, -2), *rest)


class MaskAfterSoftmax(ScaledDotProduct):
    """The pattern is masked, not the scores: in the denominator of every row stands its future."""

    def forward(self, q: Any, k: Any, v: Any, mask: Any = None, *rest: Any, **settings: Any) -> Any:
        return (self.scores(q, k).softmax(-1) * mg.from_numpy(mask).type_as(q)) @ v


class Centred(nn.Module):
    """What a sublayer makes, minus its mean over all tokens."""

    def __init__(self, sublayer: nn.Module) -> None:
        super().__init__()
        self.sublayer = sublayer

    def forward(self, x: Any) -> Any:
        y: Any = self.sublayer(x)
        return y - y.mean(1, keepdim=True)


def with_decoder(kind: type[Encoder]) -> Callable[..., LanguageModel]:
    """A language model with another stack of layers."""

    def make(**changes: Any) -> LanguageModel:
        model = language_model(**changes)
        model.decoder = kind(model.config, model.config.num_decoder_layers, causal=True).double()
        return model

    return make


def layers(model: LanguageModel) -> list[Any]:
    return list(model.decoder.layers)


def mask_after_softmax(**changes: Any) -> LanguageModel:
    model = language_model(**changes)
    for layer in layers(model):
        layer.self_attn.score = MaskAfterSoftmax(layer.self_attn.head_dim)
    return model


def batch_norm(**changes: Any) -> LanguageModel:
    return language_model(norm="batch", **changes).train()


def mean_over_time(**changes: Any) -> LanguageModel:
    model = language_model(**changes)
    for layer in layers(model):
        layer.ffn = Centred(layer.ffn)
    return model


PLANTED: dict[str, Callable[..., LanguageModel]] = {
    "off by one": with_decoder(OffByOne),
    "missing mask": with_decoder(Missing),
    "transposed mask": with_decoder(Transposed),
    "mask after softmax": mask_after_softmax,
    "batch norm": batch_norm,
    "mean over time": mean_over_time,
}


class Fixed(nn.Module):
    """Vectors of one's choice for the tokens, and any function of the tokens (B, T) and their vectors (B, T, D)."""

    def __init__(self, vectors: Any, function: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.table = nn.Embedding(len(vectors), len(vectors[0])).double()
        self.table.weight.data[:] = vectors
        self.function = function

    def forward(self, ids: Any) -> Any:
        return self.function(ids, self.table(ids))
