"""Exercise q06: what an attention costs, and how little is enough to point at a key."""


def products(B, T, D, H, K):
    """The operations (2 for a multiplication and the addition after it) of all matrix products of an attention.

    B texts of T places attend to themselves; x is (B, T, D). Queries, keys and values have H heads of K numbers, made
    by a (D, H K) matrix each; scores and sums of values are taken in every head; an (H K, D) matrix leads back.
    """
    raise NotImplementedError


def circle(n):
    """Queries and keys, two arrays (n, 2): the product of query i is larger with key i than with any other key."""
    raise NotImplementedError
