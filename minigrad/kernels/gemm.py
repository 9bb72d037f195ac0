"""Matrix multiplication, in registers.

C = A B makes M N K products of only M K + K N numbers. Each number is used many times, and what costs time is to fetch
it; so everything here is about using a number as often as possible once it has been fetched. From the inside out:

- A *tile* of C, a few rows high and a few vector registers wide, stays in the registers while k runs. Each step of k
  loads one row of B, a few vectors, and one number of A for every row of the tile:

                               b0             b1             b2             b3          row k of B, each b a vector
            a0 = A[i, k]       c00 += a0 b0   c01 += a0 b1   c02 += a0 b2   c03 += a0 b3
            a1 = A[i+1, k]     c10 += a1 b0   c11 += a1 b1   ...
            ...                                                       6 rows: 24 multiply-adds for 10 loads

- A *panel* of B, as wide as the tile, is copied into one piece of memory and used for many tiles below each other.
- A panel ends after DEPTH steps of k, so that it stays in the cache.

A is read where it lies, whatever its strides, and where the batch broadcasts, a matrix is read again: a transpose, the
split into heads, and broadcasting cost nothing. The additions over k are grouped by K alone, so the result does not
depend on the number of threads.

Compilers do not find this form by themselves. The tile is therefore written in the language of LLVM, as an intrinsic,
and so is the copying; the loops around them are Python for Numba.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import from_dtype, njit, prange, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from . import reference, threads

Array = np.ndarray

ir: Any = cgutils.ir  # pyright: ignore[reportPrivateImportUsage]  # llvmlite's, in the version that Numba uses

_features = os.environ.get("NUMBA_CPU_FEATURES") or get_host_cpu_features()
VECTOR = 64 if "+avx512f" in _features else 32 if "+avx" in _features else 16  # bytes in a vector register
WIDE = 2 if VECTOR == 32 else 4  # vectors across the large tile: AVX has 16 registers, AVX-512 and ARM have 32
TALL = 6  # rows of the large tile; with a row of B and a number of A it fills the registers
SHORT = 8  # rows of the smaller tiles, which do the columns that are left
ITEM = 24  # rows in an item of work: a multiple of both
BLOCK = 10  # items that use a panel before it is copied again
FEW = 64  # rows for which a panel is not worth its copy
DEPTH = 512  # steps of k in a panel

_OPTIONS: Any = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_int, _word, _byte, _flag = ir.IntType(32), ir.IntType(64), ir.IntType(8), ir.IntType(1)


# --------------------------------------------------------------------------------------------- instructions for LLVM
def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> tuple[Any, Any, Any]:
    """Where element `index` of a 4-d array is; the rows and columns from there on; the strides of both, in bytes."""
    array = context.make_array(kind)(context, builder, array)
    index, shape, strides = (cgutils.unpack_tuple(builder, x, 4) for x in (index, array.shape, array.strides))
    left = [builder.sub(n, i) for n, i in zip(shape, index, strict=True)]
    return cgutils.get_item_pointer(context, builder, kind, array, index), left[2:], strides[2:]


def _move(builder: Any, pointer: Any, count: Any, stride: Any) -> Any:
    """The pointer moved by `count` times `stride` bytes."""
    return builder.gep(builder.bitcast(pointer, _byte.as_pointer()), [builder.mul(count, stride)])


def _splat(builder: Any, x: Any, lanes: int) -> Any:
    """The vector (x, x, ... x)."""
    undefined = ir.Constant(ir.VectorType(x.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, x, _int(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_int, lanes), [0] * lanes))


def _make_tile(rows: int, vectors: int) -> Any:
    """tile(a, at, line, stride, depth, out, to, add): out[to...] = (out[to...] if add else 0) + a[at...] @ b.

    `at` and `to` say where in the 4-d arrays the tile begins; `line` is the address of the first row of b, and `stride`
    leads from row to row. Rows and columns that stick out beyond the end of `out` are computed and not written; only
    the large tile must not stick out to the right.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, at, line, stride, depth, out, to, add = arguments
        a_type, out_type = signature.args[0], signature.args[5]
        size = a_type.dtype.bitwidth // 8
        lanes = VECTOR // size
        number = context.get_value_type(a_type.dtype)
        vector, mask_type = ir.VectorType(number, lanes), ir.VectorType(_flag, lanes)
        zero = ir.Constant(vector, [0.0] * lanes)
        kind = f"v{lanes}f{8 * size}"

        def declare(name: str, result: Any, *kinds: Any) -> Any:
            return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, kinds), f"llvm.{name}")

        def load(pointer: Any, kind: Any) -> Any:
            return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=size)

        pointer_type = vector.as_pointer()
        fma = declare(f"fmuladd.{kind}", vector, vector, vector, vector)
        masked_load = declare(f"masked.load.{kind}.p0", vector, pointer_type, _int, mask_type, vector)
        masked_store = declare(f"masked.store.{kind}.p0", ir.VoidType(), vector, pointer_type, _int, mask_type)

        source, (rows_left, _), (down, right) = _place(context, builder, a_type, a, at)
        target, (_, columns_left), (out_down, _) = _place(context, builder, out_type, out, to)
        line = builder.inttoptr(line, pointer_type)
        exists = [builder.icmp_signed("<", _word(r), rows_left) for r in range(rows)]
        last = builder.sub(rows_left, _word(1))  # is read for the rows that do not exist
        starts = [_move(builder, source, builder.select(exists[r], _word(r), last), down) for r in range(rows)]
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(vectors)] for _ in range(rows)]

        limit = _splat(builder, columns_left, lanes)
        columns = [list(range(v * lanes, (v + 1) * lanes)) for v in range(vectors)]
        masks = [builder.icmp_signed("<", ir.Constant(ir.VectorType(_word, lanes), c), limit) for c in columns]

        def belongs() -> Iterator[tuple[Any, Any, Any]]:
            """Each sum, the place in `out` where it belongs, and which of its lanes do."""
            for r in range(rows):
                with builder.if_then(exists[r]):
                    row = _move(builder, target, _word(r), out_down)
                    for v in range(vectors):
                        place = builder.bitcast(_move(builder, row, _word(v), _word(VECTOR)), pointer_type)
                        yield sums[r][v], place, masks[v]

        with builder.if_then(add):
            for total, place, mask in belongs():
                if vectors == WIDE:
                    old = load(place, vector)
                else:
                    old = builder.call(masked_load, [place, _int(size), mask, zero])
                builder.store(old, total)
        with cgutils.for_range(builder, depth) as k:
            row = _move(builder, line, k.index, stride)
            b = [load(_move(builder, row, _word(v), _word(VECTOR)), vector) for v in range(vectors)]
            for start, totals in zip(starts, sums, strict=True):
                x = _splat(builder, load(_move(builder, start, k.index, right), number), lanes)
                for total, bv in zip(totals, b, strict=True):
                    builder.store(builder.call(fma, [x, bv, builder.load(total)]), total)
        for total, place, mask in belongs():
            if vectors == WIDE:
                builder.store(builder.load(total), place, align=size)
            else:
                builder.call(masked_store, [builder.load(total), place, _int(size), mask])
        return context.get_dummy_value()

    @intrinsic
    def tile(typing: Any, a: Any, at: Any, line: Any, stride: Any, depth: Any, out: Any, to: Any, add: Any) -> Any:
        index = types.UniTuple(types.intp, 4)
        return types.void(a, index, types.intp, types.intp, types.intp, out, index, types.boolean), generate

    return tile


def _make_copy(transposed: bool) -> Any:
    """copy(b, at, panel, to, width): panel[to...] = the square that begins at b[at...], as wide and high as a vector.

    The rows of the square must lie in adjacent memory, or, if `transposed`, its columns. `width` is the panel's.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        b, at, panel, to, width = arguments
        b_type, panel_type = signature.args[0], signature.args[2]
        size = b_type.dtype.bitwidth // 8
        lanes = VECTOR // size
        pointer_type = ir.VectorType(context.get_value_type(b_type.dtype), lanes).as_pointer()
        source, _, strides = _place(context, builder, b_type, b, at)
        target = builder.gep(context.make_array(panel_type)(context, builder, panel).data, [to])
        down = builder.mul(width, _word(size))

        lines = [_move(builder, source, _word(i), strides[transposed]) for i in range(lanes)]
        rows = [builder.load(builder.bitcast(line, pointer_type), align=size) for line in lines]
        if transposed:  # a card trick: cut the pack into halves and riffle, log2(lanes) times, and it is transposed
            riffle = [card for i in range(lanes) for card in (i, lanes + i)]
            masks = [ir.Constant(ir.VectorType(_int, lanes), half) for half in (riffle[:lanes], riffle[lanes:])]
            for _ in range(lanes.bit_length() - 1):
                halves = list(zip(rows[: lanes // 2], rows[lanes // 2 :], strict=True))
                rows = [builder.shuffle_vector(upper, lower, mask) for upper, lower in halves for mask in masks]
        for i, row in enumerate(rows):
            builder.store(row, builder.bitcast(_move(builder, target, _word(i), down), pointer_type), align=size)
        return context.get_dummy_value()

    @intrinsic
    def copy(typing: Any, b: Any, at: Any, panel: Any, to: Any, width: Any) -> Any:
        return types.void(b, types.UniTuple(types.intp, 4), panel, types.intp, types.intp), generate

    return copy


def _make_address() -> Any:
    """address(x, at): where in memory x[at...] is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, at = arguments
        return builder.ptrtoint(_place(context, builder, signature.args[0], x, at)[0], _word)

    @intrinsic
    def address(typing: Any, x: Any, at: Any) -> Any:
        return types.intp(x, types.UniTuple(types.intp, 4)), generate

    return address


_large, _medium, _small = _make_tile(TALL, WIDE), _make_tile(SHORT, 2), _make_tile(SHORT, 1)
_copy, _copy_transposed = _make_copy(transposed=False), _make_copy(transposed=True)
_address = _make_address()


# --------------------------------------------------------------------------------------------------- loops for Numba
@njit(inline="always", **_OPTIONS)
def _pack(b, p, q, k, depth, j, width, panel):
    """panel[d, c] = b[p, q, k + d, j + c], and 0 where b has no more columns."""
    lanes = VECTOR // b.itemsize
    adjacent_columns, adjacent_rows = b.strides[3] == b.itemsize, b.strides[2] == b.itemsize
    for c in range(0, width, lanes):
        columns = min(lanes, b.shape[3] - j - c)
        squares = depth // lanes if columns == lanes and (adjacent_columns or adjacent_rows) else 0
        for d in range(0, squares * lanes, lanes):
            if adjacent_columns:
                _copy(b, (p, q, k + d, j + c), panel, d * width + c, width)
            else:
                _copy_transposed(b, (p, q, k + d, j + c), panel, d * width + c, width)
        for d in range(squares * lanes, depth):
            for e in range(lanes):
                panel[d * width + c + e] = b[p, q, k + d, j + c + e] if e < columns else 0


@njit(**_OPTIONS)
def _items(a, b, out, first, last):
    """Items first..last-1 of out = a @ b; an item is ITEM rows of one matrix of the batch."""
    lanes = VECTOR // out.itemsize
    rows, columns, depths = out.shape[2], out.shape[3], a.shape[3]
    panel = np.empty((min(depths, DEPTH) * WIDE + 1) * lanes, out.dtype)
    panel = panel[-panel.ctypes.data % VECTOR // out.itemsize :]  # a vector that crosses a cache line takes two loads
    panel_line = panel.ctypes.data  # valid as long as `panel` is in use, which is to the end of the loop
    per_matrix = (rows + ITEM - 1) // ITEM
    matrix, item = divmod(first, per_matrix)
    p, q = divmod(matrix, out.shape[1])
    while first < last:
        count = min(BLOCK, per_matrix - item, last - first)
        top, bottom = item * ITEM, min((item + count) * ITEM, rows)
        ap, aq = min(p, a.shape[0] - 1), min(q, a.shape[1] - 1)  # a dimension of size 1 stands for any
        bp, bq = min(p, b.shape[0] - 1), min(q, b.shape[1] - 1)
        for k in range(0, depths, DEPTH):
            depth = min(DEPTH, depths - k)
            j = 0
            while j < columns:
                left = columns - j
                vectors = WIDE if left >= WIDE * lanes else 2 if left > lanes and WIDE > 2 else 1
                if bottom - top <= FEW and left >= vectors * lanes and b.strides[3] == b.itemsize:
                    line, stride = _address(b, (bp, bq, k, j)), b.strides[2]
                else:
                    _pack(b, bp, bq, k, depth, j, vectors * lanes, panel)
                    line, stride = panel_line, vectors * VECTOR
                if vectors == WIDE:
                    for i in range(top, bottom, TALL):
                        _large(a, (ap, aq, i, k), line, stride, depth, out, (p, q, i, j), k > 0)
                elif vectors == 2:
                    for i in range(top, bottom, SHORT):
                        _medium(a, (ap, aq, i, k), line, stride, depth, out, (p, q, i, j), k > 0)
                else:
                    for i in range(top, bottom, SHORT):
                        _small(a, (ap, aq, i, k), line, stride, depth, out, (p, q, i, j), k > 0)
                j += vectors * lanes
        first += count
        item += count
        if item == per_matrix:
            item, q = 0, q + 1
        if q == out.shape[1]:
            p, q = p + 1, 0


@njit(parallel=True, **_OPTIONS)
def _items_shared(a, b, out, items, chunks):
    for c in prange(chunks):
        _items(a, b, out, items * c // chunks, items * (c + 1) // chunks)


def _kernel(dtype: Any) -> threads.Kernel:
    number = from_dtype(dtype)
    read, write = types.Array(number, 4, "A", readonly=True), types.Array(number, 4, "C")
    return threads.Kernel(_items, _items_shared, (read, read, write, types.intp, types.intp))


_kernels = {dtype: _kernel(dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}


# -------------------------------------------------------------------------------------------------------- from Python
def matmul(a: Array, b: Array) -> Array:
    """See `reference.matmul`, which also does the dtypes other than float32 and float64."""
    kernel = _kernels.get(a.dtype)
    if kernel is None or b.dtype != a.dtype:
        return reference.matmul(a, b)
    rows, depth = a.shape[-2:]
    depth_of_b, columns = b.shape[-2:]
    if depth != depth_of_b:
        raise ValueError(f"matmul(): a has shape {a.shape}, b has shape {b.shape}; a.shape[-1] must equal b.shape[-2]")
    batch, batch_of_b = a.shape[:-2], b.shape[:-2]
    if batch != batch_of_b:
        batch = np.broadcast_shapes(batch, batch_of_b)
    out = np.empty((*batch, rows, columns), a.dtype)
    if depth == 0:
        out[...] = 0
    elif out.size:
        _multiply(kernel, a, b, out)
    return out


def _multiply(kernel: threads.Kernel, a: Array, b: Array, out: Array) -> None:
    """Give the kernel four dimensions: too few are filled up with ones, too many are a loop."""
    nanoseconds = out.size * a.shape[-1] / 50
    items = -(-out.shape[-2] // ITEM)
    if out.ndim == 2:
        kernel(nanoseconds, items, a[None, None], b[None, None], out[None, None])
    elif out.ndim <= 4:
        items *= math.prod(out.shape[:-2])
        kernel(nanoseconds, items, *[x[(None,) * (4 - x.ndim)] for x in (a, b, out)])
    else:
        for i, part in enumerate(out):
            _multiply(kernel, _entry(a, i, out.ndim), _entry(b, i, out.ndim), part)


def _entry(x: Array, i: int, ndim: int) -> Array:
    """Entry i of the first of `ndim` dimensions, which `x` may lack, or have with size 1."""
    return x if x.ndim < ndim else x[min(i, len(x) - 1)]
