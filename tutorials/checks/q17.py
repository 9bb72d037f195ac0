"""What q17 must hold: the longest chain, the text of greedy decoding, and no call too many."""

import numpy as np

from tutorials.check import expect
from tutorials.checks import locked

HINTS = (
    "Walk over the operations in order, and note for each how long the longest chain is that ends there.",
    "jacobi: y = f(y), again and again. Count every call, also the one that changes nothing.",
    "After n calls all n words are right, whatever the guess was: there is no need to see it confirmed.",
)


def it_finds_the_longest_chain(answer, rng):
    """Against the powers of the matrix of who needs whom: the first that is 0 everywhere."""
    n = int(rng.integers(1, 12))
    table = np.tril(rng.random((n, n)) < 0.3, -1)
    chains, expected = table.astype(int), 1
    while chains.any():
        chains, expected = np.minimum(chains @ table, 1), expected + 1
    needs = [np.flatnonzero(row).tolist() for row in table]
    for each in (needs, [*needs, []]):  # the last operation may need nothing
        found = answer.critical_path(each)
        expect(found == expected, f"needs = {each}: the longest chain is {found}, expected {expected}")


def _writer(rng):
    """A random f where each word depends on one earlier word, or none; and the text that solves it."""
    n = int(rng.integers(2, 12))
    source = [int(rng.integers(-1, t)) if t else -1 for t in range(n)]  # -1: on none
    shift = rng.integers(1, 10, n)

    def f(y):
        f.calls += 1
        return np.array([(shift[t] + (y[source[t]] if source[t] >= 0 else 0)) % 10 for t in range(n)])

    f.calls = 0
    text = np.zeros(n, int)
    for t in range(n):
        text[t] = (shift[t] + (text[source[t]] if source[t] >= 0 else 0)) % 10
    return f, text


def it_writes_what_greedy_writes(answer, rng):
    """From any guess."""
    f, text = _writer(rng)
    found, _ = answer.jacobi(f, rng.integers(0, 10, len(text)))
    expect(np.array_equal(found, text), f"the text is {np.asarray(found).tolist()}, expected {text.tolist()}")


def it_calls_no_more_than_needed(answer, rng):
    """And says how often it did."""
    f, text = _writer(rng)
    guess = rng.integers(0, 10, len(text))
    y, expected = guess, 0
    while expected < len(text):
        before, y, expected = y, f(y), expected + 1
        if np.array_equal(before, y):
            break
    f.calls = 0
    _, calls = answer.jacobi(f, guess)
    expect(f.calls == expected, f"f was called {f.calls} times for {len(text)} words, expected {expected}")
    expect(calls == expected, f"calls is {calls}, expected {expected}")


def n_calls_are_enough(answer, rng):
    """If every word depends on the one before, the last one is right after n calls, and need not be confirmed."""
    n, calls = int(rng.integers(1, 9)), []

    def f(y):
        calls.append(y)
        return np.concatenate([[1], y[:-1] + 1])

    text, _ = answer.jacobi(f, *locked(np.zeros(n, int)))
    expect(len(calls) == n, f"f was called {len(calls)} times for a chain of {n} words, expected {n}")
    expect(np.array_equal(text, np.arange(1, n + 1)), f"the text is {np.asarray(text).tolist()}, expected 1 to {n}")


def a_right_guess_takes_one_call(answer, rng):
    """It is only confirmed."""
    f, text = _writer(rng)
    _, calls = answer.jacobi(f, text.copy())
    expect(calls == 1, f"a right guess took {calls} calls, expected 1")
