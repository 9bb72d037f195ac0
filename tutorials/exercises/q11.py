"""Exercise q11: tokens that become one, and the ways of a gradient through a stack of residual connections."""


def spread(x):
    """How much the tokens of each text differ from their mean over the text, in parts of their size: one number.

    The norm of all differences divided by the norm of x, an array (B, T, D).
    """
    raise NotImplementedError


def crossings(jacobians, g):
    """Split the gradient that arrives at the bottom of a stack x + f(x) by how many branches f its ways cross.

    jacobians: of the M branches from the bottom to the top, each (D, D), J[i, j] the slope of f_i by x_j. g: the
    gradient (D,) at the top. Returns M + 1 vectors (D,), the k-th the sum over all ways that cross exactly k branches;
    in fewer steps than there are ways.
    """
    raise NotImplementedError
