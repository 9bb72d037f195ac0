"""The heads of all attentions of a model, by name: what each looks at, and what happens without it.

A head is called by the path of its attention and its number there: "decoder.layers.1.cross_attn.0". The heads of an
attention that is not in a model are just "0", "1", ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

from ..attention import MultiHeadAttention
from ..decoding import evaluating
from .oscilloscope import left_as_it_was

Array = np.ndarray


def attentions(model: nn.Module) -> dict[str, MultiHeadAttention]:
    """The attentions of a model, by their paths. Raises TypeError for what is no module."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"lens: the model is a {type(model).__name__}; give a Module, such as mt.load(folder).model.")
    return {path: module for path, module in model.named_modules() if isinstance(module, MultiHeadAttention)}


def _below(path: str, name: object) -> str:
    """The full name of a tap or head of the attention at `path`, which is "" if the attention is the whole model."""
    return f"{path}.{name}" if path else str(name)


def head_names(model: nn.Module) -> list[str]:
    """The names of all heads.

    >>> from minitransformer import Transformer, TransformerConfig
    >>> sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    >>> model = Transformer(TransformerConfig(src_vocab_size=9, d_model=4, nhead=2, **sizes))
    >>> head_names(model)[:3]
    ['encoder.layers.0.self_attn.0', 'encoder.layers.0.self_attn.1', 'decoder.layers.0.self_attn.0']
    """
    return [_below(path, head) for path, module in attentions(model).items() for head in range(module.nhead)]


def patterns(model: nn.Module, *inputs: Any) -> dict[str, Array]:
    """What every head looks at while the model reads `inputs`, in evaluation: name -> pattern (B, T, S).

    Raises ValueError for a model without such heads.
    """
    paths = {_below(path, "pattern"): path for path in attentions(model)}
    if not paths:
        raise ValueError(
            f"patterns(): there is no MultiHeadAttention in this {type(model).__name__}. "
            "See nn.capture(model, '*pattern')."
        )
    with evaluating(model), nn.capture(model, *paths) as seen:
        model(*inputs)
    by_path = {paths[name]: pattern.numpy() for name, pattern in seen.items()}
    return {_below(path, head): p[:, head] for path, p in by_path.items() for head in range(p.shape[1])}


@contextmanager
def ablate(model: nn.Module, heads: str | Iterable[str]) -> Iterator[None]:
    """Inside, these heads, or this one, take nothing home: z = 0. Raises ValueError for a head that is not there.

    >>> from minitransformer import Transformer, TransformerConfig
    >>> model = Transformer(TransformerConfig(src_vocab_size=9, d_model=4, nhead=2)).eval()
    >>> before = model([[3, 4]], [[1, 5]])
    >>> with ablate(model, ["decoder.layers.0.cross_attn.1"]):
    ...     bool((model([[3, 4]], [[1, 5]]) == before).all())
    False
    """
    gone: dict[str, list[int]] = {}
    known = head_names(model)
    for name in [heads] if isinstance(heads, str) else heads:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.3) or known[:3]
            raise ValueError(f"ablate(): there is no head {name!r}. Near: {', '.join(near) or 'none'}.")
        path, _, head = name.rpartition(".")
        gone.setdefault(path, []).append(int(head))
    with ExitStack() as stack:
        if gone:
            stack.enter_context(
                nn.patch(model, {_below(path, "z"): partial(_without, heads) for path, heads in gone.items()})
            )
        yield


def _without(heads: list[int], z: mg.Tensor) -> mg.Tensor:
    shut = np.zeros((z.shape[1], 1, 1), bool)
    shut[heads] = True
    return z.masked_fill(shut, 0.0)


def head_importance(model: nn.Module, loss: Callable[[], mg.Tensor]) -> dict[str, float]:
    """How much every head matters to a loss L: I_h = sum over the sentences of |<z_h, dL/dz_h>|   (Michel et al. 2019).

    With a gate at the head, z_h -> xi_h z_h with xi_h = 1, <z_h, dL/dz_h> is dL/dxi_h: to first order, what the loss
    of a sentence changes by when the head goes. Where L is a mean over sentences, I_h is the mean of their changes.
    (The paper then divides by the norm of all I_h of a layer.) `loss()` runs the model, in evaluation mode, on one or
    several batches, and returns L; the gradients of the parameters stay as they were. Returns name -> importance; a
    head on which L does not depend is not in it. Raises ValueError for a model without such heads.
    """
    if not attentions(model):
        raise ValueError(
            f"head_importance(): there is no MultiHeadAttention in this {type(model).__name__}. Give a model with one."
        )
    paths = {_below(path, "z"): path for path in attentions(model)}
    with evaluating(model), left_as_it_was(model), mg.enable_grad(), nn.capture(model, *paths, grad=True) as seen:
        loss().backward()
    importance: dict[str, float] = {}
    for name, runs in seen.all.items():
        for z in [z for z in runs if z.grad is not None]:
            gates = np.sum(z.detach().numpy() * z.grad.numpy(), axis=(2, 3))  # (B, H)
            for head, value in enumerate(np.abs(gates).sum(axis=0)):
                full = _below(paths[name], head)
                importance[full] = importance.get(full, 0.0) + float(value)
    return importance
