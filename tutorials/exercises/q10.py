"""Exercise q10: two schemes that know distances only, Shaw's and rotary."""


def rows(T, c):
    """Which row of its table Shaw's scheme takes for query i and key j: an array (T, T) of integers.

    The table has a row for each distance j - i from -c (row 0) to c (row 2c); all that is farther counts as c.
    """
    raise NotImplementedError


def turn(x, places):
    """Turn the pairs (x_0, x_1), (x_2, x_3), ... of each row of x (T, K) as rotary positions do.

    places: an array (T,), where the rows stand. Pair n turns by the angle place * 10000^(-2n / K), from the first axis
    towards the second. K is even.
    """
    raise NotImplementedError
