"""Solution of exercise q11."""

import numpy as np


def spread(x):
    """The mean of a text is that over its tokens, axis 1."""
    return np.linalg.norm(x - x.mean(axis=1, keepdims=True)) / np.linalg.norm(x)


def crossings(jacobians, g):
    """From the top down: past the branch the count stays, through it the count grows by one."""
    parts = [g] + [np.zeros_like(g)] * len(jacobians)
    for J in reversed(jacobians):
        through = [np.zeros_like(g)] + [J.T @ part for part in parts[:-1]]
        parts = [past + crossed for past, crossed in zip(parts, through, strict=True)]
    return parts
