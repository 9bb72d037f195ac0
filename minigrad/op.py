"""What an operation is: one function with the forward computation and, beside it, the way back.

    @op
    def mul(a, b):
        '''c = a b.   dL/da = b dL/dc,  dL/db = a dL/dc'''
        a, b = promote(a, b)
        return a * b, (lambda g: g * b, lambda g: g * a)

The function sees plain arrays. It returns its result and one vector-Jacobian product per array argument (or a single
function that returns all of the gradients as a tuple, where they share work; or None where there is no gradient).
Arrays are positional, settings are keywords. The decorator unwraps tensors, asks the graph for a node, and keeps only
the products that somebody needs: what a dropped product closed over is freed at once.

An op bigger than a primitive names its `definition`: a function of tensors written with smaller ops. It is the truth;
the op is a faster way to the same numbers, and the tests hold it to the definition. `core.definitions()` runs the
definitions instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .checks import mismatch
from .core import GradError, Node, Value, state, writes
from .dtypes import as_operand

registry: dict[str, Op] = {}


class Op:
    """A differentiable function of arrays; call it with tensors, arrays or Python numbers.

    With at least one tensor among the arguments the result is a tensor, else an array. `view` says that the result may
    share memory with the first argument.
    """

    def __init__(self, forward: Callable, definition: Callable | None = None, view: bool = False) -> None:
        self.name = forward.__name__
        self.forward = forward
        self.definition = definition
        self.view = view
        self.signature = inspect.signature(forward)
        arguments = [p for p in self.signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.arity = len(arguments)  # array arguments, the optional ones included
        self.optional = sum(p.default is None for p in arguments)
        self.__doc__ = forward.__doc__
        self.__wrapped__ = forward  # doctest and inspect look through to the function
        if self.name in registry:
            raise ValueError(f"there is already an op named {self.name!r}")
        registry[self.name] = self

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        """Run the op, and record it if a gradient is wanted."""
        if state.definitions and self.definition is not None:
            return self.definition(*inputs, **settings)
        if len(inputs) < self.arity:  # optional arrays were left out, or given by name
            bound = self.signature.bind(*inputs, **settings)
            bound.apply_defaults()
            inputs, settings = bound.args, bound.kwargs
        like: Any = None
        wanted = False
        tracking = state.grad_enabled
        for x in inputs:
            if isinstance(x, Value):
                like = x
                if tracking and x.node is not None:
                    wanted = True
                    if x.node.serial < writes.latest:
                        writes.check_fresh(x)
        arrays = [x.data if isinstance(x, Value) else as_operand(self, x, inputs) for x in inputs]
        try:
            with np.errstate(all="ignore"):  # infinity and NaN are results like others, as in PyTorch
                out, products = self.forward(*arrays, **settings)
        except ValueError as error:
            if "could not be broadcast" not in str(error):
                raise
            raise mismatch(self.name, arrays) from None
        if type(out) is not np.ndarray:
            out = np.asarray(out)
        if like is None:
            return out
        if not wanted or products is None:
            return like._result(out, None)
        parents = tuple([x.node if isinstance(x, Value) else None for x in inputs])
        node = Node(self, parents, self._needed(products, parents), out)
        result = like._result(out, node)
        for observer in state.observers:
            observer.node(node, inputs, result)
        return result

    def _needed(self, products: Any, parents: tuple[Node | None, ...]) -> Any:
        """The products whose parent wants a gradient, None in place of the others."""
        if callable(products):
            return (products,) if len(parents) == 1 else products
        if len(products) != len(parents):
            raise GradError(f"{self.name}(): {len(parents)} inputs, but {len(products)} vector-Jacobian products")
        needed = []
        for position, (product, parent) in enumerate(zip(products, parents, strict=True)):
            if parent is not None and product is None:
                raise GradError(f"{self.name}(): input {position} requires a gradient, but this op has none for it")
            needed.append(product if parent is not None else None)
        return tuple(needed)


def op(forward: Callable | None = None, *, definition: Callable | None = None, view: bool = False) -> Any:
    """Make an `Op` of a function, as @op or @op(definition=..., view=...), and enter it in the registry."""
    return Op(forward) if forward else lambda function: Op(function, definition, view)
