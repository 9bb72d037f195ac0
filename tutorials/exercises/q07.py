"""Exercise q07: the frame of an encoder layer, and how far a stack of layers sees."""


def encoder_layer(x, attention, ffn, norm):
    """One layer of the paper's encoder, from x (T, D) to (T, D).

    attention, ffn, norm: functions from (T, D) to (T, D). Each sublayer has a residual connection, and a norm after it.
    """
    raise NotImplementedError


def reach(mask, layers):
    """Which token can change which place after so many layers, booleans (T, T): row place, column token.

    mask: booleans (T, T), row query, column key, True = may attend, the same in every layer. Every layer has residual
    connections. layers: at least 0.
    """
    raise NotImplementedError
