"""Exercise q09: the clocks, and what turns them.

PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i + 1) = cos(p / 10000^(2i/D)), for i = 0, ..., D/2 - 1.
"""


def positions(places, D):
    """The vectors of the places, an array (T,), as an array (T, D). D is even."""
    raise NotImplementedError


def rotation(k, D):
    """The matrix R_k (D, D) with R_k PE(p) = PE(p + k) for every place p."""
    raise NotImplementedError
