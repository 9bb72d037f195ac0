"""Exercise q17: who waits for whom, and how to wait less."""


def critical_path(needs):
    """How many operations there are in the longest chain.

    needs: a list; needs[i] are the numbers of the operations, all below i, whose results operation i uses.
    """
    raise NotImplementedError


def jacobi(f, guess):
    """Find y with f(y) = y, and how often f was called: a pair (y, calls).

    guess: the first y, an array of n words. f(y) is an array of n words, too: word t is what the model says after the
    words before t of y; it does not depend on y[t] and later ones. Stop as soon as you know that you have it: either
    nothing has changed, or there have been n calls.
    """
    raise NotImplementedError
