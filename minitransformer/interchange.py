"""Our parameters by PyTorch's names, and back: nn.Transformer, its encoder, decoder, layers, nn.MultiheadAttention.

Both have the same numbers; PyTorch names them otherwise, and keeps the projections of queries, keys and values one
below the other in a single matrix, `in_proj_weight` (3 D, D).

| ours                                  | PyTorch's                                 |
|---------------------------------------|-------------------------------------------|
| `q_proj`, `k_proj`, `v_proj`          | `in_proj_weight`, `in_proj_bias`          |
| `cross_attn`                          | `multihead_attn`                          |
| `ffn.linear1`, `ffn.linear2`          | `linear1`, `linear2`                      |
| `add_norm1.norm`, ...                 | `norm1`, ...                              |
| `encoder`, `decoder` of a Transformer | the same                                  |

nn.Transformer begins and ends with vectors: the embeddings (`src_embed`, `tgt_embed`, `embed_norm` where there is one),
the table of learned positions (`positions`) and the output layer (`generator`) are no part of it. Whoever has built
them around it has their weights under names of their own, in the same layout as ours: copy them one by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from minigrad import nn

from .attention import MultiHeadAttention
from .layers import AddNorm, DecoderLayer, EncoderLayer, FeedForward
from .model import Decoder, Encoder, Transformer
from .positions import Positions
from .scores import ScaledDotProduct

Array = np.ndarray

COUNTERPARTS = (Transformer, Encoder, Decoder, EncoderLayer, DecoderLayer, MultiHeadAttention)
OUTSIDE = {"src_embed", "tgt_embed", "embed_norm", "positions", "generator"}  # of what the counterparts are
# What `Positions` does inside attention, which is nothing unless overridden.
METHODS_INSIDE = ("rotate", "rotate_keys", "bias", "mix", "of_layer")
THEIR_NAMES = {
    "cross_attn.": "multihead_attn.",
    "ffn.linear": "linear",
    "add_norm1.norm.": "norm1.",
    "add_norm2.norm.": "norm2.",
    "add_norm3.norm.": "norm3.",
    "q_proj.": "in_proj_",
}


def to_torch(module: nn.Module) -> dict[str, Array]:
    """Copy the parameters of a module, by the names that its counterpart in PyTorch has for them.

    module: a Transformer, Encoder, Decoder, EncoderLayer, DecoderLayer or MultiHeadAttention. The counterparts are
    nn.Transformer (which has final norms: config.final_norm), nn.TransformerEncoder, nn.TransformerDecoder, their
    layers and nn.MultiheadAttention; they take it by
    `theirs.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(ours).items()})`.

    Raises TypeError for another module, ValueError for what PyTorch does not have: other scores or another scale,
    share_qk, a head_dim that is not d_model / nhead, biases on some projections only, linear layers of another kind, no
    residual, another norm or feed-forward network, or none, positions that work inside attention, and layers that
    differ in heads, activation, place of the norms or their eps.

    >>> {name: array.shape for name, array in to_torch(MultiHeadAttention(d_model=4, nhead=2, bias=False)).items()}
    {'in_proj_weight': (12, 4), 'out_proj.weight': (4, 4)}
    """
    ours = module.state_dict()
    return {theirs: np.concatenate([ours[name].numpy() for name in names]) for theirs, names in places(module).items()}


def from_torch(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Copy parameters with PyTorch's names, arrays or tensors, into a module, which keeps its dtype.

    Raises TypeError and ValueError as `to_torch` does, and RuntimeError, listing all that is wrong, if a name is
    missing or unexpected, or if a shape or dtype does not fit; nothing has been changed then.

    >>> one, other = MultiHeadAttention(d_model=4, nhead=2), MultiHeadAttention(d_model=4, nhead=2)
    >>> from_torch(other, to_torch(one))
    >>> np.array_equal(to_torch(one)["in_proj_weight"], to_torch(other)["in_proj_weight"])
    True
    """
    own, wanted = module.state_dict(), places(module)
    if not isinstance(state, Mapping):
        raise TypeError(f"from_torch(): the state is a {type(state).__name__}; give its state_dict().")
    given = {name: np.asarray(value) for name, value in state.items()}
    problems = [f"missing: {name}" for name in wanted if name not in given]
    problems += [f"unexpected: {name}" for name in given if name not in wanted]
    ours: dict[str, Any] = dict(own)  # those outside stay what they are
    for name in [name for name in wanted if name in given]:
        parts = [own[part] for part in wanted[name]]
        shape = (len(parts) * parts[0].shape[0], *parts[0].shape[1:])
        if given[name].shape != shape:
            problems.append(f"shape of {name}: {given[name].shape} in the state, {shape} in the module")
        else:
            ours |= zip(wanted[name], np.split(given[name], len(parts)), strict=True)
    if problems:
        raise RuntimeError(
            "\n  ".join([f"from_torch(): the state does not fit the {type(module).__name__}", *problems])
        )
    module.load_state_dict(ours)


def places(module: nn.Module) -> dict[str, list[str]]:
    """Give, for every parameter of PyTorch's counterpart, our names of what it holds, from top to bottom.

    >>> places(MultiHeadAttention(d_model=4, nhead=2, bias=False))["in_proj_weight"]
    ['q_proj.weight', 'k_proj.weight', 'v_proj.weight']
    """
    if not isinstance(module, COUNTERPARTS):
        raise TypeError(
            f"interchange: got a {type(module).__name__}, of which PyTorch has no counterpart. "
            f"Give one of {', '.join(kind.__name__ for kind in COUNTERPARTS)}."
        )
    for path, part in module.named_modules():
        if lacking := what_pytorch_lacks(part):
            raise ValueError(f"interchange: {path or type(module).__name__} has {lacking}; PyTorch's has not.")
    found = {}
    for name in module.state_dict():
        if OUTSIDE.isdisjoint(name.split(".")) and "k_proj." not in name and "v_proj." not in name:
            theirs = name
            for part, their_part in THEIR_NAMES.items():
                theirs = theirs.replace(part, their_part)
            third = [name.replace("q_proj.", f"{letter}_proj.") for letter in "qkv"]
            found[theirs] = third if "q_proj." in name else [name]
    return found


def what_pytorch_lacks(module: nn.Module) -> str:
    """Say what this module does that PyTorch's layers cannot do; of those below it, only what differs between them."""
    if isinstance(module, COUNTERPARTS):
        for what, values in settings(module).items():
            if len(values) > 1:
                return f"layers with different {what} ({', '.join(map(str, sorted(values)))})"
    match module:
        case MultiHeadAttention():
            if type(module.score) is not ScaledDotProduct:
                return f"{type(module.score).__name__} scores"
            if module.score.scale != 1 / math.sqrt(module.head_dim):
                return f"scores times {module.score.scale:.4g}, which is not 1 / sqrt(head size)"
            if module.k_proj is module.q_proj:
                return "one projection for queries and keys (share_qk)"
            if module.nhead * module.head_dim != module.out_proj.out_features:
                return f"a head_dim of {module.head_dim}, which is not d_model / nhead"
            projections = (module.q_proj, module.k_proj, module.v_proj, module.out_proj)
            if not nn.as_made(nn.Linear, *projections):
                return "projections that are not all just a Linear"
            if len({linear.bias is None for linear in projections}) > 1:
                return "biases on some of its projections only"
        case EncoderLayer() | DecoderLayer():
            if module.ffn is None:
                return "no feed-forward network"
            if type(module.ffn) is not FeedForward:
                return f"the feed-forward network {type(module.ffn).__name__}"
        case FeedForward():
            if not nn.as_made(nn.Linear, module.linear1, module.linear2):
                return "layers that are not all just a Linear"
        case AddNorm():
            if not module.residual:
                return "no residual connection"
            if not isinstance(module.norm, nn.LayerNorm):
                return f"the norm {type(module.norm).__name__}"
        case Positions():
            kind = type(module)
            if any(getattr(kind, method) is not getattr(Positions, method) for method in METHODS_INSIDE):
                return f"{kind.__name__} positions, which work inside attention"
    return ""


def settings(module: nn.Module) -> dict[str, set[Any]]:
    """Give all values, in the layers of a module, of what PyTorch's modules are told once for all their layers.

    >>> settings(MultiHeadAttention(d_model=4, nhead=2))["numbers of heads"]
    {2}
    """
    parts = list(module.modules())
    around = [part for part in parts if isinstance(part, AddNorm)]
    return {
        "numbers of heads": {part.nhead for part in parts if isinstance(part, MultiHeadAttention)},
        "activations": {type(part.activation).__name__ for part in parts if isinstance(part, FeedForward)},
        "places of the norms": {type(part).__name__ for part in around},
        "eps of the norms": {part.norm.eps for part in around if isinstance(part.norm, nn.LayerNorm)},
    }
