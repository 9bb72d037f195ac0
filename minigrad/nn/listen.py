"""Looking inside a running model: read values by name, or replace them.

A module shows its intermediate values with `self.tap(name, value)`, and lists those names in its class attribute
`taps`. The full name of a tap is the path of its module and the name: "decoder.layers.1.cross_attn.pattern". The output
of a submodule goes by the path of the submodule: "decoder.layers.1".

>>> from minigrad import nn, randn
>>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
>>> with nn.capture(model) as seen:
...     y = model(randn(5, 3))
>>> {name: value.shape for name, value in seen.items()}
{'0': (5, 4), '1': (5, 4), '2': (5, 2)}
>>> with nn.patch(model, {"1": lambda x: 0 * x}):  # what do we get without the hidden layer?
...     y = model(randn(5, 3))
>>> bool((y == model[2].bias).all())
True

Names are resolved to module objects once, when the `with` statement is entered. While nothing listens, a tap costs one
truth test.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core import state
from ..tensor import Tensor

if TYPE_CHECKING:
    from .module import Module

OUTPUT = ""  # the name, within a module, of what it returns
Place = tuple["Module", str]  # a module and the name of one of its taps


class Seen(dict[str, Any]):
    """The values that a capture() has seen, by full name, in the order of their first appearance.

    A tap that was reached several times, as in decoding word by word, is here with its last value; `all[name]` is the
    list of all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.all: dict[str, list[Any]] = {}


class Listener(NamedTuple):
    """A capture or a patch at work: `hear(full name, value)` returns the value that the model goes on with."""

    wanted: dict[Place, str]
    hear: Callable[[str, Any], Any]
    replaces: bool


class _Active(threading.local):
    """Who listens to the models of this thread."""

    listeners: tuple[Listener, ...] = ()


active = _Active()


def join(path: str, name: str) -> str:
    """The full name of what a module at `path` calls `name`."""
    return f"{path}.{name}" if path else name


def hear(module: Module, name: str, value: Any) -> Any:
    """Show `value` to all who listen at this place, and return what the last of them made of it."""
    if name != OUTPUT and name not in module.taps:
        raise ValueError(
            f"{type(module).__name__}.tap(): {name!r} is not one of the names in its taps {module.taps}. Add it there."
        )
    for listener in active.listeners:
        full_name = listener.wanted.get((module, name))
        if full_name is not None:
            value = listener.hear(full_name, value)
    return value


def watched(module: Module, names: tuple[str, ...]) -> bool:
    """Whether anybody listens to one of these taps of `module`."""
    return any((module, name) in listener.wanted for listener in active.listeners for name in names)


def may_fuse() -> bool:
    """Whether a module may compute several of its steps as one fused op: nobody listens, nor asks for definitions.

    >>> from minigrad import nn
    >>> may_fuse()
    True
    >>> with nn.capture(nn.Sequential(nn.ReLU())):
    ...     may_fuse()
    False
    """
    return not active.listeners and not state.definitions


def as_made(kind: type, *modules: Any) -> bool:
    """Whether the modules are of this kind, and nobody has given one a `forward` of its own: else it has to be called.

    >>> from minigrad import nn
    >>> as_made(nn.ReLU, nn.ReLU()), as_made(nn.ReLU, nn.GELU())
    (True, False)
    """
    return all(type(module) is kind and "forward" not in vars(module) for module in modules)


def tap_names(model: Module) -> list[str]:
    """Every name that capture() and patch() know in `model`: the outputs of its submodules, then its taps."""
    return list(_places(model))


@contextmanager
def capture(model: Module, *patterns: str, grad: bool = False) -> Iterator[Seen]:
    """Keep the values whose full names match one of `patterns` (as file names do: * ? [abc]); without any, all values.

    What is kept are the tensors that the model computed with, after patches, not copies. With `grad` they keep their
    gradients, too: after `loss.backward()` they are in `seen[name].grad`. Captures may be nested, are private to the
    thread, and end with the `with` statement. Raises ValueError for a pattern that matches nothing.
    """
    seen = Seen()

    def keep(name: str, value: Any) -> Any:
        if grad and isinstance(value, Tensor) and value.requires_grad:
            value.retain_grad()
        seen[name] = value
        seen.all.setdefault(name, []).append(value)
        return value

    wanted = _wanted("capture", model, patterns or ("*",))
    with _listening(Listener(wanted, keep, replaces=False)):
        yield seen


@contextmanager
def patch(model: Module, functions: Mapping[str, Callable[[Any], Any]]) -> Iterator[None]:
    """Replace values while the model runs: {pattern: function} makes each value that matches function(value).

    Where several patches meet, the inner one gets what the outer one returned. Raises ValueError for a pattern that
    matches nothing, TypeError if a function returns None.
    """
    wanted = {pattern: _wanted("patch", model, (pattern,)) for pattern in functions}
    with _listening(*[Listener(wanted[p], _replacing(f), replaces=True) for p, f in functions.items()]):
        yield


def _replacing(function: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    def replace(name: str, value: Any) -> Any:
        new = function(value)
        if new is None:
            raise TypeError(f"patch(): the function for {name!r} returned None; return the value to go on with.")
        return new

    return replace


@contextmanager
def _listening(*listeners: Listener) -> Iterator[None]:
    before = active.listeners
    patches_first = sorted((*before, *listeners), key=lambda listener: not listener.replaces)
    active.listeners = tuple(patches_first)
    try:
        yield
    finally:
        active.listeners = before


def _places(model: Module) -> dict[str, Place]:
    """Full name -> place. A tap goes before the output of a child of the same name."""
    modules = list(model.named_modules())
    places = {path: (module, OUTPUT) for path, module in modules if path}
    return places | {join(path, tap): (module, tap) for path, module in modules for tap in module.taps}


def _wanted(caller: str, model: Module, patterns: tuple[str, ...]) -> dict[Place, str]:
    places = _places(model)
    wanted = {}
    for pattern in patterns:
        found = {place: name for name, place in places.items() if fnmatchcase(name, pattern)}
        if not found:
            near = get_close_matches(pattern, places, n=4, cutoff=0.3) or list(places)[:4]
            raise ValueError(
                f"{caller}(): nothing in this {type(model).__name__} matches {pattern!r}. "
                f"Near: {', '.join(near) or 'none, it has neither taps nor submodules'}. tap_names(model) lists all."
            )
        wanted |= found
    return wanted
