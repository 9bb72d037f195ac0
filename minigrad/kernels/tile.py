"""The innermost part of every matrix product: a tile of C = A B that stays in the registers while k runs.

Each step of k loads one row of B, a few vectors, and one number of A for every row of the tile:

                           b0             b1             b2             b3          row k of B, each b a vector
        a0 = A[i, k]       c00 += a0 b0   c01 += a0 b1   c02 += a0 b2   c03 += a0 b3
        a1 = A[i+1, k]     c10 += a1 b0   c11 += a1 b1   ...
        ...                                                       6 rows: 24 multiply-adds for 10 loads

Compilers do not find this form by themselves, so it is written here in the language of LLVM, and Numba calls it like a
function. It knows nothing but addresses, and strides in bytes, so A may lie in memory in any way.
"""

from __future__ import annotations

import platform
from typing import Any

from numba import njit, types
from numba.core import cgutils

from .simd import VECTOR, intrinsic

ir: Any = cgutils.ir  # pyright: ignore[reportPrivateImportUsage]  # llvmlite's, in the version that Numba uses

MANY_REGISTERS = VECTOR == 64 or platform.machine().lower() in ("arm64", "aarch64")  # 32 of them, else 16
WIDE = 4 if MANY_REGISTERS else 2  # vectors across the large tile
TALL = 6  # rows of the large tile; with a row of B and a number of A it fills the registers
SHORT = 8  # rows of the smaller tiles, which do the columns that are left

_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_int, _word, _byte, _flag = ir.IntType(32), ir.IntType(64), ir.IntType(8), ir.IntType(1)


def _make_strip(height: int, vectors: int, whole: bool) -> Any:
    """strip(zero, a, b, c, start, sizes): C = start + A B for a strip of columns as wide as a tile, tile by tile.

    `a` is (address, stride down, stride right); b, c and start are (address, stride down), with adjacent columns. The
    sums start at 0 if the address `start` is 0; at C, to add to it; and with stride 0 at one row for all, a bias.
    `sizes` is (rows, depth, columns); a strip that is not `whole` has fewer columns than its only vector has lanes.
    `zero` says the dtype.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (a, down_a, right_a), (b, down_b), (c, down_c), (start, down_start), (rows, depth, columns) = (
            cgutils.unpack_tuple(builder, x) for x in arguments[1:]
        )
        size = signature.args[0].bitwidth // 8
        lanes = VECTOR // size
        number = context.get_value_type(signature.args[0])
        vector, flags = ir.VectorType(number, lanes), ir.VectorType(_flag, lanes)
        zero, kind = ir.Constant(vector, [0.0] * lanes), f"v{lanes}f{8 * size}"

        def call(name: str, result: Any, *arguments: Any) -> Any:
            function = ir.FunctionType(result, [x.type for x in arguments])
            return builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}"), arguments)

        def place(address: Any, count: Any, stride: Any, kind: Any = vector) -> Any:
            moved = builder.gep(builder.inttoptr(address, _byte.as_pointer()), [builder.mul(count, stride)])
            return builder.bitcast(moved, kind.as_pointer())

        def spread(x: Any) -> Any:
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), x, _int(0))
            return builder.shuffle_vector(first, zero, ir.Constant(ir.VectorType(_int, lanes), [0] * lanes))

        exists = ir.Constant(flags, [0] * lanes)
        for i in range(lanes):
            exists = builder.insert_element(exists, builder.icmp_signed("<", _word(i), columns), _int(i))

        def load(row: Any, v: int) -> Any:
            pointer = builder.gep(row, [_word(v)])
            if whole:
                return builder.load(pointer, align=size)
            return call(f"masked.load.{kind}.p0", vector, pointer, _int(size), exists, zero)

        def store(x: Any, row: Any, v: int) -> None:
            pointer = builder.gep(row, [_word(v)])
            if whole:
                builder.store(x, pointer, align=size)
            else:
                call(f"masked.store.{kind}.p0", ir.VoidType(), x, pointer, _int(size), exists)

        last = builder.sub(rows, _word(1))
        sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(height)]
        with cgutils.for_range_slice(builder, _word(0), rows, _word(height), inc=True) as (top, _):
            inside = [builder.add(top, _word(r)) for r in range(height)]  # beyond the last row, the last row again
            inside = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in inside]
            for totals in sums:
                for total in totals:
                    builder.store(zero, total)
            with builder.if_then(builder.icmp_signed("!=", start, _word(0))):
                for i, totals in zip(inside, sums, strict=True):
                    for v, total in enumerate(totals):
                        builder.store(load(place(start, i, down_start), v), total)
            lines = [place(a, i, down_a, _byte) for i in inside]
            with cgutils.for_range(builder, depth) as k:
                row = place(b, k.index, down_b)
                bs = [load(row, v) for v in range(vectors)]
                across = builder.mul(k.index, right_a)
                for line, totals in zip(lines, sums, strict=True):
                    x = builder.load(builder.bitcast(builder.gep(line, [across]), number.as_pointer()), align=size)
                    x = spread(x)
                    for bv, total in zip(bs, totals, strict=True):
                        builder.store(call(f"fmuladd.{kind}", vector, x, bv, builder.load(total)), total)
            for i, totals in zip(inside, sums, strict=True):
                for v, total in enumerate(totals):
                    store(builder.load(total), place(c, i, down_c), v)
        return context.get_dummy_value()

    @intrinsic
    def strip(typing: Any, zero: Any, a: Any, b: Any, c: Any, start: Any, sizes: Any) -> Any:
        two, three = types.UniTuple(types.intp, 2), types.UniTuple(types.intp, 3)
        return types.void(zero, three, two, two, two, three), generate

    return strip


_large, _medium = _make_strip(TALL, WIDE, whole=True), _make_strip(SHORT, 2, whole=True)
_small, _edge = _make_strip(SHORT, 1, whole=True), _make_strip(SHORT, 1, whole=False)


@njit(**_OPTIONS)
def strip_width(columns, size):
    """How many of `columns` columns of numbers of `size` bytes the next strip takes."""
    lanes = VECTOR // size
    return WIDE * lanes if columns >= WIDE * lanes else 2 * lanes if columns >= 2 * lanes else min(lanes, columns)


@njit(**_OPTIONS)
def strip(zero, a, b, c, start, sizes, size):
    """C = start + A B for the columns of one strip; arguments as in `_make_strip`, and the `size` of a number."""
    width = sizes[2] * size
    if width == WIDE * VECTOR:
        _large(zero, a, b, c, start, sizes)
    elif width == 2 * VECTOR:
        _medium(zero, a, b, c, start, sizes)
    elif width == VECTOR:
        _small(zero, a, b, c, start, sizes)
    else:
        _edge(zero, a, b, c, start, sizes)


# ------------------------------------------------------------------------- small matrices, padded, inside other kernels
def _make_block(vectors: int) -> Any:
    """block(zero, a, b, c, depth, add): SHORT rows of C = A B, or of C + A B if `add`, `vectors` vectors wide.

    `a` is (address, stride down, stride right); b and c are (address, stride down), with adjacent columns. What makes
    `strip` long, rows that are not there, masks, a start elsewhere, is left out: here the work is over so soon that the
    preparation counts.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (a, down_a, right_a), (b, down_b), (c, down_c) = (cgutils.unpack_tuple(builder, x) for x in arguments[1:4])
        depth, add = arguments[4:]
        size = signature.args[0].bitwidth // 8
        lanes = VECTOR // size
        number = context.get_value_type(signature.args[0])
        vector = ir.VectorType(number, lanes)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{lanes}f{8 * size}"
        )

        def place(address: Any, kind: Any, *moves: Any) -> Any:
            for move in moves:
                address = builder.add(address, move)
            return builder.inttoptr(address, kind.as_pointer())

        def spread(x: Any) -> Any:
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), x, _int(0))
            return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_int, lanes), [0] * lanes))

        def down(stride: Any) -> list[Any]:
            return [builder.mul(_word(r), stride) for r in range(SHORT)]

        sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(SHORT)]
        places = [[place(c, vector, line, _word(v * VECTOR)) for v in range(vectors)] for line in down(down_c)]
        cells = [pair for totals, line in zip(sums, places, strict=True) for pair in zip(totals, line, strict=True)]
        for total, _ in cells:
            builder.store(ir.Constant(vector, [0.0] * lanes), total)
        with builder.if_then(add):
            for total, x in cells:
                builder.store(builder.load(x, align=size), total)
        lines = down(down_a)
        with cgutils.for_range(builder, depth) as k:
            row, column = builder.mul(k.index, down_b), builder.mul(k.index, right_a)
            bs = [builder.load(place(b, vector, row, _word(v * VECTOR)), align=size) for v in range(vectors)]
            for line, totals in zip(lines, sums, strict=True):
                x = spread(builder.load(place(a, number, column, line), align=size))
                for bv, total in zip(bs, totals, strict=True):
                    builder.store(builder.call(function, [x, bv, builder.load(total)]), total)
        for total, x in cells:
            builder.store(builder.load(total), x, align=size)
        return context.get_dummy_value()

    @intrinsic
    def block(typing: Any, zero: Any, a: Any, b: Any, c: Any, depth: Any, add: Any) -> Any:
        two, three = types.UniTuple(types.intp, 2), types.UniTuple(types.intp, 3)
        return types.void(zero, three, two, two, types.intp, types.boolean), generate

    return block


_one_vector, _two_vectors = _make_block(1), _make_block(2)


def _make_copy(transposed: bool) -> Any:
    """copy(zero, source, stride, target, down): a square as wide and high as a vector, from one address to another.

    The rows of the source lie in adjacent memory, `stride` bytes apart, or, if `transposed`, its columns do; the rows
    of the target are `down` bytes apart. `zero` says the dtype.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, source, stride, target, down = arguments
        size = signature.args[0].bitwidth // 8
        lanes = VECTOR // size
        kind = ir.VectorType(context.get_value_type(signature.args[0]), lanes).as_pointer()

        def line(address: Any, i: int, step: Any) -> Any:
            return builder.inttoptr(builder.add(address, builder.mul(ir.Constant(step.type, i), step)), kind)

        rows = [builder.load(line(source, i, stride), align=size) for i in range(lanes)]
        if transposed:  # a card trick: cut the pack into halves and riffle, log2(lanes) times, and it is transposed
            riffle = [card for i in range(lanes) for card in (i, lanes + i)]
            masks = [ir.Constant(ir.VectorType(_int, lanes), x) for x in (riffle[:lanes], riffle[lanes:])]
            for _ in range(lanes.bit_length() - 1):
                halves = list(zip(rows[: lanes // 2], rows[lanes // 2 :], strict=True))
                rows = [builder.shuffle_vector(upper, lower, mask) for upper, lower in halves for mask in masks]
        for i, row in enumerate(rows):
            builder.store(row, line(target, i, down), align=size)
        return context.get_dummy_value()

    @intrinsic
    def copy(typing: Any, zero: Any, source: Any, stride: Any, target: Any, down: Any) -> Any:
        return types.void(zero, types.intp, types.intp, types.intp, types.intp), generate

    return copy


carry, turn = _make_copy(transposed=False), _make_copy(transposed=True)


@njit(**_OPTIONS)
def product(zero, a, b, c, add, sizes, size):
    """C = A B, or C += A B if `add`, for matrices that are padded: nothing is masked, copied or allocated.

    a, b and c are (address, stride down, stride right), `sizes` is (rows, depth, columns), `size` that of a number. The
    columns of B and C are adjacent, and whole vectors of them; so many rows of A are read, and of C written, as are
    whole blocks of SHORT rows. The strides of A are free. Called with arrays, it would count their owners.
    """
    rows, depth, width = sizes[0], sizes[1], sizes[2] * size
    for i in range(0, rows, SHORT):
        place_of_a, place_of_c, j = (a[0] + i * a[1], a[1], a[2]), c[0] + i * c[1], 0
        while width - j >= 2 * VECTOR:
            _two_vectors(zero, place_of_a, (b[0] + j, b[1]), (place_of_c + j, c[1]), depth, add)
            j += 2 * VECTOR
        if j < width:
            _one_vector(zero, place_of_a, (b[0] + j, b[1]), (place_of_c + j, c[1]), depth, add)
