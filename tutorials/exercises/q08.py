"""Exercise q08: one table E (V, D) at both ends of a model, and its one gradient."""


def embed(ids, E):
    """Vectors (B, T, D) of the tokens `ids` (B, T): rows of E times sqrt(D)."""
    raise NotImplementedError


def logits(x, E):
    """The score of every word, (B, T, V), of x (B, T, D): the product with its row of E, without a factor."""
    raise NotImplementedError


def gradient(ids, g_embed, x, g_logits, E):
    """The gradient of E, (V, D), as the sum of both uses.

    embed(ids, E) has the gradient g_embed (B, T, D), logits(x, E) has the gradient g_logits (B, T, V).
    """
    raise NotImplementedError
