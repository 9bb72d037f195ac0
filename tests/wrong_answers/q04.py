"""Question 4: mistakes that people make."""

import math

import numpy as np

WRONG = {
    "only the diagonal of the Jacobian": {"softmax_gradient": lambda p, g: p * (1 - p) * g},
    "the mean of g without the weights": {
        "softmax_gradient": lambda p, g: p * (g - g.mean(axis=-1, keepdims=True)),
    },
    "sums over all rows": {"softmax_gradient": lambda p, g: p * (g - np.sum(p * g))},
    "forgets the deviations": {"scale": lambda d_k, std_q, std_k: 1 / math.sqrt(d_k)},
    "divides by d_k": {"scale": lambda d_k, std_q, std_k: 1 / (d_k * std_q * std_k)},
    "builds the Jacobian": {
        "softmax_gradient": lambda p, g: (
            (p[..., None] * (np.eye(p.shape[-1]) - p[..., None, :])) @ g[..., None]
        ).squeeze(-1)
    },
    "negative": {"scale": lambda d_k, std_q, std_k: -1 / (math.sqrt(d_k) * std_q * std_k)},
    "d_k - 1": {"scale": lambda d_k, std_q, std_k: 1 / (math.sqrt(d_k - 1) * std_q * std_k)},
    "in place": {"softmax_gradient": lambda p, g: p * np.subtract(g, np.sum(p * g, axis=-1, keepdims=True), out=g)},
}
