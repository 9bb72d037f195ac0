"""Kernels that tell who wants to know what they do. While nobody does, they are called as they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

Listener = Callable[[str, float, tuple[Any, ...], tuple[Any, ...]], None]

UNHEARD = ("empty", "statistics", "products")  # no computation, or one of who listens


class _Active(threading.local):
    """Who listens to the kernels of this thread."""

    listeners: tuple[Listener, ...] = ()


_active = _Active()
_lock = threading.Lock()
_count = 0  # of listeners, in all threads


def anybody() -> bool:
    """Whether some thread listens."""
    return _count > 0


@contextmanager
def listening(listener: Listener, renew: Callable[[], None]) -> Iterator[None]:
    """Let `listener` hear this thread; `renew` is called when the first one comes and when the last one goes."""
    before = _active.listeners
    _active.listeners = (*before, listener)
    _change(1, renew)
    try:
        yield
    finally:
        _active.listeners = before
        _change(-1, renew)


def _change(by: int, renew: Callable[[], None]) -> None:
    global _count
    with _lock:
        _count += by
        renew()


class Heard:
    """All kernels of a set, as they are heard."""

    def __init__(self, functions: Any) -> None:
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._functions, name)
        heard = function if name in UNHEARD else _heard(name, function)
        setattr(self, name, heard)  # found without this method from now on
        return heard


def _heard(name: str, function: Callable[..., Any], before: tuple[Any, ...] = ()) -> Callable[..., Any]:
    """The kernel as it is heard; `before` are the arguments of the one that returned it."""

    def call(*arguments: Any, **settings: Any) -> Any:
        if not _active.listeners:
            return function(*arguments, **settings)
        start = perf_counter()
        result = function(*arguments, **settings)
        seconds = perf_counter() - start
        results = result if isinstance(result, tuple) else (result,)
        given = (*before, *arguments)
        for listener in _active.listeners:
            listener(name, seconds, given, results)
        if any(callable(part) for part in results):
            return tuple([_heard(f"{name}_vjp", part, given) if callable(part) else part for part in results])
        return result

    return call
