"""Several short rows as one value: what stands once in a kernel is done for all of them.

    load, store, sums, each = several(width, rows)
    y, g = load(a, i, left), load(b, i, left)    `rows` rows of `width` numbers, of which `left` are still there
    store(c, i, left, g - each(g, sums(y * g)))  a sum for every row, and each to all the numbers of its row

The sum over the lanes of a register takes many steps, each of which waits for the one before and leaves half as many
lanes at work. Here two rows become one register with a half of either, four a register with quarters, and so on: all
lanes stay at work, and the rows wait together.

A row is added up in the same order, halves to halves, wherever it stands, so that its sum is the same, bit for bit.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils

from .simd import VECTOR, Lanes, Vector, _memory, _of, intrinsic, ir

REGISTERS = 8  # that a value fills: three of them are at work at a time
SHORT = [VECTOR * n for n in (1, 2, 4)]  # bytes in a short row
_word, _bytes = ir.IntType(64), ir.IntType(8).as_pointer()


def _select(x: Lanes, y: Lanes, places: list[int]) -> Lanes:
    """The lanes at these places, counted through x and on through y."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return Lanes(x.builder, x.builder.shuffle_vector(x.value, y.value, mask))


def _joined(parts: list[Lanes]) -> Lanes:
    """The lanes of all parts, of which there are 2^k, one after the other."""
    while len(parts) > 1:
        all_lanes = list(range(2 * parts[0].count))
        parts = [_select(x, y, all_lanes) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _sums(x: Lanes, rows: int) -> Lanes:
    """A lane for each row."""
    length = x.count // rows
    parts = [x.part(i, i + length) for i in range(0, x.count, length)]
    while length > 1:
        half = length // 2
        pairs = list(zip(parts[::2], parts[1::2], strict=True)) if len(parts) > 1 else [(parts[0], parts[0])]
        count = parts[0].count * min(2, len(parts))
        lower = [i for i in range(count) if i % length < half]
        upper = [i + half for i in lower]
        parts = [_select(x, y, lower) + _select(x, y, upper) for x, y in pairs]
        length = half
    return _joined(parts)


def several(width: int, rows: int) -> tuple[Any, Any, Any, Any]:
    """`load`, `store`, `sums` and `each` for `rows` rows of `width` numbers; both are powers of 2.

    load(array, i, left) is array[i], array[i + 1], ..., with zeros beyond the first `left` of them, and store(array, i,
    left, x) stores no more. They know no masks: what is not there whole passes through a buffer.
    """
    lanes = width * rows

    def place_of(context: Any, builder: Any, kind: Any, array: Any, i: Any, left: Any) -> Any:
        """Where to load and store; the address in the array; whether these differ, and how many bytes there are."""
        vector, size = ir.VectorType(context.get_value_type(kind.dtype), lanes), kind.dtype.bitwidth // 8
        address = _memory(context, builder, kind, array, i, vector)
        buffer = cgutils.alloca_once(builder, vector)
        few = builder.icmp_signed("<", left, _word(lanes))
        return builder.select(few, buffer, address), address, few, builder.mul(left, _word(size))

    def copy(builder: Any, target: Any, source: Any, count: Any) -> None:
        cgutils.raw_memcpy(builder, builder.bitcast(target, _bytes), builder.bitcast(source, _bytes), count, 1)

    @intrinsic
    def load(typing: Any, array: Any, i: Any, left: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place, address, few, count = place_of(context, builder, signature.args[0], *arguments)
            size = signature.args[0].dtype.bitwidth // 8
            with cgutils.if_unlikely(builder, few):
                cgutils.memset(builder, builder.bitcast(place, _bytes), _word(lanes * size), 0)
                copy(builder, place, address, count)
            return builder.load(place, align=size)

        return _of(array, lanes)(array, types.intp, types.intp), generate

    @intrinsic
    def store(typing: Any, array: Any, i: Any, left: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place, address, few, count = place_of(context, builder, signature.args[0], *arguments[:3])
            builder.store(arguments[3], place, align=signature.args[0].dtype.bitwidth // 8)
            with cgutils.if_unlikely(builder, few):
                copy(builder, address, place, count)
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp, _of(array, lanes)), generate

    @intrinsic
    def sums(typing: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _sums(Lanes(builder, arguments[0]), rows).value

        return Vector(x.number, rows)(x), generate

    @intrinsic
    def each(typing: Any, like: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x = Lanes(builder, arguments[1])
            return _joined([_select(x, x, [row] * width) for row in range(rows)]).value

        return like(like, x), generate

    return load, store, sums, each
