"""What q20 must hold: the reach of masks, and dependence that is measured to the last bit."""

import numpy as np

from tutorials.check import expect
from tutorials.checks import locked

HINTS = (
    "After no layer at all, each place depends on itself. A layer lets t see all that those saw whom t attends to.",
    "With a skip, t also keeps what it saw itself: the mask or the identity. Boolean matrices can be multiplied by @.",
    "seen = step @ seen, the later layer on the left. To measure: change row s, and compare each row with !=.",
)


def _same(found, expected, what):
    """Two boolean matrices agree; the message names the first cell that does not."""
    found = np.asarray(found)
    expect(found.shape == expected.shape, f"{what} has shape {found.shape}, expected {expected.shape}")
    for t, s in np.argwhere(found != expected):
        expect(False, f"{what}: cell ({t}, {s}) is {bool(found[t, s])}, expected {bool(expected[t, s])}")


def _masks(rng):
    """A few random masks of one random size."""
    T = rng.integers(3, 7)
    return locked(*(rng.random((T, T)) < 0.3 for _ in range(rng.integers(2, 5))))


def one_layer_reaches_what_its_mask_says(answer, rng):
    """And with a skip itself."""
    mask = _masks(rng)[0]
    _same(answer.reach([mask], residual=False), mask, "one layer without a skip")
    _same(answer.reach([mask], residual=True), mask | np.eye(len(mask), dtype=bool), "one layer with a skip")


def layers_are_walked_one_after_the_other(answer, rng):
    """Place by place: the set of inputs that each place knows, after every layer."""
    masks = _masks(rng)
    for residual in (True, False):
        knows = [{t} for t in range(len(masks[0]))]
        for mask in masks:
            own = knows if residual else [set()] * len(knows)
            knows = [own[t].union(*[knows[u] for u in np.flatnonzero(row)]) for t, row in enumerate(mask)]
        expected = np.array([[s in known for s in range(len(knows))] for known in knows])
        _same(answer.reach(masks, residual), expected, f"{len(masks)} layers, residual={residual}")


def dependence_is_measured(answer, rng):
    """On functions of which it is known, and without changing x."""
    T, D = rng.integers(3, 7), rng.integers(1, 5)
    x, mask = rng.normal(size=(T, D)), rng.random((T, T)) < 0.5
    before = x.copy()
    found = answer.depends(lambda x: np.stack([np.cos(x[row]).sum(axis=0) for row in mask]), x, rng)
    _same(found, mask, "a sum over some of the places")
    expect((x == before).all(), "x has been changed")


def every_entry_counts(answer, rng):
    """One entry of the results tells of one entry of the inputs, be it the last one."""
    T, D = int(rng.integers(3, 7)), int(rng.integers(2, 5))
    x, mask = rng.normal(size=(T, D)), rng.random((T, T)) < 0.5
    for i, o in ((0, D - 1), (D - 1, 0), rng.integers(D, size=2)):
        place = np.eye(D)[o]
        found = answer.depends(lambda x, i=i, place=place: np.outer(mask @ np.cos(x[:, i]), place), x, rng)
        _same(found, mask, f"a sum over entry {i} of some of the places, in entry {o} of {D}")


def another_row_is_another_one(answer, rng):
    """Not the same one shifted or stretched: a function of the order of its entries notices."""
    T, D = int(rng.integers(3, 7)), 16
    found = answer.depends(lambda x: np.argsort(x, axis=1), rng.normal(size=(T, D)), rng)
    _same(found, np.eye(T, dtype=bool), "the order of the entries of each row")


def the_smallest_leak_counts(answer, rng):
    """One part in a hundred million of the next place."""
    T = rng.integers(3, 7)
    x = rng.normal(size=(T, 3))
    found = answer.depends(lambda x: x + 1e-8 * np.concatenate([x[1:], 0 * x[:1]]), x, rng)
    _same(found, np.eye(T, dtype=bool) | np.eye(T, k=1, dtype=bool), "a leak of 1e-8 from the next place")
