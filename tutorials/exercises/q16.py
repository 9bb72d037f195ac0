"""Exercise q16: a decoder that cannot see what it must say."""


def weights(scores):
    """Attention weights of a decoder: softmax of each row of `scores` (..., T, T), query t by key s, over s <= t.

    Later keys have weight exactly 0, and their scores, whatever they are, change no bit of any weight.
    Large scores, of thousands, are no problem, be it in one row only.
    """
    raise NotImplementedError


def inputs_and_labels(text, begin, end):
    """From `text` (B, T) to what the decoder reads, (B, T + 1), and what it must say at each place, (B, T + 1).

    It begins to write after the token `begin`, and the last that it must say is the token `end`.
    """
    raise NotImplementedError
