"""Exercise q19: the learning rate of the paper, and dropout."""


def rate(step, d_model, warmup):
    """The learning rate at a step, of which the first is 1: up in a straight line, then down as a square root.

    The peak, (d_model warmup)^-0.5, is at step = warmup.
    """
    raise NotImplementedError


def dropout(x, p, rng, training):
    """In training each number of x becomes 0 with probability p, so that the mean over many calls is x; else x itself.

    x: array of any shape, which is left as it was; p: from 0 to below 1; rng: a random generator of NumPy.
    """
    raise NotImplementedError
