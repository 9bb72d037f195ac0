"""Where a token stands. Attention alone does not know: permute the tokens, and its outputs are permuted with them.

A scheme plugs in at a few places, and each of them does nothing unless the scheme says otherwise:

| method                                   | called                       | for schemes that                        |
|------------------------------------------|------------------------------|-----------------------------------------|
| `embed(x, pos)`                          | once, before the first layer | add a vector to every token             |
| `rotate(q, pos)`, `rotate_keys(k, pos)`  | in every self-attention      | turn queries and keys by their position |
| `bias(q, q_pos, k_pos)`                  | in every self-attention      | add a number to every score             |
| `mix(z, weights, q_pos, k_pos)`          | in every self-attention      | add a vector to every value             |

`pos`, `q_pos` (T,) and `k_pos` (S,) are arrays of integers. They are arguments, not 0, 1, 2, ..., because in decoding
with a cache the first query does not stand at position 0. With `cross_positions` the others than `embed` are called in
cross-attention as well, with the places of the query in the target and of the key in the source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .absolute import Axial, Learned, Sinusoidal, SinusoidalInit
from .base import Added, PerLayer, PlaceError, Positions
from .relative import ALiBi, Relative, Rotary, T5Bias, TransformerXL

if TYPE_CHECKING:
    from ..config import TransformerConfig

# By the name that a configuration gives: the scheme of so many layers, which look in both directions or only back.
POSITIONS: dict[str, Callable[[TransformerConfig, int, bool], Positions]] = {
    "sinusoidal": lambda config, layers, both: Sinusoidal(config.d_model),
    "learned": lambda config, layers, both: Learned(config.max_len, config.d_model),
    "sinusoidal_init": lambda config, layers, both: SinusoidalInit(config.max_len, config.d_model),
    "axial": lambda config, layers, both: Axial(config.max_len, config.d_model),
    "relative": lambda config, layers, both: PerLayer(
        Relative(config.size_of_head, config.max_relative_distance, config.scale_of_scores) for _ in range(layers)
    ),
    "transformer_xl": lambda config, layers, both: PerLayer(
        TransformerXL(config.d_model, config.nhead, config.size_of_head, config.scale_of_scores) for _ in range(layers)
    ),
    "rotary": lambda config, layers, both: Rotary(config.size_of_head),
    "alibi": lambda config, layers, both: ALiBi(config.nhead),
    "t5": lambda config, layers, both: T5Bias(
        config.d_model, config.nhead, config.t5_buckets, config.t5_max_distance, both
    ),
    "none": lambda config, layers, both: Positions(),
}

INSIDE_ATTENTION = ("relative", "transformer_xl", "rotary", "alibi", "t5")  # the others act before the first layer
NO_POSITIONS = Positions()

__all__ = [
    "INSIDE_ATTENTION",
    "NO_POSITIONS",
    "POSITIONS",
    "ALiBi",
    "Added",
    "Axial",
    "Learned",
    "PerLayer",
    "PlaceError",
    "Positions",
    "Relative",
    "Rotary",
    "Sinusoidal",
    "SinusoidalInit",
    "T5Bias",
    "TransformerXL",
]
