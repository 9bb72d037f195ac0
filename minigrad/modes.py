"""What the running thread is doing: whether it builds graphs, in which module it is, and who listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from contextvars import copy_context
from inspect import isgeneratorfunction
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .core import Array, Node, Value
    from .op import Op


class _State(threading.local):
    """What the running thread is doing; every thread starts from these defaults."""

    grad_enabled = True
    definitions = False  # run every op that has a definition as its definition
    module: Any = None  # the innermost Module being called
    part_of: Op | None = None  # the innermost op that runs as its definition
    observers: tuple[Observer, ...] = ()

    def __init__(self) -> None:
        self.outer_modes: list[bool] = []
        # Infinity and NaN are results like others, as in PyTorch: no warnings. np.errstate takes as long as a small
        # operation; a context in which NumPy keeps quiet, made once and stepped into, a tenth of it.
        context = copy_context()
        context.run(np.seterr, all="ignore")
        self.quietly = context.run


state = _State()


class no_grad(ContextDecorator):
    """Inside, no graph is built: a context manager and a decorator, nestable, for the current thread only."""

    enabled = False

    def __call__(self, func: Any) -> Any:
        """As a decorator."""
        if isgeneratorfunction(func):
            raise TypeError(f"{type(self).__name__}(): {func.__name__} is a generator; put the `with` inside of it.")
        return super().__call__(func)

    def __enter__(self) -> None:
        state.outer_modes.append(state.grad_enabled)
        state.grad_enabled = self.enabled

    def __exit__(self, *_: object) -> None:
        state.grad_enabled = state.outer_modes.pop()


class enable_grad(no_grad):
    """Inside, graphs are built again, even within `no_grad`."""

    enabled = True


def is_grad_enabled() -> bool:
    """Whether operations of this thread build a graph at the moment."""
    return state.grad_enabled


class Observer:
    """Sees every node and gradient of its thread while it is in `observe(...)`: to be copied if kept, never changed."""

    def enter(self, thing: Any, settings: dict[str, Any]) -> None:
        """A module or an op is called, with keywords; until `leave`, what happens is part of it."""

    def leave(self, thing: Any) -> None:
        """The innermost of what was entered has ended, with a result or an exception."""

    def node(self, node: Node, inputs: tuple[Any, ...], output: Value) -> None:
        """After `node` was made: the arguments of the op as they were given, and its result."""

    def edge(self, node: Node, position: int, parent: Node, gradient: Array) -> None:
        """`node` sends `gradient` to `parent`, which was its argument number `position`.

        Where an op goes on from what has arrived (`accumulates`), it is the difference that it makes, to rounding.
        """

    def gradient(self, node: Node, gradient: Array) -> None:
        """`node` has received all of its gradient and is about to pass it on, or, for a leaf, to keep it.

        Its hooks have not seen it yet: what they make of it shows in what is passed on.
        """


@contextmanager
def observe(observer: Observer) -> Iterator[Observer]:
    """Let `observer` listen to this thread."""
    before = state.observers
    state.observers = (*before, observer)
    try:
        yield observer
    finally:
        state.observers = before


def within(thing: Any, run: Callable[..., Any], inputs: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    """run(*inputs, **settings), while the observers know that it is `thing` that runs."""
    observers = state.observers
    for observer in observers:
        observer.enter(thing, settings)
    try:
        return run(*inputs, **settings)
    finally:
        for observer in observers:
            observer.leave(thing)


@contextmanager
def definitions() -> Iterator[None]:
    """Inside, every op that has a definition runs as its definition, down to the primitives."""
    before, state.definitions = state.definitions, True
    try:
        yield
    finally:
        state.definitions = before
