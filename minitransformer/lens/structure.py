"""What may depend on what, from the masks alone: reachability through the layers, as matrices of booleans.

A layer lets a token be reached by what reaches the tokens it looks at: with A the mask of an attention, (T, S), and X
what reaches its keys, (S, C), that is A X, "or" in place of the sum. A residual connection adds the identity; all that
works on each token by itself, norms and feed-forward networks, changes nothing. Reachability is an upper bound: through
a closed mask nothing comes, through an open one something may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minigrad import nn

from ..language import Classifier, LanguageModel
from ..layers import BatchNorm, DecoderLayer, EncoderLayer, PreNorm
from ..model import Encoder, Transformer
from .heads import attentions

Array = np.ndarray
Masks = Mapping[str, Array]

LIBRARY = {"minigrad", "minitransformer"}


def unknown_modules(model: nn.Module) -> list[str]:
    """The paths of the modules that are not of this library, of which nobody knows how they connect tokens."""
    found = []
    for path, module in model.named_modules():
        makers = [type(module), *([vars(module)["forward"]] if "forward" in vars(module) else [])]
        if any(maker.__module__.partition(".")[0] not in LIBRARY for maker in makers):
            found.append(path)
    return found


def structure(model: nn.Module, masks: Masks, real: Mapping[str, Array]) -> dict[tuple[str, str], Array] | None:
    """What the masks let through, for every pair of output and input; None where that is unknown.

    masks: (T, S) by the path of each attention, as they were used; real: for each input, which of its tokens are no
    padding. Known are the Transformer, the LanguageModel and the Classifier, of parts of this library.
    """
    if unknown_modules(model) or any(path not in masks for path in attentions(model)):
        return None
    if isinstance(model, Transformer):
        return _transformer(model, masks, real)
    if isinstance(model, LanguageModel):
        (text,) = real.values()
        return {("decoder", "text"): _encoder(model.decoder, "decoder", masks, text)}
    if isinstance(model, Classifier):
        (text,) = real.values()
        return {("class", "text"): text[None] @ _encoder(model.encoder, "encoder", masks, text)}
    return None


def _transformer(model: Transformer, masks: Masks, real: Mapping[str, Array]) -> dict[tuple[str, str], Array]:
    source, target = real["source"], real["target"]
    S, T = len(source), len(target)
    memory = _encoder(model.encoder, "encoder", masks, source)
    memory = np.hstack([memory, np.zeros((S, T), bool)])  # (S, S + T): what reaches it of source and target
    x = np.hstack([np.zeros((T, S), bool), _mixed(model.decoder.embed_norm, target)])  # (T, S + T)
    for number, layer in enumerate(model.decoder.layers):
        assert isinstance(layer, DecoderLayer)
        path = f"decoder.layers.{number}"
        back, across = masks[f"{path}.self_attn"], masks[f"{path}.cross_attn"]
        x = _around(layer.add_norm1, target, x, lambda x, back=back: _attend(back, x, x))
        x = _around(layer.add_norm2, target, x, lambda x, across=across: _attend(across, x, memory))
        x = x if layer.add_norm3 is None else _around(layer.add_norm3, target, x, lambda x: x)
    x = _mixed(model.decoder.norm, target) @ x
    reach = {"encoder": memory, "decoder": x}
    return {
        (output, name): both[:, columns]
        for output, both in reach.items()
        for name, columns in (("source", slice(S)), ("target", slice(S, None)))
    }


def _encoder(encoder: Encoder, path: str, masks: Masks, real: Array) -> Array:
    x = _mixed(encoder.embed_norm, real)
    for number, layer in enumerate(encoder.layers):
        assert isinstance(layer, EncoderLayer)
        mask = masks[f"{path}.layers.{number}.self_attn"]
        x = _around(layer.add_norm1, real, x, lambda x, mask=mask: _attend(mask, x, x))
        x = x if layer.add_norm2 is None else _around(layer.add_norm2, real, x, lambda x: x)
    return _mixed(encoder.norm, real) @ x


def _attend(mask: Array, queries: Array, keys: Array) -> Array:
    """A query that may look anywhere brings itself, too: it decides how much it takes of what."""
    return (mask @ keys) | (mask.any(axis=1, keepdims=True) & queries)


def _around(add_norm: Any, real: Array, x: Array, sublayer: Callable[[Array], Array]) -> Array:
    """An AddNorm or PreNorm around a sublayer."""
    mixed, first = _mixed(add_norm.norm, real), isinstance(add_norm, PreNorm)
    branch = sublayer(mixed @ x if first else x)
    y = x | branch if add_norm.residual else branch
    return y if first else mixed @ y


def _mixed(norm: nn.Module, real: Array) -> Array:
    """What a norm does to tokens: nothing, unless it takes means over all of them, (T, T)."""
    alone = np.eye(len(real), dtype=bool)
    if not isinstance(norm, BatchNorm) or not norm.training:
        return alone
    counts = np.ones_like(real) if norm.padding else real
    return alone | counts  # every token sees those that count
