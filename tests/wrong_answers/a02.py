"""Wrong answers to a02."""

import numpy as np

from tutorials.solutions import a02


def mean(g, shape):
    """The mean over the copies."""
    total = a02.unbroadcast(g, shape)
    return total * total.size / g.size


def leading_only(g, shape):
    """Forgets the dimensions of size 1."""
    return g.sum(axis=tuple(range(g.ndim - len(shape))))


def squeezed(g, shape):
    """Lets the dimensions of size 1 go."""
    total = a02.unbroadcast(g, shape)
    return total.squeeze(axis=tuple(i for i, n in enumerate(shape) if n == 1))


def any_dimension_that_fits(g, shape):
    """Sums over one dimension after the other until the number of elements is right."""
    while g.ndim and g.size != np.prod(shape):
        g = g.sum(axis=-1)
    return g.reshape(shape)


def asks_nothing(g, shape):
    """Sums without a look at whether it can be."""
    g = g.sum(axis=tuple(range(max(g.ndim - len(shape), 0))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape[: g.ndim]) if n == 1), keepdims=True)


def one_new_dimension(g, shape):
    """At most one dimension is missing."""
    if g.ndim < len(shape) or np.broadcast_shapes(g.shape, shape) != g.shape:
        raise ValueError("not broadcast")
    g = g.sum(axis=0) if g.ndim > len(shape) else g
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


WRONG = {
    "the mean": {"unbroadcast": mean},
    "forgets size 1": {"unbroadcast": leading_only},
    "squeezes": {"unbroadcast": squeezed},
    "sums what fits": {"unbroadcast": any_dimension_that_fits},
    "never complains": {"unbroadcast": asks_nothing},
    "one new dimension": {"unbroadcast": one_new_dimension},
}
