"""Exercise a02: undo broadcasting."""


def unbroadcast(g, shape):
    """Sum the array `g` over all copies, so that the result has `shape`.

    `g` is the gradient of an array that was broadcast from `shape` to the shape of `g`: aligned at the right ends,
    repeated along dimensions that `shape` does not have, or has with size 1. Raises ValueError if that cannot be.
    """
    raise NotImplementedError
