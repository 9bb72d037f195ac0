"""Matrix multiplication, in registers.

C = A B makes M N K products of only M K + K N numbers. Each number is used many times, and what costs time is to fetch
it; so everything here is about using a number as often as possible once it has been fetched. From the inside out:

- A *tile* of C stays in the registers while k runs: 6 rows by 4 vectors, where there are 32 registers. See `tile`.
- A *panel* of B, as wide as the tile, is copied into one piece of memory and used for all the tiles below each other.
- A *block* of rows of A, so high that it stays in the cache, is used for one panel after another.
- Both end after DEPTH steps of k, for the same reason; then the next steps of k add to what is in C. The first begin
  at 0, at C itself (`matmul_add`), or at a bias (`linear`), which costs nothing there.

        for each block of rows:                         items: blocks of rows, cut into pieces of columns
            for each DEPTH steps of k:
                copy the block of A, if a row of it is scattered over memory
                for each panel of B:
                    copy the panel, unless it is hardly used
                    for each tile:  C += A B

Scattered rows are copied because every step would go to another page of memory, and often to the same few places in
the cache. Else A is read where it lies, whatever its strides, and where the batch broadcasts, a matrix is read again:
a transpose, the split into heads, and broadcasting cost next to nothing.

Every element of C is summed by one thread, in the order of k, and where k is cut into depths is the same for all: so
the result does not depend on the number of threads.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import from_dtype, njit, types
from numba.core import cgutils

from . import reference, threads
from .pieces import DTYPES, empty, get, put
from .simd import VECTOR, borrowed, lanes, spread
from .tile import TALL, WIDE, carry, strip, strip_width, turn

Array = np.ndarray

ir: Any = cgutils.ir  # pyright: ignore[reportPrivateImportUsage]  # llvmlite's, in the version that Numba uses

ACROSS = WIDE * VECTOR  # bytes in a row of a panel
ROWS = 240  # at most, in a block
DEPTH = 512  # steps of k at most, in a block and in a panel
ITEMS = 16  # for the threads to share; if there are fewer, blocks are made lower,
LOW = 12  # but not lower than this: two tiles
FEW = 64  # rows for which a panel is not worth its copy
MANY = 128  # columns from which on a block of A that is scattered over memory is worth its copy
START = 80  # nanoseconds to begin a matrix
LINES = 64  # rows of a sum of columns that are added up before their sums are
SLICES = 64  # of the way back of a linear layer, for the threads to share

_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


# --------------------------------------------------------------------------------------------------------------- copies
@njit(**_OPTIONS)
def _gather(x, panel, width):
    """panel[i * width + j] = x[i, j]"""
    rows, columns = x.shape
    down, right = x.strides
    zero, size, n = panel.dtype.type(0), panel.itemsize, VECTOR // panel.itemsize
    source, target = x.ctypes.data, panel.ctypes.data
    high, wide = rows // n * n, columns // n * n
    if right == size:  # along the rows, as they lie in memory
        for i in range(0, high, n):
            for j in range(0, wide, n):
                carry(zero, source + i * down + j * size, down, target + (i * width + j) * size, width * size)
    elif down == size:  # along the columns
        for j in range(0, wide, n):
            for i in range(0, high, n):
                at = source + i * size + j * right
                turn(zero, at, right, target + (i * width + j) * size, width * size)
    else:
        wide = 0
    for i in range(rows):  # what is left, number by number
        for j in range(wide if i < high else 0, columns):
            panel[i * width + j] = x[i, j]


# ------------------------------------------------------------------------------------------------------------- product
@njit(inline="always", **_OPTIONS)
def _rectangle(a, b, c, start, scattered, block, padded, few, panel, in_panel):
    """c = start + a @ b for a block of rows and some panels; returns what is in `panel`.

    `start` is (address, stride), and the address 0 stands for no start.
    """
    zero, size = c.dtype.type(0), c.itemsize
    rows, columns = c.shape
    k, end, again = 0, a.shape[1], False
    while k < end or not again:  # also once for a sum over nothing
        depth = min(DEPTH, end - k)
        x = a[:, k : k + depth]
        if scattered:
            _gather(x, block, padded)
            place_of_a = block.ctypes.data, padded * size, size
        else:
            place_of_a = x.ctypes.data, x.strides[0], x.strides[1]
        j = 0
        while j < columns:
            width = strip_width(columns - j, size)
            y = b[k : k + depth, j : j + width]
            place_of_b = y.ctypes.data, y.strides[0]
            if not few:
                if in_panel != (y.ctypes.data, depth, width):
                    in_panel = y.ctypes.data, depth, width
                    _gather(y, panel, width)
                place_of_b = panel.ctypes.data, width * size
            place_of_c = c[:, j:].ctypes.data, c.strides[0]
            begin = place_of_c if again else (start[0] + j * size, start[1]) if start[0] != 0 else start
            strip(zero, place_of_a, place_of_b, place_of_c, begin, (rows, depth, width), size)
            j += width
        k, again = k + depth, True
    return in_panel


@njit(**_OPTIONS)
def _items(out, blocks):
    """How many items there are: every matrix of the batch is cut into blocks of rows, and they as wide as a panel."""
    wide = ACROSS // out.itemsize
    return out.shape[0] * out.shape[1] * blocks * ((out.shape[3] + wide - 1) // wide)


@njit(**_OPTIONS)
def _multiply_items(a, b, start, started, out, blocks, first, last):
    """Items first..last-1 of out = a @ b, or start + a @ b if `started`; with stride 0, `start` is one row for all."""
    size, rows, columns = out.itemsize, out.shape[2], out.shape[3]
    wide = ACROSS // size
    tiles, across = (rows + TALL - 1) // TALL, (columns + wide - 1) // wide
    few = rows <= FEW * blocks and b.strides[3] == size
    scattered = a.strides[3] != size and columns >= MANY
    deep = min(a.shape[3], DEPTH)
    padded = deep + VECTOR // size  # else the rows of a block might all compete for the same places in the cache
    block_of_a = np.empty((tiles // blocks + 1) * TALL * padded if scattered else 0, out.dtype)
    panel = np.empty(0 if few else (deep + 1) * wide, out.dtype)
    panel = panel[-panel.ctypes.data % VECTOR // size :]  # a vector that crosses a cache line takes two loads
    in_panel = (0, 0, 0)
    item = first
    while item < last:
        block, piece = divmod(item, across)
        matrix, block = divmod(block, blocks)
        p, q = divmod(matrix, out.shape[1])
        pieces = min(across - piece, last - item)  # those of one block are done together
        item += pieces
        top, bottom = block * tiles // blocks * TALL, min((block + 1) * tiles // blocks * TALL, rows)
        left, right = piece * wide, min((piece + pieces) * wide, columns)
        x = a[min(p, a.shape[0] - 1), min(q, a.shape[1] - 1), top:bottom]  # a dimension of size 1 stands for any
        y = b[min(p, b.shape[0] - 1), min(q, b.shape[1] - 1), :, left:right]
        begin = 0, 0
        if started:
            s = start[min(p, start.shape[0] - 1), min(q, start.shape[1] - 1), :, left:]
            begin = s.ctypes.data + top * s.strides[0], s.strides[0]
        c = out[p, q, top:bottom, left:right]
        in_panel = _rectangle(x, y, c, begin, scattered, block_of_a, padded, few, panel, in_panel)


# ---------------------------------------------------------------------------------------------------------- the kernel
@njit(**_OPTIONS)
def _add_columns(x, sums, first, last):
    """Vectors first..last-1 of sums_j = sum_i x_ij.

    The sums of LINES rows are added up, and the sums of LINES such sums, and so on: so rounding errors do not pile up.
    """
    rows, columns = x.shape
    x, step, zero = borrowed(x), lanes(x), spread(sums, 0)
    for j in range(first * step, min(last * step, columns), step):
        a, b, c, d = zero, zero, zero, zero
        for i in range(rows):
            a = a + get(x[i], j, columns - j)
            if (i + 1) % LINES == 0:
                a, b = zero, b + a
            if (i + 1) % LINES**2 == 0:
                b, c = zero, c + b
            if (i + 1) % LINES**3 == 0:
                c, d = zero, d + c
        put(sums, j, columns - j, a + b + c + d)


@njit(**_OPTIONS)
def _products(a, b, start, started, out, blocks, a2, b2, out2, blocks2, sums, slices, first, last):
    """Slices first..last-1 of out = a @ b, of out2 = a2 @ b2, and of the column sums of a: of each as large a part.

    Three in one, because the way back of a linear layer wants all three, and to wake the threads takes time. Where
    there is nothing to do, `out2` or `sums` are empty. The two products are a loop so that the code is there once.
    """
    for part in range(2):
        if part == 1:
            a0, a, b, started, out, blocks = a, a2, b2, False, out2, blocks2
        items = _items(out, blocks)
        _multiply_items(a, b, start, started, out, blocks, items * first // slices, items * last // slices)
    vectors = (sums.size + lanes(sums) - 1) // lanes(sums)
    if vectors:
        _add_columns(a0[0, 0], sums, vectors * first // slices, vectors * last // slices)


# -------------------------------------------------------------------------------------------------------- from Python
def _kernel(dtype: Any) -> threads.Kernel:
    number, whole = from_dtype(dtype), types.intp
    read, write = types.Array(number, 4, "A", readonly=True), types.Array(number, 4, "A")
    first, second = (read, read, read, types.boolean, write, whole), (read, read, write, whole)
    return threads.Kernel(_products, (*first, *second, types.Array(number, 1, "C"), whole, whole, whole))


_of = {dtype: _kernel(dtype) for dtype in DTYPES}
_nothing = {dtype: (np.empty((0, 1, 1, 1), dtype), np.empty(0, dtype)) for dtype in DTYPES}


def matmul(a: Array, b: Array) -> Array:
    """See `reference.matmul`, which also does the dtypes other than float32 and float64."""
    dtype, shape, shape_of_b = a.dtype, a.shape, b.shape
    if dtype not in _of or b.dtype != dtype:
        return reference.matmul(a, b)
    depth, columns = shape_of_b[-2:]
    if shape[-1] != depth:
        raise ValueError(f"matmul(): a has shape {shape}, b has shape {shape_of_b}; a.shape[-1] must equal b.shape[-2]")
    if len(shape) == len(shape_of_b) == 2:
        out = empty((shape[0], columns), dtype)
        _multiply(a, b, None, out)
        return out
    if len(shape_of_b) == 2 and a.flags.c_contiguous:  # one tall matrix
        out = empty((math.prod(shape[:-1]), columns), dtype)
        _multiply(a.reshape(len(out), depth), b, None, out)
        return out.reshape(*shape[:-1], columns)
    batch = shape[:-2] if shape[:-2] == shape_of_b[:-2] else np.broadcast_shapes(shape[:-2], shape_of_b[:-2])
    out = empty((*batch, shape[-2], columns), dtype)
    _multiply_batch(a, b, out)
    return out


def matmul_add(c: Array, a: Array, b: Array) -> None:
    """See `reference.matmul_add`."""
    fits = c.ndim == a.ndim == b.ndim == 2 and c.shape == (len(a), b.shape[1]) and a.shape[1] == len(b)
    if fits and c.dtype in _of and a.dtype == b.dtype == c.dtype and (c.strides[1] == c.itemsize or c.shape[1] < 2):
        _multiply(a, b, c, c)
    else:
        c += matmul(a, b)


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """See `reference.linear`."""
    if bias is None or x.ndim != 2 or x.dtype not in _of or not x.dtype == weight.dtype == bias.dtype:
        y = matmul(x, weight.T)
        return y if bias is None else y + bias
    (rows, size), outputs = x.shape, len(weight)
    if weight.shape != (outputs, size) or bias.shape != (outputs,):
        raise ValueError(
            f"linear(): x has shape {x.shape}, weight has shape {weight.shape}, bias has shape {bias.shape}; "
            "they must be (R, I), (O, I) and (O,)"
        )
    out = empty((rows, outputs), x.dtype)
    _multiply(x, weight.T, np.ascontiguousarray(bias), out)
    return out


def column_sums(x: Array) -> Array:
    """See `reference.column_sums`."""
    if x.dtype not in _of or not x.size:
        return reference.column_sums(x)
    x = (x if x.strides[1] == x.itemsize else np.ascontiguousarray(x))[None, None]
    sums, (none, _) = np.empty(x.shape[3], x.dtype), _nothing[x.dtype]
    vectors = -(-sums.nbytes // VECTOR)
    _of[x.dtype](x.nbytes / 20, vectors, x, x, none, False, none, 1, x, x, none, 1, sums, vectors)
    return sums


def linear_vjp(
    g: Array, x: Array, weight: Array, with_bias: bool, start: Array | None = None
) -> tuple[Array, Array, Array | None]:
    """See `reference.linear_vjp`."""
    dtype, (rows, outputs), inputs = g.dtype, g.shape, weight.shape[1]
    alike = dtype == x.dtype == weight.dtype and (start is None or (dtype == start.dtype and start.shape == x.shape))
    if dtype not in _of or not alike or not g.size:
        return reference.linear_vjp(g, x, weight, with_bias, start)
    g = g if g.strides[1] == g.itemsize else np.ascontiguousarray(g)
    dx, dw = empty((rows, inputs), dtype), empty((outputs, inputs), dtype)
    db = np.empty(outputs, dtype) if with_bias else _nothing[dtype][1]
    nanoseconds, _, blocks = _plan(1, rows, inputs, outputs, dtype.itemsize)
    _, _, blocks2 = _plan(1, outputs, inputs, rows, dtype.itemsize)
    g4, out = g[None, None], dx[None, None]
    begin = out if start is None else np.ascontiguousarray(start)[None, None]
    first = g4, weight[None, None], begin, start is not None, out, blocks
    second = g.T[None, None], x[None, None], dw[None, None]
    _of[dtype](2 * nanoseconds, SLICES, *first, *second, blocks2, db, SLICES)
    return dx, dw, db if with_bias else None


def _multiply(a: Array, b: Array, start: Array | None, out: Array) -> None:
    """out = start + a @ b for two dimensions; `start` is a row, or `out` itself."""
    started, result = start is not None, out[None, None]
    first = result if start is None or start is out else start[None, None, None]
    _run(a[None, None], b[None, None], first, started, result)


def _multiply_batch(a: Array, b: Array, out: Array) -> None:
    """Give the kernel four dimensions: too few are filled up with ones, too many are a loop."""
    if out.ndim <= 4:
        a, b, out = (x[(None,) * (4 - x.ndim)] for x in (a, b, out))
        _run(a, b, out, False, out)
    else:
        for i, part in enumerate(out):
            _multiply_batch(_entry(a, i, out.ndim), _entry(b, i, out.ndim), part)


def _entry(x: Array, i: int, ndim: int) -> Array:
    """Entry i of the first of `ndim` dimensions, which `x` may lack, or have with size 1."""
    return x if x.ndim < ndim else x[min(i, len(x) - 1)]


def _run(a: Array, b: Array, start: Array, started: bool, out: Array) -> None:
    matrices, more, rows, columns = out.shape
    nanoseconds, items, blocks = _plan(matrices * more, rows, columns, a.shape[3], out.itemsize)
    none, no_sums = _nothing[out.dtype]
    _of[out.dtype](nanoseconds, items, a, b, start, started, out, blocks, a, b, none, 1, no_sums, items)


@functools.lru_cache(maxsize=4096)
def _plan(matrices: int, rows: int, columns: int, depth: int, size: int) -> tuple[float, int, int]:
    """How to cut products of numbers of so many bytes: nanoseconds, items, blocks of rows in a matrix."""
    pieces, blocks = matrices * -(-columns * size // ACROSS), 1
    if rows > LOW and pieces > 0:
        blocks = max(-(-rows // ROWS), min(-(-rows // LOW), -(-ITEMS // pieces)))
    return matrices * (rows * columns * depth / 50 + START), pieces * blocks, blocks
