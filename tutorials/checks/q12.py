"""What q12 must hold: every token on its own, and gradients that agree with differences."""

import numpy as np

from tutorials.check import close

HINTS = (
    "All means are over axis=-1 with keepdims=True: one mean and one variance for each token.",
    "Let g = gradient * w. Of x_hat, and so of mean and variance, depends every x_j of the token: three terms.",
    "dx = (g - mean(g) - x_hat mean(g x_hat)) / sqrt(variance + eps); dw = sum(gradient x_hat) over all tokens.",
)


def _random(rng):
    """Tokens of a random shape that are not centred, and w, b, gradient."""
    shape = (*rng.integers(2, 5, size=rng.integers(0, 3)), rng.integers(3, 7))
    return (
        2 + 3 * rng.normal(size=shape),
        rng.normal(size=shape[-1]),
        rng.normal(size=shape[-1]),
        rng.normal(size=shape),
    )


def every_token_has_mean_0_and_mean_square_1(answer, rng):
    """With w = 1 and b = 0."""
    x, w, _, _ = _random(rng)
    y = answer.layer_norm(x, np.ones_like(w), np.zeros_like(w), eps=1e-12)
    close(np.mean(y, axis=-1), np.zeros(x.shape[:-1]), "the mean of the tokens")
    close(np.mean(y**2, axis=-1), np.ones(x.shape[:-1]), "the mean square of the tokens")


def it_is_the_formula(answer, rng):
    """Number by number, also with an eps that matters."""
    x, w, b, _ = _random(rng)
    for eps in (1e-5, 1.0):
        expected = np.empty_like(x)
        for place in np.ndindex(x.shape[:-1]):
            variance = np.mean((x[place] - np.mean(x[place])) ** 2)
            expected[place] = w * (x[place] - np.mean(x[place])) / np.sqrt(variance + eps) + b
        close(answer.layer_norm(x, w, b, eps), expected, f"for eps = {eps:g}, y")


def the_way_back_is_the_derivative(answer, rng):
    """Of x, w and b, with an eps that matters, against differences of its own values."""
    x, w, b, gradient = _random(rng)
    eps = 0.5
    found = answer.layer_norm_way_back(x, w, gradient, eps)
    for name, given, array in zip(("x", "w", "b"), found, (x, w, b), strict=True):
        expected = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            before, values = array[place], []
            for step in (1e-5, -1e-5):
                array[place] = before + step
                values.append(np.sum(gradient * answer.layer_norm(x, w, b, eps)))
            array[place] = before
            expected[place] = (values[0] - values[1]) / 2e-5
        close(given, expected, f"for eps = {eps:g}, the gradient of {name}", 1e-6)
