"""Wrong answers to q17."""

import numpy as np


def one_by_one(f, guess):
    """Greedy decoding: right, but it takes a call for every word."""
    y = np.array(guess)
    for t in range(len(y)):
        y[t] = f(y)[t]
    return y, len(y)


def stops_after_one(f, guess):
    """Takes the first correction for the last."""
    return f(np.asarray(guess)), 1


WRONG = {
    "counts all operations": {"critical_path": len},
    "only looks at the first argument": {
        "critical_path": lambda needs: 1 + max((len(parents) for parents in needs), default=0)
    },
    "one by one": {"jacobi": one_by_one},
    "stops after one call": {"jacobi": stops_after_one},
}
