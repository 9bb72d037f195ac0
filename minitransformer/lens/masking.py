"""Masks from outside: give attentions another one, and see what becomes of the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

from .heads import attentions


@contextmanager
def with_mask(model: nn.Module, where: str | Iterable[str], mask: Any) -> Iterator[None]:
    """Inside, some attentions have another mask: cut anything, and see.

    where: paths of attentions, or patterns of them as file names have: "decoder.layers.*.self_attn"; mask: boolean,
    True = may attend, of a shape that broadcasts to (B, H, T, S); or a function that is given the mask that the model
    would use, as a new array (B, H, T, S), and returns one. Raises ValueError for a pattern that matches no attention,
    DTypeError or ShapeError for a mask that does not fit.

    >>> from minitransformer import LanguageModel, TransformerConfig
    >>> from minitransformer.lens import dependency
    >>> config = TransformerConfig(src_vocab_size=9, d_model=8, nhead=2, num_decoder_layers=1)
    >>> model = LanguageModel(config)
    >>> with with_mask(model, "*.self_attn", lambda mask: mask | np.eye(4, k=1, dtype=bool)):
    ...     dependency(model, [4, 5, 6, 7]).diagnosis
    'off by one'
    """
    known = attentions(model)
    patterns = [where] if isinstance(where, str) else list(where)
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in known):
            raise ValueError(
                f"with_mask(): no attention of this {type(model).__name__} matches {pattern!r}. There are "
                f"{', '.join(known) or 'none'}."
            )
    chosen = [known[path] for path in known if any(fnmatchcase(path, pattern) for pattern in patterns)]
    with ExitStack() as stack:
        for attention in chosen:
            stack.enter_context(_edited(attention.score, mask))
        yield


@contextmanager
def _edited(score: nn.Module, edit: Any) -> Iterator[None]:
    """Between an attention and its score, `forward` is one that changes the mask."""
    before, outer = score.forward, vars(score).get("forward")

    def forward(q: mg.Tensor, k: mg.Tensor, v: mg.Tensor, mask: Any = None, *rest: Any, **settings: Any) -> mg.Tensor:
        new = edit
        if callable(edit):
            given = np.asarray(True if mask is None else mask)
            new = edit(np.broadcast_to(given, (*q.shape[:-1], k.shape[-2])).copy())
        return before(q, k, v, np.asarray(new), *rest, **settings)

    score.forward = forward
    try:
        yield
    finally:
        if outer is None:
            del score.forward
        else:
            score.forward = outer
