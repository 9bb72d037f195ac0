"""Vectors as values: a kernel reads like arithmetic with one number, and runs on all lanes of a register at once.

    x = load_some(row, j, n - j)             # row[j], row[j + 1], ... as one value; 0 beyond the n - j that there are
    store_some(y, j, n - j, exp(x - m) * s)  # one instruction per step, no loop over the lanes, no remainder

A compiler that is to find this form by itself has to prove that it may, again after every edit. Here it is said. Each
function below is a few instructions of LLVM, written with `Lanes`, which builds an instruction for every + - * /.
Numbers beside vectors are spread over all lanes. The number of lanes is that of the host: `lanes(array)`.

A vector of n float32 has n lanes, so do the vectors of bits (uint32, for the hash of dropout) and of flags (boolean,
from comparisons) that belong to it.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.core.typeconv.castgraph import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic as _intrinsic
from numba.extending import lower_builtin, lower_cast, models, register_model

intrinsic: Any = _intrinsic  # pyright does not know that the first argument is Numba's to give
ir: Any = cgutils.ir  # pyright: ignore[reportPrivateImportUsage]  # llvmlite's, in the version that Numba uses

_features = os.environ.get("NUMBA_CPU_FEATURES") or get_host_cpu_features()
VECTOR = 64 if "+avx512f" in _features else 32 if "+avx" in _features else 16  # bytes in a vector register

_llvm = {
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.uint32: ir.IntType(32),
    types.boolean: ir.IntType(1),
}


class Vector(types.Type):
    """Numba's type for a register with `lanes` numbers of one kind."""

    def __init__(self, number: Any, lanes: int) -> None:
        self.number, self.lanes = number, lanes
        super().__init__(f"vector({number} x {lanes})")

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """Numbers are spread over the lanes."""
        return Conversion.safe if isinstance(other, types.Number) else None


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(_llvm[fe_type.number], fe_type.lanes))


def _of(array: Any, width: int = 0) -> Vector:
    """The vectors that an array of floats is read in: of `width` elements, or else of one register."""
    return Vector(array.dtype, width or VECTOR * 8 // array.dtype.bitwidth)


# ------------------------------------------------------------------------------------------------ building instructions
class Lanes:
    """A vector in the code that is being built; arithmetic with it adds instructions."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value
        self.floating = isinstance(value.type.element, ir.FloatType | ir.DoubleType)
        self.count = value.type.count

    def like(self, x: Any) -> Any:
        """`x` as the value of a vector of this kind; a Python number is the same in all lanes."""
        return x.value if isinstance(x, Lanes) else ir.Constant(self.value.type, [x] * self.count)

    def _binary(self, name: str, other: Any, flags: tuple[str, ...] = ()) -> Lanes:
        name = f"f{name}" if self.floating else name
        more = {"flags": ("contract",)} if self.floating else {}
        return Lanes(self.builder, getattr(self.builder, name)(self.value, self.like(other), **more))

    def _compare(self, sign: str, other: Any) -> Lanes:
        compare = self.builder.fcmp_ordered if self.floating else self.builder.icmp_unsigned
        return Lanes(self.builder, compare(sign, self.value, self.like(other)))

    # fmt: off
    def __add__(self, other: Any) -> Lanes: return self._binary("add", other)
    def __sub__(self, other: Any) -> Lanes: return self._binary("sub", other)
    def __mul__(self, other: Any) -> Lanes: return self._binary("mul", other)
    def __truediv__(self, other: Any) -> Lanes: return self._binary("div", other)
    def __neg__(self) -> Lanes: return Lanes(self.builder, self.builder.fneg(self.value))
    def __xor__(self, other: Any) -> Lanes: return self._binary("xor", other)
    def __and__(self, other: Any) -> Lanes: return Lanes(self.builder, self.builder.and_(self.value, self.like(other)))
    def __or__(self, other: Any) -> Lanes: return Lanes(self.builder, self.builder.or_(self.value, self.like(other)))
    def __rshift__(self, other: Any) -> Lanes: return self._binary("lshr", other)
    def __lshift__(self, other: Any) -> Lanes: return self._binary("shl", other)
    def __lt__(self, other: Any) -> Lanes: return self._compare("<", other)
    def __le__(self, other: Any) -> Lanes: return self._compare("<=", other)
    def __gt__(self, other: Any) -> Lanes: return self._compare(">", other)
    def __ge__(self, other: Any) -> Lanes: return self._compare(">=", other)
    # fmt: on

    def all(self, x: Any) -> Lanes:
        """The number `x` in all lanes of a vector of this kind."""
        return Lanes(self.builder, self.like(x))

    def where(self, a: Lanes, b: Any) -> Lanes:
        """`a` in the lanes in which this flag is set, `b` in the others."""
        return Lanes(self.builder, self.builder.select(self.value, a.value, a.like(b)))

    def part(self, start: int, stop: int) -> Lanes:
        """The lanes start..stop-1."""
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), stop - start), list(range(start, stop)))
        return Lanes(self.builder, self.builder.shuffle_vector(self.value, self.value, lanes))

    def as_bits(self, kind: Any) -> Lanes:
        """The same bits, read as numbers of another kind."""
        return Lanes(self.builder, self.builder.bitcast(self.value, ir.VectorType(kind, self.count)))

    def call(self, name: str, *others: Any) -> Lanes:
        """The LLVM intrinsic `name` on vectors of this kind."""
        size = 32 if self.value.type.element == ir.FloatType() else 64
        arguments = [self.value, *[self.like(x) for x in others]]
        kind = ir.FunctionType(self.value.type, [self.value.type] * len(arguments))
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.v{self.count}f{size}")
        return Lanes(self.builder, self.builder.call(function, arguments))

    def reduced(self, name: str, *start: Any, flags: tuple[str, ...] = ()) -> Any:
        """The LLVM reduction `name` of all lanes to one number."""
        number = self.value.type.element
        size = 32 if number == ir.FloatType() else 64
        arguments = [*start, self.value]
        kind = ir.FunctionType(number, [x.type for x in arguments])
        name = f"llvm.vector.reduce.{name}.v{self.count}f{size}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, arguments, fastmath=flags)


def _spread(builder: Any, x: Any, count: int) -> Any:
    """The vector (x, x, ... x)."""
    undefined = ir.Constant(ir.VectorType(x.type, count), ir.Undefined)
    first = builder.insert_element(undefined, x, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))


@lower_cast(types.Number, Vector)
def _number_to_vector(context: Any, builder: Any, fromty: Any, toty: Vector, value: Any) -> Any:
    return _spread(builder, context.cast(builder, value, fromty, toty.number), toty.lanes)


def _first(builder: Any, n: Any, count: int) -> Lanes:
    """Flags, the first n of them set: the lowest n bits of a number, which costs less than to compare places."""
    zero, most, one = (ir.IntType(64)(i) for i in (0, count, 1))
    n = builder.select(builder.icmp_signed(">", n, zero), n, zero)
    n = builder.select(builder.icmp_signed("<", n, most), n, most)
    bits = builder.trunc(builder.sub(builder.shl(one, n), one), ir.IntType(count))
    return Lanes(builder, builder.bitcast(bits, ir.VectorType(ir.IntType(1), count)))


# ----------------------------------------------------------------------------------------- operators in Numba's sources
def _operator(function: Callable[..., Any], flags: bool = False) -> None:
    """Let `function` work on vectors, or a vector and a number; with `flags` the result is one of flags."""

    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            kind = next((x for x in args if isinstance(x, Vector)), None)
            if kind is None or not all(x == kind or isinstance(x, types.Number) for x in args):
                return None
            return signature(Vector(types.boolean, kind.lanes) if flags else kind, *[kind] * len(args))

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return function(*[Lanes(builder, x) for x in arguments]).value

    infer_any: Any = infer_global
    infer_any(function)(Template)
    lower_builtin(function, *[Vector] * (1 if function is operator.neg else 2))(lower)


_arithmetic: Any = (operator.add, operator.sub, operator.mul, operator.truediv, operator.neg)
for _function in (*_arithmetic, operator.and_, operator.or_):
    _operator(_function)
for _function in (operator.lt, operator.le, operator.gt, operator.ge):
    _operator(_function, flags=True)


def _elementwise(emit: Callable[..., Lanes]) -> Any:
    """An @intrinsic of vectors of floats, all of the kind of the first argument, which `emit` builds."""

    def typed(kind: Any, count: int) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return emit(*[Lanes(builder, x) for x in arguments]).value

        return kind(*[kind] * count), generate

    def one(typing: Any, x: Any) -> Any:
        return typed(x, 1)

    def two(typing: Any, x: Any, y: Any) -> Any:
        return typed(x if isinstance(x, Vector) else y, 2)

    def three(typing: Any, x: Any, y: Any, z: Any) -> Any:
        return typed(x, 3)

    made = intrinsic((one, two, three)[emit.__code__.co_argcount - 1])
    made.__doc__ = emit.__doc__
    return made


# ---------------------------------------------------------------------------------------------------- memory and lanes
@intrinsic
def lanes(typing: Any, array: Any) -> Any:
    """How many elements of `array` make a vector."""
    count = _of(array).lanes
    return types.intp(array), lambda context, builder, signature, arguments: ir.IntType(64)(count)


@intrinsic
def borrowed(typing: Any, array: Any) -> Any:
    """The same array, without a claim on its memory: for arguments of a kernel, which outlive it.

    Every slice of an array counts itself among the owners of its memory. If several threads slice one array, they wait
    for that counter more than for anything else.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()

    return array(array), generate


def _memory(context: Any, builder: Any, kind: Any, array: Any, i: Any, vector: Any) -> Any:
    """The address of element i of a contiguous 1-d array, as that of a vector."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [i]), vector.as_pointer())


def _some(builder: Any, name: str, vector: Any, result: Any, *arguments: Any) -> Any:
    """A load or a store of a vector under a mask."""
    size = 32 if vector.element == ir.FloatType() else 8 if vector.element == ir.IntType(8) else 64
    letter = "i" if size == 8 else "f"
    kind = ir.FunctionType(result, [x.type for x in arguments])
    name = f"llvm.masked.{name}.v{vector.count}{letter}{size}.p0"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def whole(width: int = 0) -> tuple[Any, Any]:
    """`load` and `store` of vectors of `width` elements, which may fill many registers, or else of one register.

    load(array, i) is array[i], array[i + 1], ... for all lanes; store(array, i, x) makes them x.
    """

    @intrinsic
    def load(typing: Any, array: Any, i: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = context.get_value_type(signature.return_type)
            place = _memory(context, builder, signature.args[0], arguments[0], arguments[1], vector)
            return builder.load(place, align=signature.args[0].dtype.bitwidth // 8)

        return _of(array, width)(array, types.intp), generate

    @intrinsic
    def store(typing: Any, array: Any, i: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array, i, x = arguments
            place = _memory(context, builder, signature.args[0], array, i, x.type)
            builder.store(x, place, align=signature.args[0].dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(array, types.intp, _of(array, width)), generate

    return load, store


load, store = whole()


@intrinsic
def load_some(typing: Any, array: Any, i: Any, n: Any) -> Any:
    """The first n of `load(array, i)` (all, if n is larger), and 0 in the other lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, i, n = arguments
        vector = context.get_value_type(signature.return_type)
        place = _memory(context, builder, signature.args[0], array, i, vector)
        size = ir.IntType(32)(signature.args[0].dtype.bitwidth // 8)
        zero = ir.Constant(vector, [0.0] * vector.count)
        return _some(builder, "load", vector, vector, place, size, _first(builder, n, vector.count).value, zero)

    return _of(array)(array, types.intp, types.intp), generate


@intrinsic
def load_flags(typing: Any, like: Any, array: Any, i: Any, n: Any) -> Any:
    """Flags, as many as `like` has lanes: array[i], ... of booleans or bytes, and False beyond the first n."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, array, i, n = arguments
        count = signature.return_type.lanes
        vector = ir.VectorType(ir.IntType(8), count)
        place = _memory(context, builder, signature.args[1], array, i, vector)
        zero = ir.Constant(vector, [0] * count)
        mask = _first(builder, n, count).value
        loaded = _some(builder, "load", vector, vector, place, ir.IntType(32)(1), mask, zero)
        return builder.icmp_unsigned("!=", loaded, zero)

    return Vector(types.boolean, like.lanes)(like, array, types.intp, types.intp), generate


@intrinsic
def store_some(typing: Any, array: Any, i: Any, n: Any, x: Any) -> Any:
    """`store(array, i, x)` of the first n lanes (all, if n is larger)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, i, n, x = arguments
        place = _memory(context, builder, signature.args[0], array, i, x.type)
        size = ir.IntType(32)(signature.args[0].dtype.bitwidth // 8)
        _some(builder, "store", x.type, ir.VoidType(), x, place, size, _first(builder, n, x.type.count).value)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, _of(array)), generate


@intrinsic
def spread(typing: Any, array: Any, x: Any) -> Any:
    """The number x in all lanes of a vector of the kind that `array` is read in."""
    kind = _of(array)
    return kind(array, kind), lambda context, builder, signature, arguments: arguments[1]


@intrinsic
def first(typing: Any, like: Any, n: Any) -> Any:
    """Flags: the first n lanes of `like`; none if n is not positive, all if there are fewer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _first(builder, arguments[1], signature.return_type.lanes).value

    return Vector(types.boolean, like.lanes)(like, types.intp), generate


@intrinsic
def where(typing: Any, flags: Any, a: Any, b: Any) -> Any:
    """`a` in the lanes in which the flag is set, `b` in the others; one of them may be a number."""
    kind = a if isinstance(a, Vector) else b
    if not isinstance(kind, Vector):
        return None  # of which width, and of which precision?

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return kind(flags, kind, kind), generate


@intrinsic
def total(typing: Any, x: Any) -> Any:
    """The sum over the lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x = Lanes(builder, arguments[0])
        return x.reduced("fadd", ir.Constant(x.value.type.element, -0.0), flags=("reassoc",))

    return x.number(x), generate


@intrinsic
def greatest(typing: Any, x: Any) -> Any:
    """The greatest over the lanes, NaN aside."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x = Lanes(builder, arguments[0])
        while x.count > 1:  # the upper half against the lower one; LLVM's own reduction takes pains with NaN
            lower, upper = x.part(0, x.count // 2), x.part(x.count // 2, x.count)
            x = (upper > lower).where(upper, lower)
        return builder.extract_element(x.value, ir.IntType(32)(0))

    return x.number(x), generate


# ---------------------------------------------------------------------------------------------------------- functions
@_elementwise
def fma(x: Lanes, y: Lanes, z: Lanes) -> Lanes:
    """X y + z, rounded once where the machine can."""
    return x.call("fmuladd", y, z)


@_elementwise
def sqrt(x: Lanes) -> Lanes:
    """The square root."""
    return x.call("sqrt")


@_elementwise
def maximum(x: Lanes, y: Lanes) -> Lanes:
    """The greater one; `y` where one of them is NaN."""
    return (x > y).where(x, y)


@_elementwise
def minimum(x: Lanes, y: Lanes) -> Lanes:
    """The smaller one; `y` where one of them is NaN."""
    return (x < y).where(x, y)


@_elementwise
def absolute(x: Lanes) -> Lanes:
    """|x|."""
    return x.call("fabs")


@_elementwise
def exp(x: Lanes) -> Lanes:
    """e^x to 1.2 units in the last place, from the smallest subnormal number up to the largest there is."""
    single = x.value.type.element == ir.FloatType()
    digits, bias, low, high = (23, 127, -104.0, 89.0) if single else (52, 1023, -745.5, 710.0)
    vanishes = x < low
    x = (x > high).where(x.all(high), vanishes.where(x.all(0.0), x))  # arithmetic that underflows takes long
    y, exponent = _exponential(x, digits, bias)
    exponent = exponent - ((bias + digits << digits) + (1 << digits - 1) - bias)  # n + 2 bias
    half = exponent >> 1  # 2^n may be subnormal, or too large: multiply by about 2^(n/2) twice
    for part in (half, exponent - half):
        y = y * (part << digits).as_bits(x.value.type.element)
    return vanishes.where(x.all(0.0), y)


@_elementwise
def exp_down(x: Lanes) -> Lanes:
    """e^x for x <= 0 (in truth up to 88), to 1.2 units in the last place; 0 below the smallest normal number.

    For softmax, which subtracts the greatest first: 2^n is one multiplication, and nothing overflows.
    """
    single = x.value.type.element == ir.FloatType()
    digits, bias, low = (23, 127, -87.33) if single else (52, 1023, -708.39)
    y, exponent = _exponential(x, digits, bias)
    return (x < low).where(x.all(0.0), y * (exponent << digits).as_bits(x.value.type.element))


def _exponential(x: Lanes, digits: int, bias: int) -> tuple[Lanes, Lanes]:
    """e^r, and n + bias in the lowest bits, for e^x = 2^n e^r with n the whole number next to x / ln 2.

    |r| <= ln(2) / 2, and a polynomial does: Taylor's, or for float32 that of degree 6 with the least relative error.
    """
    if digits == 23:
        series = [1.3814560899e-3, 8.3687358470e-3, 4.1668389866e-2, 1.6666520475e-1, 4.9999993437e-1, 1.0, 1.0]
        ln2 = (0.693359375, -2.12194440e-4)  # in two parts; n times the first is exact
    else:
        series = [1 / math.factorial(k) for k in range(13, -1, -1)]
        ln2 = (6.93145751953125e-1, 1.42860682030941723212e-6)
    large = 1.5 * 2**digits + bias  # so large that what is behind the point is rounded away
    shifted = x.call("fmuladd", 1 / math.log(2), large)
    n = x.all(large) - shifted  # with the other sign
    r = n.call("fmuladd", ln2[1], n.call("fmuladd", ln2[0], x))
    y = x.all(series[0])
    for coefficient in series[1:]:
        y = y.call("fmuladd", r, coefficient)
    return y, shifted.as_bits(ir.IntType(32 if digits == 23 else 64))


# ------------------------------------------------------------------------------------------------------------- dropout
def _kept(builder: Any, start: Any, step: Any, keys: Any, threshold: Any, count: int) -> Any:
    """Flags: whether the hash of start, start + step, ... is not below the threshold; see `bits.keep`."""
    word = ir.IntType(32)

    def same(x: Any) -> Lanes:
        return Lanes(builder, _spread(builder, x, count))

    numbers = Lanes(builder, ir.Constant(ir.VectorType(word, count), list(range(count))))
    x = same(builder.trunc(start, word)) + numbers * same(builder.trunc(step, word))
    x = (x ^ same(keys[0])) * same(keys[1])
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return (x >= same(threshold)).value


@intrinsic
def kept(typing: Any, like: Any, start: Any, first_key: Any, second_key: Any, threshold: Any) -> Any:
    """Flags: which of the elements start, start + 1, ... dropout keeps; see `bits.keep`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, start, *keys, threshold = arguments
        return _kept(builder, start, ir.IntType(64)(1), keys, threshold, signature.return_type.lanes)

    word = types.uint32
    return Vector(types.boolean, like.lanes)(like, types.intp, word, word, word), generate


@intrinsic
def kept_apart(typing: Any, like: Any, start: Any, step: Any, first_key: Any, second_key: Any, threshold: Any) -> Any:
    """Flags: which of the elements start, start + step, start + 2 step, ... dropout keeps."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, start, step, *keys, threshold = arguments
        return _kept(builder, start, step, keys, threshold, signature.return_type.lanes)

    word = types.uint32
    return Vector(types.boolean, like.lanes)(like, types.intp, types.intp, word, word, word), generate
