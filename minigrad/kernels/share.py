"""From a function that does some of the items, a kernel that does all of them, on one thread or on several.

Numba's own way, `parallel=True` with `prange`, makes a second function around the first and compiles the body again
inside it, which takes longer than the body alone. Here both are one function that calls itself:

    kernel(x, ..., first, last, chunks=1)   does the items first..last-1
    kernel(x, ..., 0, items, chunks)        gives Numba's threads the chunks 0..chunks-1, which call the line above
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding
from numba import get_num_threads, njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numba.np.ufunc.parallel import NUM_THREADS, threading_layer

ir: Any = cgutils.ir  # pyright: ignore[reportPrivateImportUsage]  # llvmlite's, in the version that Numba uses

_word, _bytes = ir.IntType(64), ir.IntType(8).as_pointer()
_words = _word.as_pointer()
# What Numba's threads call: where their part of each argument begins, how many steps, how wide, and whatever we like.
_part = ir.FunctionType(ir.VoidType(), [_bytes.as_pointer(), _words, _words, _bytes])
# Numba's parallel_for: such a function, its arguments, how many of them there are, and the number of threads.
_parallel_for = ir.FunctionType(ir.VoidType(), [_part.as_pointer(), *_part.args, _word, _word, ir.IntType(32)])


@functools.cache
def pool() -> tuple[int, int]:
    """Start Numba's threads; how many there can be, and the address of the function that calls a function on them."""
    get_num_threads()  # starts them
    most = sys.maxsize if threading_layer() == "omp" else NUM_THREADS  # OpenMP adds threads when more are asked for
    return most, llvmlite.binding.address_of_symbol("numba_parallel_for")


@contextmanager
def lightly_optimised() -> Iterator[None]:
    """Inside, Numba compiles with the first level of LLVM's optimisations: it takes a quarter less time.

    What the higher levels look for is in the kernels already: vectors, tiles in registers, loops that are unrolled.
    """
    before = config.OPT  # pyright: ignore[reportAttributeAccessIssue]  # made from the environment
    config.OPT = type(before)(min(before, 1))  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        config.OPT = before  # pyright: ignore[reportAttributeAccessIssue]


def kernel(serial: Any) -> Any:
    """The kernel kernel(*arguments, first, last, chunks, pool) made from serial(*arguments, first, last).

    `pool` is the address of Numba's parallel_for; it is not used if there is only one chunk.
    """
    options: Any = {"nogil": True, "no_cfunc_wrapper": True} | {
        name: value
        for name, value in serial.targetoptions.items()
        if name in ("fastmath", "error_model", "boundscheck")
    }
    body = njit(inline="always", **options)(serial.py_func)  # else it would be compiled alone, and then again
    *arguments, first, last = [f"a{i}" for i in range(serial.py_func.__code__.co_argcount)]
    names = "".join(f"{name}, " for name in arguments)
    source = (
        f"lambda {names} {first}, {last}, chunks, pool: "
        f"share(({names}), {last}, chunks, pool) if chunks > 1 else body({names} {first}, {last})"
    )
    made = eval(source, {"share": _share, "body": body, "__name__": serial.py_func.__module__})
    made.__name__ = made.__qualname__ = serial.py_func.__name__
    return njit(**options)(made)


@intrinsic
def _share(typing: Any, arguments: Any, items: Any, chunks: Any, pool: Any) -> Any:
    """Call the function in which this stands once for each chunk of the items, on the threads of the pool."""
    count = len(arguments)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        packed, items, chunks, pool = values
        me = builder.function
        shared = cgutils.alloca_once(builder, ir.LiteralStructType([packed.type, _word, _word, _word]))
        for i, value in enumerate((packed, items, chunks, _word(0))):
            builder.store(value, cgutils.gep_inbounds(builder, shared, 0, i))

        part = ir.Function(builder.module, _part, f"{me.name}.part")
        part.linkage = "internal"
        inside = ir.IRBuilder(part.append_basic_block())
        places, steps, _, data = part.args
        fields = [cgutils.gep_inbounds(inside, inside.bitcast(data, shared.type), 0, i) for i in range(4)]
        packed_, items_, chunks_ = (inside.load(field) for field in fields[:3])
        # The one argument is the address of `shared`, which moves on by a byte with every chunk: so chunks are counted.
        chunk = inside.sub(inside.ptrtoint(inside.load(places), _word), inside.ptrtoint(data, _word))
        with cgutils.for_range(inside, inside.load(steps)) as loop:
            edges = [inside.add(inside.add(chunk, loop.index), _word(i)) for i in (0, 1)]
            first, last = [inside.sdiv(inside.mul(items_, edge), chunks_) for edge in edges]
            status, _ = context.call_conv.call_function(
                inside,
                me,
                types.none,
                [*arguments, types.intp, types.intp, types.intp, types.intp],
                [*[inside.extract_value(packed_, i) for i in range(count)], first, last, _word(1), _word(0)],
            )
            with cgutils.if_unlikely(inside, status.is_error):
                inside.store(_word(1), fields[3])
        inside.ret_void()

        address = builder.bitcast(shared, _bytes)
        place, many, step = (cgutils.alloca_once_value(builder, x) for x in (address, chunks, _word(1)))
        threads = builder.trunc(chunks, ir.IntType(32))
        parallel_for = builder.inttoptr(pool, _parallel_for.as_pointer())
        builder.call(parallel_for, [part, place, many, step, address, _word(0), _word(1), threads])
        failed = builder.load(cgutils.gep_inbounds(builder, shared, 0, 3))
        with cgutils.if_unlikely(builder, builder.icmp_unsigned("!=", failed, _word(0))):
            # The error itself stays behind in the other thread. The only one that a kernel can meet is this.
            context.call_conv.return_user_exc(builder, MemoryError, (f"{me.name}: no memory left for a thread",))
        return context.get_dummy_value()

    return types.void(arguments, types.intp, types.intp, types.intp), generate
