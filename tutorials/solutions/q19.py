"""Solution of exercise q19."""


def rate(step, d_model, warmup):
    """The smaller of the two is the line before the end of the warm-up, and the root after it."""
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


def dropout(x, p, rng, training):
    """A coin for every number; who stays makes up for who has gone."""
    if not training:
        return x
    return x * (rng.random(x.shape) >= p) / (1 - p)
