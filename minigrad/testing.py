"""Is a derivative right?  Finite differences, and everything else that an op promises.

`backward` claims to compute v^T J, where J is the Jacobian of a function f at x and v the gradient that arrives from
above (the cotangent). The definition of the derivative gives J u, for any direction u, from two values of f:

    J u = (f(x + eps u) - f(x - eps u)) / (2 eps) + O(eps^2)

So the number v^T J u can be had both ways, and must be the same. v and u are random. A cotangent of ones, which is what
`f(x).sum().backward()` sends, is blind: the outputs of a softmax sum to 1 whatever x is, and a softmax whose backward
returns zeros passes. One direction can miss a small error in a large sum, so small Jacobians are compared whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np

from . import kernels
from .core import Array, definitions, no_grad, unbroadcast
from .op import Op
from .tensor import Tensor

WHOLE_JACOBIAN = 2000  # with at most so many entries, a Jacobian is compared entry by entry


class CheckError(AssertionError):
    """A derivative, or another promise of an op, that does not hold."""


# --------------------------------------------------------------------------------------------------- finite differences
def gradcheck(
    function: Callable[..., Tensor],
    inputs: Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-5,
    seed: int = 0,
    draws: int = 3,
    jacobian: bool | None = None,
) -> None:
    """Compare `function`'s backward with central differences: v^T J u, for random v and u, `draws` times.

    `function` takes the inputs as tensors and returns a tensor. Inputs of a float dtype are converted to float64 and
    differentiated, the others are passed as they are. `jacobian` = True compares every entry of J as well; by default
    that is done where it is small. Raises CheckError, which names the input, the place in it, and both values.

    >>> gradcheck(lambda x: x * x.exp(), [np.array([0.5, -1.0])])
    >>> gradcheck(lambda x: x * x.detach().exp(), [np.array([0.5])])
    Traceback (most recent call last):
    minigrad.testing.CheckError: ... input 0 (x) at (0,), output (0,): backward() says 1.6..., finite differences 2.4...
    """
    problem = _Problem(function, inputs, eps, atol, rtol)
    rng = np.random.default_rng(seed)
    if jacobian or (jacobian is None and problem.entries <= WHOLE_JACOBIAN):
        problem.compare_jacobian()
    for _ in range(draws):
        problem.compare_direction(rng)


class _Problem:
    """A function and the point at which its derivative is examined."""

    def __init__(
        self, function: Callable[..., Tensor], inputs: Sequence[Any], eps: float, atol: float, rtol: float
    ) -> None:
        self.function, self.eps, self.atol, self.rtol = function, eps, atol, rtol
        arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
        self.inputs = [np.array(x, np.float64) if _is_float(x) else x for x in arrays]
        self.wanted = [i for i, x in enumerate(self.inputs) if _is_float(x)]
        self.value = self.evaluate({})
        self.entries = self.value.size * sum(self.inputs[i].size for i in self.wanted)
        if not self.wanted:
            raise ValueError(f"{self}: no input is of a float dtype; there is nothing to differentiate")
        if self.value.dtype != np.float64:
            raise CheckError(f"{self}: float64 inputs gave a result of dtype {self.value.dtype}")
        if not np.array_equal(self.value, self.evaluate({}), equal_nan=True):
            raise CheckError(f"{self}: the same inputs gave two different results. Fix the seed of what is random.")

    def __str__(self) -> str:
        return f"gradcheck({_name(self.function)})"

    def evaluate(self, moved: dict[int, Array]) -> Array:
        """f(x), with some of the inputs moved elsewhere."""
        with no_grad():
            given = [moved.get(i, x) for i, x in enumerate(self.inputs)]
            result = self.function(*[Tensor(x.copy()) if isinstance(x, np.ndarray) else x for x in given])
        if not isinstance(result, Tensor):
            raise TypeError(f"{self}: the function must return a Tensor, not {type(result).__name__}")
        return result.data

    def difference(self, steps: dict[int, Array]) -> Array:
        """(f(x + step) - f(x - step)) / (2 eps)"""
        ahead = self.evaluate({i: np.asarray(self.inputs[i] + step) for i, step in steps.items()})
        behind = self.evaluate({i: np.asarray(self.inputs[i] - step) for i, step in steps.items()})
        return np.asarray((ahead - behind) / (2 * self.eps))

    def difference_at(self, i: int, place: tuple[int, ...]) -> Array:
        """The derivative of f by one element of one input: a column of J, in the shape of f(x)."""
        step = np.zeros_like(self.inputs[i])
        step[place] = self.eps
        return self.difference({i: step})

    def graph(self) -> tuple[Tensor, dict[int, Tensor]]:
        """f(x) with its graph, and the leaves."""
        leaves = {i: Tensor(self.inputs[i].copy(), requires_grad=True) for i in self.wanted}
        result = self.function(
            *[leaves.get(i, Tensor(x) if isinstance(x, np.ndarray) else x) for i, x in enumerate(self.inputs)]
        )
        if not result.requires_grad:
            raise CheckError(f"{self}: the result does not require a gradient: somewhere the graph is cut")
        return result, leaves

    def gradients(self, cotangent: Array) -> dict[int, Array]:
        """v^T J for every input, by backward()."""
        result, leaves = self.graph()
        result.backward(cotangent.copy())
        return {i: np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.data for i, leaf in leaves.items()}

    def agree(self, analytic: Any, numeric: Any) -> Any:
        return np.abs(analytic - numeric) <= self.atol + self.rtol * np.maximum(np.abs(analytic), np.abs(numeric))

    def compare_direction(self, rng: np.random.Generator) -> None:
        v = np.asarray(rng.standard_normal(self.value.shape))
        u = {i: np.asarray(rng.standard_normal(self.inputs[i].shape)) for i in self.wanted}
        gradients = self.gradients(v)
        analytic = sum(float((gradients[i] * u[i]).sum()) for i in self.wanted)
        numeric = float((v * self.difference({i: self.eps * u[i] for i in self.wanted})).sum())
        if not self.agree(analytic, numeric):
            for i in self.wanted:
                places = list(np.ndindex(self.inputs[i].shape))[:WHOLE_JACOBIAN]
                slopes = [float((v * self.difference_at(i, place)).sum()) for place in places]
                self.compare(i, places, [gradients[i][place] for place in places], slopes)
            raise CheckError(
                f"{self}: along a random direction backward() says {analytic:g}, finite differences {numeric:g}"
            )

    def compare_jacobian(self) -> None:
        columns = {i: [self.difference_at(i, place) for place in np.ndindex(self.inputs[i].shape)] for i in self.wanted}
        for output in np.ndindex(self.value.shape):
            v = np.zeros_like(self.value)
            v[output] = 1
            for i, gradient in self.gradients(v).items():
                numeric = [column[output] for column in columns[i]]
                self.compare(i, list(np.ndindex(gradient.shape)), gradient.ravel(), numeric, f", output {output}")

    def compare(self, i: int, places: list[Any], analytic: Any, numeric: Any, output: str = "") -> None:
        """Raise for the worst of the places where the two differ."""
        analytic, numeric = np.asarray(analytic, float), np.asarray(numeric, float)
        wrong = np.flatnonzero(~self.agree(analytic, numeric))
        if len(wrong):
            k = max(wrong, key=lambda k: np.nan_to_num(abs(analytic[k] - numeric[k]), nan=np.inf))
            raise CheckError(
                f"{self}: input {i}{_parameter(self.function, i)} at {places[k]}{output}: "
                f"backward() says {analytic[k]:g}, finite differences {numeric[k]:g}"
            )


def _is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _name(function: Callable) -> str:
    return getattr(function, "name", getattr(function, "__name__", type(function).__name__))


def _parameter(function: Callable, i: int) -> str:
    """The name that the function has for its argument number i, in brackets."""
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
    return f" ({names[i]})" if i < len(names) else ""


# ------------------------------------------------------------------------------------------------ the promises of an op
@dataclass(frozen=True)
class Random:
    """Random numbers of a shape. They are normal; `into` maps them to where the op is smooth, or to another dtype."""

    shape: tuple[int, ...]
    into: Callable[[Array], Array] = field(default=lambda z: z)

    def draw(self, rng: np.random.Generator) -> Array:
        """The array."""
        return np.asarray(self.into(rng.standard_normal(self.shape)))

    def resized(self, sizes: dict[int, int]) -> Random:
        """The same with other sizes in place of some."""
        return Random(tuple(sizes.get(n, n) for n in self.shape), self.into)


@dataclass(frozen=True)
class Case:
    """One way to call an op: its array arguments (`Random`, or arrays, or None) and its settings.

    A case stands for several. A size that occurs more than once is taken to be the same dimension, and is replaced
    everywhere together: by 1, and by 0; and all of the shapes by (). `without` names what the op does not allow, or
    what does not apply: "size 1", "size 0", "0-d", "layouts" (other strides), "float32", "mixed" (beside float64).
    """

    inputs: tuple[Any, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def variants(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """The inputs as they are, then in other sizes."""
        yield "as given", self.inputs
        sizes = {n for x in self.inputs if isinstance(x, Random) for n in x.shape}
        if sizes and "size 1" not in self.without:
            yield "size 1", self._resized(dict.fromkeys(sizes, 1))
        if "size 0" not in self.without:
            for n in sorted(sizes - {1}):
                yield "size 0", self._resized({n: 0})
        if sizes and "0-d" not in self.without:
            yield "0-d", tuple(Random((), x.into) if isinstance(x, Random) else x for x in self.inputs)

    def _resized(self, sizes: dict[int, int]) -> tuple[Any, ...]:
        return tuple(x.resized(sizes) if isinstance(x, Random) else x for x in self.inputs)


def check_op(op: Op, case: Case, *, seed: int = 0) -> None:
    """Check everything that an op promises, for the inputs of `case` and their variants.

    Its gradient against finite differences; the Numba kernels against the NumPy twins; the op against its definition;
    float32 and float64 kept, in the result and in every product; arrays of any strides; inputs and the incoming
    gradient left alone; a result with memory of its own, unless the op is a view; only the products that are needed
    kept; what has arrived before added, if it accumulates; the same gradient when asked twice. Raises CheckError, or
    what the op raises, with the inputs in a note.

    >>> from minigrad import ops
    >>> check_op(ops.softmax, Case((Random((2, 3)),), {"dim": 0}, without=("0-d",)))
    """
    rng = np.random.default_rng(seed)
    for kind, inputs in case.variants():
        arrays = [x.draw(rng) if isinstance(x, Random) else x for x in inputs]
        try:
            _Check(op, arrays, case, rng).run()
        except Exception as error:
            shapes = [x.shape if isinstance(x, np.ndarray) else x for x in arrays]
            error.add_note(f"in check_op({op.name}): {kind}: inputs of shapes {shapes}, settings {case.settings}")
            raise


class _Check:
    """One op, one set of arrays, and the values and gradients that everything else is compared with."""

    def __init__(self, op: Op, arrays: list[Any], case: Case, rng: np.random.Generator) -> None:
        self.op, self.arrays, self.settings, self.without = op, arrays, case.settings, case.without
        self.wanted = [i for i, x in enumerate(arrays) if _is_float(x)]
        result = self.call(self.copies())
        self.value, self.differentiable = result.data, result.requires_grad
        self.cotangent = np.asarray(rng.standard_normal(result.shape), result.dtype)
        self.gradients = self.value_and_gradients(self.copies(), self.cotangent.copy())[1]

    def run(self) -> None:
        """All checks; first the one without which the others would have nothing to rely on."""
        self.check_left_alone()
        if self.differentiable:
            gradcheck(self.function(), self.arrays)
            self.check_products()
        self.check_plain_arrays()
        self.check_kernels()
        self.check_definition()
        if "layouts" not in self.without:
            self.check_layouts()
        if "float32" not in self.without:
            self.check_float32()

    def function(self) -> Callable[..., Tensor]:
        """The op with its settings, under its own name."""
        return wraps(self.op.forward)(lambda *tensors: self.op(*tensors, **self.settings))

    def call(self, arrays: list[Any], wanted: Sequence[int] | None = None) -> Tensor:
        """The op on tensors; a gradient is wanted for the float arrays, or for those that are `wanted`."""
        wanted = self.wanted if wanted is None else wanted
        tensors = [
            Tensor(x, requires_grad=i in wanted) if isinstance(x, np.ndarray) else x for i, x in enumerate(arrays)
        ]
        self.leaves = [x for x in tensors if isinstance(x, Tensor) and x.requires_grad]
        return self.op(*tensors, **self.settings)

    def value_and_gradients(
        self, arrays: list[Any], cotangent: Array | None = None, wanted: Sequence[int] | None = None
    ) -> tuple[Array, list[Array | None]]:
        """The op forward, and backward if it has one."""
        result = self.call(arrays, wanted)
        leaves = self.leaves
        if result.requires_grad:
            result.backward(self.cotangent if cotangent is None else cotangent)
        return result.data, [_array(leaf.grad) for leaf in leaves]

    def copies(self) -> list[Any]:
        return [x.copy() if isinstance(x, np.ndarray) else x for x in self.arrays]

    def compare(self, what: str, got: tuple[Array, list[Any]], rtol: float = 1e-10, atol: float = 1e-10) -> None:
        """Raise unless value and gradients are those of the reference."""
        _same(f"{self.op.name}(): {what}: the value", got[0], self.value, rtol, atol)
        for i, ours, reference in zip(self.wanted, got[1], self.gradients, strict=True):
            _same(f"{self.op.name}(): {what}: the gradient of input {i}", ours, reference, rtol, atol)

    def check_plain_arrays(self) -> None:
        plain = self.op(*self.arrays, **self.settings)
        if not isinstance(plain, np.ndarray):
            raise CheckError(f"{self.op.name}(): arrays gave {type(plain).__name__}, not an array")
        _same(f"{self.op.name}(): called with arrays: the value", plain, self.value)

    def check_left_alone(self) -> None:
        """The result is not shared, inputs and incoming gradient are not written, twice backward gives the same."""
        arrays, cotangent = self.copies(), self.cotangent.copy()
        result = self.call(arrays)
        for i, x in enumerate(arrays):
            if isinstance(x, np.ndarray) and np.shares_memory(x, result.data) and not self.op.view:
                raise CheckError(f"{self.op.name}(): the result shares memory with input {i}, but the op is no view")
        for time in ("backward()", "a second backward()"):
            if result.requires_grad:
                result.backward(cotangent, retain_graph=True)
            for what, x, before in zip(
                [*(f"input {i}" for i in range(len(arrays))), "the incoming gradient"],
                [*arrays, cotangent],
                [*self.arrays, self.cotangent],
                strict=True,
            ):
                if isinstance(x, np.ndarray) and not np.array_equal(x, before, equal_nan=x.dtype.kind == "f"):
                    raise CheckError(f"{self.op.name}(): {what} was written")
            self.compare(time, (result.data, [_array(leaf.grad) for leaf in self.leaves]))
            for leaf in self.leaves:
                leaf.grad = None
        for x in [*arrays, cotangent]:
            if isinstance(x, np.ndarray):
                x.flags.writeable = False
        self.compare("read-only arrays", self.value_and_gradients(arrays, cotangent))

    def check_products(self) -> None:
        """One product for each input that wants one, of the right shape and dtype; the others are not kept."""
        for position, i in enumerate(self.wanted):
            result = self.call(self.arrays, [i])
            products = result.node.products if result.node else ()
            if not callable(products) and any(p is not None for j, p in enumerate(products) if j != i):
                raise CheckError(f"{self.op.name}(): only input {i} wants a gradient, but other products are kept")
            gradient = self.value_and_gradients(self.arrays, wanted=[i])[1][0]
            _same(f"{self.op.name}(): wanted alone, the gradient of input {i}", gradient, self.gradients[position])
        node = self.call(self.arrays).node
        if node and self.op.accumulates:
            so_far, alone = np.ones_like(self.arrays[0]), np.asarray(self.gradients[0])
            so_far.flags.writeable = False
            d, what = node.products(self.cotangent, so_far)[0], f"{self.op.name}(): with what has arrived at input 0"
            if np.shares_memory(d, so_far):
                raise CheckError(f"{what}, the sum is no new array")
            _same(f"{what}, its gradient", d, so_far + alone, 1e-10, 1e-10)

    def check_kernels(self) -> None:
        for name in ("numpy", "numba"):
            with kernels.use(name):
                self.compare(f"kernels {name!r}", self.value_and_gradients(self.arrays))

    def check_definition(self) -> None:
        empty = any(isinstance(x, np.ndarray) and x.size == 0 for x in self.arrays)
        if self.op.definition is not None and not empty:  # a softmax of nothing is nothing, but it has no maximum
            with definitions():
                self.compare("the definition", self.value_and_gradients(self.arrays))

    def check_layouts(self) -> None:
        """Values and gradients do not depend on how the arrays lie in memory."""
        for layout in (_transposed, _sliced, _reversed):
            arrays = [layout(x) if isinstance(x, np.ndarray) else x for x in self.arrays]
            self.compare(f"{layout.__name__[1:]} inputs", self.value_and_gradients(arrays))
            self.compare(
                f"a {layout.__name__[1:]} gradient", self.value_and_gradients(self.arrays, layout(self.cotangent))
            )
        repeated = np.broadcast_to(
            self.cotangent.ravel()[:1].sum(), self.cotangent.shape
        )  # stride 0, as sum() sends it
        with_copy, without = (self.value_and_gradients(self.arrays, g)[1] for g in (repeated.copy(), repeated))
        for ours, reference in zip(without, with_copy, strict=True):
            _same(f"{self.op.name}(): a gradient of stride 0", ours, reference, 1e-10, 1e-10)

    def check_float32(self) -> None:
        """float32 gives float32, forward and backward, close to the numbers of float64."""
        single = [np.asarray(x, np.float32) if _is_float(x) else x for x in self.arrays]
        value, gradients = self.value_and_gradients(single, self.cotangent.astype(_narrow(self.cotangent.dtype)))
        _same(f"{self.op.name}(): float32: the value", value, self.value.astype(_narrow(self.value.dtype)), 1e-3, 1e-4)
        for i, gradient, reference in zip(self.wanted, gradients, self.gradients, strict=True):
            if reference is not None:
                _same(
                    f"{self.op.name}(): float32: the gradient of input {i}",
                    gradient,
                    reference.astype(np.float32),
                    1e-3,
                    1e-4,
                )
        if self.differentiable:
            self.check_raw_products(single)
        if self.differentiable and len(self.wanted) > 1 and "mixed" not in self.without:
            mixed = [x if i == self.wanted[0] else y for i, (x, y) in enumerate(zip(single, self.arrays, strict=True))]
            result = self.call(mixed)
            result.backward(self.cotangent.astype(result.dtype))
            dtypes = [leaf.grad.dtype for leaf in self.leaves if leaf.grad is not None]
            if dtypes != [leaf.dtype for leaf in self.leaves if leaf.grad is not None]:
                raise CheckError(
                    f"{self.op.name}(): leaves of dtypes {[x.dtype for x in self.leaves]} got gradients {dtypes}"
                )

    def check_raw_products(self, arrays: list[Any]) -> None:
        """The engine converts what a product returns; but a product that needs it has computed at the wrong width."""
        arrays = [*arrays, *[None] * (len(self.op.names) - len(arrays))]
        with np.errstate(all="ignore"):
            value, products = self.op.forward(*arrays, **self.settings)
            g = np.ones_like(value)
            gradients = products(g) if callable(products) else [product and product(g) for product in products]
        gradients = gradients if isinstance(gradients, tuple | list) else [gradients]
        for i, (x, gradient) in enumerate(zip(arrays, gradients, strict=True)):
            if _is_float(x) and gradient is not None:
                d = np.asarray(gradient)
                if d.dtype != x.dtype:
                    raise CheckError(f"{self.op.name}(): the product for input {i}, {x.dtype}, gives {d.dtype}")
                unbroadcast(d, x.shape)


def _array(x: Tensor | None) -> Array | None:
    return None if x is None else x.data


def _same(what: str, a: Any, b: Any, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Raise unless two arrays have one shape and dtype and close elements; NaN is close to NaN."""
    if a is None or b is None:
        if a is not b:
            raise CheckError(f"{what} is {'absent' if a is None else 'present'}, and should not be")
        return
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        raise CheckError(f"{what} has shape {a.shape} and dtype {a.dtype}; it should have {b.shape} and {b.dtype}")
    wrong = np.argwhere(~np.isclose(a, b, rtol, atol, equal_nan=True))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise CheckError(f"{what} at {place} is {a[place]:g}; it should be {b[place]:g}")


def _narrow(dtype: np.dtype) -> np.dtype:
    """What a float64 result becomes when the inputs are float32."""
    return np.dtype(np.float32) if dtype == np.float64 else dtype


def _transposed(x: Array) -> Array:
    """`x` in Fortran order."""
    return x.T.copy().T


def _sliced(x: Array) -> Array:
    """`x` as every second element of something larger."""
    large = np.empty(tuple(2 * n for n in x.shape), x.dtype)
    view = large[(..., *(slice(None, None, 2) for _ in x.shape))]
    view[...] = x
    return view


def _reversed(x: Array) -> Array:
    """`x` with negative strides."""
    backwards = (..., *(slice(None, None, -1) for _ in x.shape))
    return x[backwards].copy()[backwards]
