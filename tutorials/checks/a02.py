"""What a02 must hold: the result belongs to the copying, whatever the shapes."""

import numpy as np

from tutorials.check import close, expect

HINTS = (
    "Two kinds of dimensions were repeated: those that `shape` does not have, all at the left, and those of size 1.",
    "Sum over the g.ndim - len(shape) dimensions at the left first. Then the rest can be compared one by one.",
    "Where shape[i] == 1, sum with keepdims=True, so that the dimension stays. np.broadcast_shapes knows what fits.",
)


def _shapes(rng):
    """A random shape, and one that it is broadcast to."""
    large = rng.integers(1, 5, size=rng.integers(1, 5))
    small = np.where(rng.random(len(large)) < 0.4, 1, large)[rng.integers(len(large) + 1) :]
    return tuple(map(int, small)), tuple(map(int, large))


def a_bias_gets_the_sum_of_its_column(answer, rng):
    """The case of the lesson."""
    rows, columns = rng.integers(2, 6, size=2)
    g = rng.normal(size=(rows, columns))
    expected = [sum(g[i, j] for i in range(rows)) for j in range(columns)]
    close(answer.unbroadcast(g, (int(columns),)), expected, f"of g with shape {g.shape}, the gradient of b")


def the_shape_is_the_one_asked_for(answer, rng):
    """Also where a dimension of size 1 was repeated, or everything was."""
    for small, large in (_shapes(rng), _shapes(rng), ((), (2, 3)), ((4, 1), (4, 4)), ((1, 4), (4, 4))):
        found = np.shape(answer.unbroadcast(rng.normal(size=large), small))
        expect(found == small, f"from {large} to {small}: the result has shape {found}")


def it_is_the_transpose_of_copying(answer, rng):
    """<copy of b, g> = <b, sum of g>, for any shapes; square ones do not say which dimension is which."""
    size = int(rng.integers(2, 5))
    square = (size, size)
    for small, large in (_shapes(rng), _shapes(rng), ((size,), square), ((size, 1), square), ((1, size), square)):
        b, g = rng.normal(size=small), rng.normal(size=large)
        after = np.sum(np.broadcast_to(b, large) * g)
        before = np.sum(b * np.reshape(answer.unbroadcast(g, small), small))
        close(before, after, f"from {large} to {small}: the sum of b * unbroadcast(g)")


def equal_shapes_change_nothing(answer, rng):
    """Where nothing was copied, nothing is summed."""
    g = rng.normal(size=_shapes(rng)[1])
    close(answer.unbroadcast(g, g.shape), g, f"of g with shape {g.shape}, g in the same shape")


def what_cannot_be_is_an_error(answer, rng):
    """A shape that cannot be broadcast to that of g."""
    n = int(rng.integers(2, 5))
    for small, large in (((n + 1,), (3, n)), ((2, n), (n,)), ((n,), (3, 1))):
        try:
            answer.unbroadcast(rng.normal(size=large), small)
        except ValueError:
            continue
        expect(False, f"{small} cannot be broadcast to {large}, but there was no ValueError")
