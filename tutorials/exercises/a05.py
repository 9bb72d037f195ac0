"""Exercise a05: the account of a gradient."""


def shares(parts):
    """The signed share of each part in the sum of all, <part, sum> / <sum, sum>, as a list of floats.

    `parts` is a list of arrays of one shape. If the sum is 0, all shares are NaN.
    """
    raise NotImplementedError


def by_branches(splits):
    """How much of a gradient came through how many branches, as a list: [share of 0 branches, of 1, of 2, ...].

    `splits` has a pair for each residual connection of a stack, from the loss to the input: (share past the branch,
    share through it). Shares are multiplied along a route, and added over all routes.
    """
    raise NotImplementedError
