"""Wrong answers to q08."""

import math

import numpy as np

from tutorials.solutions.q08 import logits


def counts_a_word_once(ids, g_embed, x, g_logits, E):
    """`+=` with repeated indices keeps the last."""
    g = np.einsum("btv,btd->vd", g_logits, x)
    g[ids] += g_embed * math.sqrt(E.shape[1])
    return g


def forgets_the_factor(ids, g_embed, x, g_logits, E):
    """The way back without the factor of the way in."""
    g = np.einsum("btv,btd->vd", g_logits, x)
    np.add.at(g, ids, g_embed)
    return g


def in_place(ids, E):
    """The table grows with every call."""
    E *= math.sqrt(E.shape[1])
    return E[ids]


def overwrites(ids, g_embed, x, g_logits, E):
    """Puts the input's part in the place of the output's."""
    g = np.einsum("btv,btd->vd", g_logits, x)
    g[ids] = g_embed * math.sqrt(E.shape[1])
    return g


WRONG = {
    "divides": {"embed": lambda ids, E: E[ids] / math.sqrt(E.shape[1])},
    "scales the logits, too": {"logits": lambda x, E: logits(x, E) * math.sqrt(E.shape[1])},
    "counts a word once": {"gradient": counts_a_word_once},
    "forgets the factor going back": {"gradient": forgets_the_factor},
    "in place": {"embed": in_place},
    "overwrites": {"gradient": overwrites},
    "the root of V": {"embed": lambda ids, E: E[ids] * math.sqrt(len(E))},
}
