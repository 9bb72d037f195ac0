"""Who may attend to whom.

A mask is a boolean tensor, **True = may attend**, that broadcasts to the scores (B, H, T, S): B batch, H heads, T
queries, S keys. It is the same everywhere in this package, and masks are combined with `&`.

PyTorch has two conventions, and they are opposites of each other:

| where                                                            | a boolean True means          | from ours    |
|------------------------------------------------------------------|-------------------------------|--------------|
| `F.scaled_dot_product_attention(attn_mask=)`                     | may attend                    | `mask`       |
| `nn.MultiheadAttention`, `nn.Transformer...` (attn_mask=, tgt_mask=) | **blocked**, shape (T, S) | `~mask`      |
| the same (key_padding_mask=, src_key_padding_mask=)              | **ignore** this key, (B, S)   | `ids == pad` |

A mask chooses; it is not a number that is added to the scores. In a row where no key is legal, adding -1e9 gives a
uniform pattern in float32 and the unmasked one in float64; here such a row gives output 0 and gradient 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg


def padding_mask(ids: Any, pad_id: int) -> mg.Tensor:
    """Let every query attend to the keys that are tokens, not padding.

    ids: integers (B, S). Returns (B, 1, 1, S), boolean. Raises ShapeError for other shapes.

    >>> padding_mask(np.array([[5, 6, 0]]), pad_id=0)
    tensor([[[[ True,  True, False]]]])
    """
    ids = ids.numpy() if isinstance(ids, mg.Tensor) else np.asarray(ids)
    if ids.ndim != 2:
        raise mg.ShapeError(
            f"padding_mask(): ids has shape {ids.shape}; it must be (B, S). Add a batch with ids[None]."
        )
    return mg.from_numpy(ids[:, None, None, :] != pad_id)  # (B, 1, 1, S)


def causal_mask(T: int, S: int | None = None, offset: int = 0) -> mg.Tensor:
    """Let every query attend to itself and the keys before it, not to the future: mask[t, s] = s <= t + offset.

    T: number of queries; S: number of keys, by default T + offset; offset: position of the first query, above 0 when
    the keys of earlier tokens are in a cache. Returns (1, 1, T, S), boolean.

    >>> causal_mask(3)[0, 0]
    tensor([[ True, False, False],
            [ True,  True, False],
            [ True,  True,  True]])
    >>> causal_mask(1, offset=2)[0, 0]
    tensor([[ True,  True,  True]])
    """
    S = T + offset if S is None else S
    return mg.from_numpy((np.arange(S) <= np.arange(offset, offset + T)[:, None])[None, None])  # (1, 1, T, S)
