"""Solution of exercise c01."""

import numpy as np

from minigrad import nn


def importance(model, loss):
    """By the chain rule, sentence by sentence."""
    with nn.capture(model, "*.z", grad=True) as seen:
        loss().backward()
    found = {}
    for name, z in seen.items():
        slopes = (z.detach().numpy() * z.grad.numpy()).sum(axis=(2, 3))  # (B, H)
        for head, value in enumerate(np.abs(slopes).sum(axis=0)):
            found[f"{name.removesuffix('.z')}.{head}"] = float(value)
    return found
