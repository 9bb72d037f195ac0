"""Engine 4: what the answers are held to."""

import numpy as np

from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "Three loops again, with steps of `size`: over blocks of rows of C, of columns of C, and of the sum.",
    "a[i : i + size] may be shorter than size: a slice ends where its array ends. C begins as 0, and each block adds.",
    "c[i:i+size, j:j+size] += multiply(a[i:i+size, k:k+size], b[k:k+size, j:j+size]). A tile fetches rows + columns.",
)


def _product(answer, rng, m, k, n, size, dtype=np.float64):
    """The inputs, A in the dtype, the answer's product, and the shapes of the blocks that it multiplied."""
    a, b = locked(rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)))
    blocks = []

    def multiply(x, y):
        expect(x.shape[1] == y.shape[0], f"blocks of shapes {x.shape} and {y.shape} have no product")
        blocks.append((x.shape[0], x.shape[1], y.shape[1]))
        return x @ y

    return a, b, np.asarray(answer.in_blocks(a, b, size, multiply)), blocks


def it_is_the_product_when_size_divides_all(answer, rng):
    """The simple case."""
    size = int(rng.integers(1, 5))
    a, b, found, _ = _product(answer, rng, *(int(n) * size for n in rng.integers(1, 4, 3)), size)
    close(found, a @ b, "C")


def it_is_the_product_of_any_sizes(answer, rng):
    """Most sizes are not multiples."""
    a, b, found, _ = _product(answer, rng, *(int(n) for n in rng.integers(1, 18, 3)), int(rng.integers(1, 8)))
    close(found, a @ b, f"C for {a.shape} times {b.shape}")


def no_block_is_too_large_or_done_twice(answer, rng):
    """At most `size` each way, and M K N multiplications in all."""
    m, k, n, size = *(int(n) for n in rng.integers(1, 18, 3)), int(rng.integers(1, 8))
    *_, blocks = _product(answer, rng, m, k, n, size)
    largest, done = max(map(max, blocks), default=0), sum(x * y * z for x, y, z in blocks)
    expect(largest <= size, f"a block has {largest} rows, columns or steps; at most {size} are allowed")
    expect(
        done == m * k * n, f"all blocks together have {done} multiplications, expected {m} x {k} x {n} = {m * k * n}"
    )


def nothing_is_a_size_too(answer, rng):
    """No rows, no columns; a sum over nothing is 0."""
    for empty in range(3):
        sizes = [0 if place == empty else int(n) for place, n in enumerate(rng.integers(1, 6, 3))]
        a, b, found, _ = _product(answer, rng, *sizes, 2)
        close(found, a @ b, f"C for {a.shape} times {b.shape}")


def the_dtype_is_kept(answer, rng):
    """That of A: float32, although B is float64."""
    *_, found, _ = _product(answer, rng, 5, 4, 3, 2, np.float32)
    expect(found.dtype == np.float32, f"from A in float32 came {found.dtype}")


def the_intensity_is_work_per_byte(answer, rng):
    """A tile of one number fetches two for one FMA."""
    close(answer.intensity(1, 1, 4), 1 / 4, "the intensity of a tile of 1 x 1 float32")
    rows, columns = int(rng.integers(1, 9)), int(rng.integers(1, 99))
    for size in (4, 8):
        expected = sum(2 for _ in range(rows) for _ in range(columns)) / (rows * size + columns * size)
        what = f"the intensity of a tile of {rows} x {columns}, {size} bytes each"
        close(answer.intensity(rows, columns, size), expected, what)
