"""Wrong answers to q07."""

import numpy as np

from tutorials.solutions import q07


def norm_first(x, attention, ffn, norm):
    """The order of later models."""
    y = x + attention(norm(x))
    return y + ffn(norm(y))


def side_by_side(x, attention, ffn, norm):
    """The FFN reads x."""
    return norm(norm(x + attention(x)) + ffn(x))


def no_skip(mask, layers):
    """Only by attention."""
    return np.linalg.matrix_power(mask.astype(int), layers) > 0


def transposed(mask, layers):
    """Queries and keys exchanged."""
    return q07.reach(mask.T, layers)


def one_layer(mask, layers):
    """The mask itself, however many layers."""
    return q07.reach(mask, min(layers, 1))


def in_place(x, attention, ffn, norm):
    """x becomes something else."""
    x += attention(x)
    y = norm(x)
    return norm(y + ffn(y))


def one_norm(x, attention, ffn, norm):
    """No norm in between."""
    y = x + attention(x)
    return norm(y + ffn(y))


def squares(mask, layers):
    """Twice as far with each layer."""
    seen = q07.reach(mask, min(layers, 1))
    for _ in range(layers - 1):
        seen = seen @ seen
    return seen


WRONG = {
    "norm first": {"encoder_layer": norm_first},
    "side by side": {"encoder_layer": side_by_side},
    "no skip": {"reach": no_skip},
    "transposed": {"reach": transposed},
    "one layer": {"reach": one_layer},
    "in place": {"encoder_layer": in_place},
    "one norm": {"encoder_layer": one_norm},
    "squares": {"reach": squares},
}
