"""Solution of exercise a02."""

import numpy as np


def unbroadcast(g, shape):
    """Sum over the dimensions that are missing, and, keeping them, over those that were 1."""
    new = g.ndim - len(shape)
    if new < 0 or np.broadcast_shapes(g.shape, shape) != g.shape:
        raise ValueError(f"an array of shape {shape} is not broadcast to {g.shape}")
    g = g.sum(axis=tuple(range(new)))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1)
    return g.sum(axis=repeated, keepdims=True)
