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
from .core import GradError, Node, Value, state, within, writes
from .dtypes import as_operand

registry: dict[str, Op] = {}


class Op:
    """A differentiable function of arrays; call it with tensors, arrays or Python numbers.

    With at least one tensor among the arguments the result is a tensor, else an array. `view` says that the result may
    share memory with the first argument, `accumulates` that the function for all gradients can be given, as a second
    argument, the gradient that the first one has received from others, and returns the sum in a new array.
    """

    def __init__(
        self, forward: Callable, definition: Callable | None = None, view: bool = False, accumulates: bool = False
    ) -> None:
        self.name, self.forward, self.definition = forward.__name__, forward, definition
        self.view, self.accumulates = view, accumulates
        self.signature = inspect.signature(forward)
        arguments = [p for p in self.signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.names = tuple([p.name for p in arguments])  # of the array arguments, the optional ones included
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
        return within(self, self._run, inputs, settings) if state.observers else self._run(*inputs, **settings)

    def _run(self, *inputs: Any, **settings: Any) -> Any:
        if state.definitions and self.definition is not None:
            outer, state.part_of = state.part_of, self
            try:
                return self.definition(*inputs, **settings)
            finally:
                state.part_of = outer
        if len(inputs) < len(self.names):
            inputs, settings = self._complete(inputs, settings)
        like: Any = None
        wanted, tracking = False, state.grad_enabled
        arrays, parents = [], []
        for x in inputs:
            node = None
            if isinstance(x, Value):
                like, node = x, x.node
                if tracking and node is not None:
                    wanted = True
                    if node.serial < writes.latest and node.op is not None:
                        writes.check_fresh(x)
                arrays.append(x.data)
            else:
                arrays.append(x if type(x) is np.ndarray else as_operand(self, x, inputs))
            parents.append(node)
        try:
            out, products = state.quietly(self.forward, *arrays, **settings)
        except ValueError as error:
            if "could not be broadcast" not in str(error):
                raise
            raise mismatch(self.name, arrays) from None
        except RuntimeError as error:
            if "cannot enter context" not in str(error):
                raise
            out, products = self.forward(*arrays, **settings)  # within the forward of another op: quiet already
        out = out if type(out) is np.ndarray else np.asarray(out)
        if like is None:
            return out
        if not wanted or products is None:
            return like._result(out, None)
        node = Node(self, tuple(parents), self._needed(products, parents), out)
        result = like._result(out, node)
        for observer in state.observers:
            observer.node(node, inputs, result)
        return result

    def _complete(self, inputs: tuple[Any, ...], settings: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """All array arguments in their places: None for an optional one that was left out."""
        missing = self.names[len(inputs) :]
        if len(missing) <= self.optional and settings.keys().isdisjoint(missing):
            return (*inputs, *[None] * len(missing)), settings
        bound = self.signature.bind(*inputs, **settings)  # some are given by name
        bound.apply_defaults()
        return bound.args, bound.kwargs

    def _needed(self, products: Any, parents: list[Node | None]) -> Any:
        """The products whose parent wants a gradient, None in place of the others."""
        if callable(products):
            return (products,) if len(parents) == 1 else products
        if len(products) != len(parents):
            raise GradError(f"{self.name}(): {len(parents)} inputs, but {len(products)} vector-Jacobian products")
        if None not in parents and None not in products:
            return products
        for position, (product, parent) in enumerate(zip(products, parents, strict=True)):
            if parent is not None and product is None:
                raise GradError(f"{self.name}(): input {position} requires a gradient, but this op has none for it")
        return tuple([product if parent else None for product, parent in zip(products, parents, strict=True)])


def op(forward: Callable | None = None, **settings: Any) -> Any:
    """Make an `Op` of a function, as @op or @op(definition=..., view=...), and enter it in the registry."""
    return Op(forward) if forward else lambda function: Op(function, **settings)
