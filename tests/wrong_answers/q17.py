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


def confirmed(f, guess):
    """Goes on until nothing changes, also after n calls."""
    y, calls = guess, 0
    while True:
        before, y, calls = y, f(y), calls + 1
        if np.array_equal(before, y):
            return y, calls


def in_place(f, guess):
    """Writes over the guess."""
    calls, settled = 0, False
    while not settled and calls < len(guess):
        after, calls = f(guess), calls + 1
        settled = np.array_equal(after, guess)
        guess[:] = after
    return guess, calls


def of_the_last(needs):
    """The chain that ends at the last operation."""
    length = []
    for parents in needs:
        length.append(1 + max((length[parent] for parent in parents), default=0))
    return length[-1]


WRONG = {
    "counts all operations": {"critical_path": len},
    "only looks at the first argument": {
        "critical_path": lambda needs: 1 + max((len(parents) for parents in needs), default=0)
    },
    "one by one": {"jacobi": one_by_one},
    "stops after one call": {"jacobi": stops_after_one},
    "sees it confirmed": {"jacobi": confirmed},
    "in place": {"jacobi": in_place},
    "ends at the last": {"critical_path": of_the_last},
}
