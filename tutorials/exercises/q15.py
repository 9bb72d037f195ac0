"""Exercise q15: cross-attention, and the two ways of a gradient into the memory."""


def cross_attention(x, memory, w_q, w_k, w_v):
    """What each target place fetches from the source, (T, K): softmax(Q K^T / sqrt(K)) V, of one head.

    x: the decoder's vectors (T, D); memory: the encoder's output (S, D); w_q, w_k, w_v: (D, K), used as x @ w.
    Large scores, of thousands, are no problem, be it in one row only.
    """
    raise NotImplementedError


def ways_into_memory(x, memory, w_q, w_k, w_v, g):
    """The gradient of the memory in two parts, each (S, D): what came through the keys, and what through the values.

    g: the gradient (T, K) at what `cross_attention` returns. The sum of the two parts is the whole gradient.
    """
    raise NotImplementedError
