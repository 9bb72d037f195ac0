"""Exercise q20: who can see whom.

A stack of layers x + f(x) has one mask each, boolean (T, T): mask[t, s] is True where place t may attend to place s.
First work out from the masks alone which results can depend on which inputs. Then measure it, for any function.
"""


def reach(masks, residual=True):
    """Which result t can depend on which input s, boolean (T, T), after all layers; masks[0] is that of the first.

    residual: whether there are skips, x + f(x), or f(x) only. What is not reached depends on nothing.
    """
    raise NotImplementedError


def depends(function, x, rng):
    """Which row t of function(x) changes, be it in one bit, when row s of x is another one, boolean (T, T).

    function: from an array (T, D) to one of the same shape; x: an array (T, D), which is not to be changed; rng: a
    random generator, for the other rows.
    """
    raise NotImplementedError
