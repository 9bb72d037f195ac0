"""Module: a layer, or a tree of layers. Its attributes are its parameters, buffers and submodules; as in torch.nn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from traceback import walk_tb
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from ..arguments import unwrap
from ..core import state, within, writes
from ..tensor import Tensor
from .listen import OUTPUT, active, hear, join, watched


class Parameter(Tensor):
    """A tensor that is trained: a module that has one as an attribute knows it, and it wants a gradient.

    It shares memory with `data`. Copies made by `copy.deepcopy` keep ties: what was one parameter stays one.

    >>> from minigrad import no_grad, zeros
    >>> with no_grad():
    ...     Parameter(zeros(2))
    Parameter containing:
    tensor([0., 0.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad=requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` found to differ; both are empty if it was strict."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A function with parameters: subclass it, assign parameters and submodules in __init__, and define forward.

    >>> from minigrad import nn, zeros
    >>> class Shift(nn.Module):
    ...     def __init__(self, n):
    ...         super().__init__()
    ...         self.by = nn.Parameter(zeros(n))
    ...     def forward(self, x):
    ...         return x + self.by
    >>> model = nn.Sequential(nn.Linear(3, 2), Shift(2))
    >>> [name for name, _ in model.named_parameters()]
    ['0.weight', '0.bias', '1.by']
    """

    taps: ClassVar[tuple[str, ...]] = ()  # the names that forward() shows with self.tap(name, value)
    is_residual: ClassVar[bool] = False  # whether the additions that forward() makes itself are x + f(x), x first
    training: bool = True

    # What each registered name holds: Parameter, Tensor (a buffer) or Module. The things themselves are attributes
    # like any other. A registered name stays what it is: it takes a thing of that kind, or None.
    _kinds: Mapping[str, type] = MappingProxyType({})
    _not_saved: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._kinds = {}
        self.training = True

    def __setattr__(self, name: str, value: Any) -> None:
        kind = Parameter if isinstance(value, Parameter) else Module if isinstance(value, Module) else None
        if kind is not None:
            self._register(name, kind)
        elif value is not None and not isinstance(value, self._kinds.get(name, object)):
            expected = self._kinds[name].__name__
            raise TypeError(
                f"{type(self).__name__}.{name} is a {expected}; it cannot become a {type(value).__name__}. "
                f"Assign a {expected} or None, or delete the attribute first."
            )
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        if name in self._kinds:
            del vars(self)["_kinds"][name]

    def _register(self, name: str, kind: type) -> None:
        if "_kinds" not in vars(self):
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before you assign {name!r}")
        vars(self)["_kinds"][name] = kind

    def _add(self, name: str, kind: type, value: Any) -> None:
        """Register a name that is given as a string, and so may be one that cannot be used."""
        if not name or "." in name:
            raise KeyError(f"{name!r} is no name for a {kind.__name__}: it must not be empty, nor contain a dot")
        if hasattr(self, name) and name not in self._kinds:
            raise KeyError(f"{type(self).__name__} already has an attribute {name!r}; choose another name")
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name!r} is to be a {kind.__name__} or None, not a {type(value).__name__}")
        self._register(name, kind)
        object.__setattr__(self, name, value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set the attribute `name` to a parameter; None keeps the name for one."""
        self._add(name, Parameter, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Set the attribute `name` to a tensor that belongs to the model but is not trained.

        A persistent one is part of `state_dict()`.
        """
        self._add(name, Tensor, tensor)
        self._not_saved = self._not_saved - {name} if persistent else self._not_saved | {name}

    def add_module(self, name: str, module: Module | None) -> None:
        """Set the attribute `name` to a submodule."""
        self._add(name, Module, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """Another name for `add_module`."""
        self._add(name, Module, module)

    # -------------------------------------------------------------------------------------------------------- running
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation, to be defined by each module."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(); define it in the class")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `forward`. An exception gets a note that says in which submodule it was raised."""
        outer, state.module = state.module, self
        try:
            output = within(self, self.forward, args, kwargs) if state.observers else self.forward(*args, **kwargs)
            return hear(self, OUTPUT, output) if active.listeners else output
        except Exception as error:
            if outer is None:
                error.add_note(f"in {_where(error, self)}")
            raise
        finally:
            state.module = outer

    def tap(self, name: str, value: Any) -> Any:
        """Show an intermediate value under a name from `taps`, and return what to go on with.

        That is `value` itself, unless an active `patch()` replaces it.
        """
        return hear(self, name, value) if active.listeners else value

    def watched(self, *names: str) -> bool:
        """Whether a capture() or patch() is active for one of these taps of this module (without names, for any).

        A module that computes a value only to show it can ask first.
        """
        return bool(active.listeners) and watched(self, names or self.taps)

    # ------------------------------------------------------------------------------------------------- what is in it
    def _own(self, kind: type) -> list[tuple[str, Any]]:
        """(name, thing) for the registered attributes of one kind that are not None."""
        named = [(name, vars(self)[name]) for name, k in self._kinds.items() if k is kind]
        return [(name, thing) for name, thing in named if thing is not None]

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(path, module) for this module and all below it, parents first; the path of this one is `prefix`.

        A module that is reached by several paths is listed under the first of them, unless `remove_duplicate` is off.
        """
        return self._walk(prefix, set() if remove_duplicate else None)

    def _walk(self, path: str, visited: set[Module] | None) -> Iterator[tuple[str, Module]]:
        if visited is not None:
            if self in visited:
                return
            visited.add(self)
        yield path, self
        for name, child in self._own(Module):
            yield from child._walk(join(path, name), visited)

    def _members(self, kind: type, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        modules = self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]
        visited = set()
        for path, module in modules:
            for name, thing in module._own(kind):
                if not (remove_duplicate and id(thing) in visited):
                    visited.add(id(thing))
                    yield join(path, name), thing

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter), own ones before those of the submodules; a tied one comes once, under its first name."""
        return self._members(Parameter, prefix, recurse, remove_duplicate)

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(name, buffer), own ones before those of the submodules, each once."""
        return self._members(Tensor, prefix, recurse, remove_duplicate)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for the direct submodules, each once."""
        visited = set()
        for name, child in self._own(Module):
            if child not in visited:
                visited.add(child)
                yield name, child

    def modules(self) -> Iterator[Module]:
        """This module and all below it, parents first, each once."""
        return (module for _, module in self.named_modules())

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def children(self) -> Iterator[Module]:
        """The direct submodules, each once."""
        return (child for _, child in self.named_children())

    # --------------------------------------------------------------------------------------------------- save and load
    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and persistent buffers by name, detached, sharing memory with the model.

        The order is: own parameters, own buffers, then the submodules. A tied parameter is there under all its names.
        """
        return {
            join(path, name): tensor.detach()
            for path, module in self.named_modules(remove_duplicate=False)
            for name, tensor in (*module._own(Parameter), *module._own(Tensor))
            if not (name in module._not_saved and module._kinds[name] is Tensor)
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy tensors or arrays into the parameters and buffers of these names, which keep their memory and dtype.

        Raises RuntimeError, listing all that is wrong, if a name is missing or unexpected (only if `strict`) or if a
        shape or dtype does not fit; nothing has been changed then.
        """
        own = self.state_dict()
        given = {name: np.asarray(unwrap(value)) for name, value in state_dict.items()}
        missing = [name for name in own if name not in given]
        unexpected = [name for name in given if name not in own]
        problems = [f"missing: {name}" for name in missing] + [f"unexpected: {name}" for name in unexpected]
        problems = problems if strict else []
        common = [name for name in own if name in given]
        for name in common:
            here, there = own[name].data, given[name]
            if here.shape != there.shape:
                problems.append(f"shape of {name}: {there.shape} in the state, {here.shape} in the model")
            elif not np.can_cast(there.dtype, here.dtype, "same_kind"):
                problems.append(f"dtype of {name}: {there.dtype} in the state, {here.dtype} in the model")
        if problems:
            raise RuntimeError(
                "\n  ".join([f"{type(self).__name__}.load_state_dict(): the state does not fit the model", *problems])
            )
        for name in common:
            np.copyto(own[name].data, given[name], casting="same_kind")
            writes.stamp(own[name].data)
        return IncompatibleKeys(missing, unexpected)

    # ---------------------------------------------------------------------------------------------- the whole at once
    def train(self, mode: bool = True) -> Self:
        """Put this module and all below it into training mode (dropout is active), or with False into evaluation."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and all below it into evaluation mode: the same input gives the same output."""
        return self.train(False)

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call fn(module) for every module, children before their parents; made for initialisation."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let all parameters want gradients, or freeze them."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def to(self, *targets: Any, device: Any = None, dtype: Any = None) -> Self:
        """Convert all parameters and buffers of a float dtype, in place, to another one; "cpu" changes nothing.

        Raises TypeError for a dtype that is not a float one, ValueError for a device that is not the CPU.
        """
        for target in (*targets, device, dtype):
            if target is None or (isinstance(target, str) and target == "cpu"):
                continue
            try:
                wanted = np.dtype(target)
            except TypeError:
                raise ValueError(f"to(): {target!r} is no dtype, and the only device is 'cpu'") from None
            if wanted.kind != "f":
                raise TypeError(f"to(): a module can be of a float dtype only, not {wanted}")
            for tensor in (*self.parameters(), *self.buffers()):
                _convert(tensor, wanted)
        return self

    def float(self) -> Self:
        """Convert to float32."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Convert to float64."""
        return self.to(np.float64)

    # ------------------------------------------------------------------------------------------------------- printing
    def extra_repr(self) -> str:
        """The settings, as they are to appear in the printed module."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for text, run in groupby(self._own(Module), key=lambda named: repr(named[1]).replace("\n", "\n  ")):
            names = [name for name, _ in run]
            if len(names) > 1 and names[0].isdigit():  # the equal layers of a list
                lines.append(f"({names[0]}-{names[-1]}): {len(names)} x {text}")
            else:
                lines += [f"({name}): {text}" for name in names]
        head = f"{type(self).__name__}({self.extra_repr()}"
        return "\n  ".join([head, *lines]) + "\n)" if lines else f"{head})"


def _convert(tensor: Tensor, dtype: np.dtype) -> None:
    """Change the dtype of a tensor that others hold, too."""
    if tensor.dtype.kind != "f" or tensor.dtype == dtype:
        return
    wanted = tensor.requires_grad
    tensor.requires_grad_(False)  # the leaf in the graph is of the old dtype,
    tensor.data = tensor.data.astype(dtype)
    tensor.grad = None if tensor.grad is None else tensor.grad.type(dtype)
    tensor.requires_grad_(wanted)  # so there must be a new one


def _where(error: BaseException, outermost: Module) -> str:
    """Path and class of the innermost module that was running when `error` was raised."""
    running = [f.f_locals["self"] for f, _ in walk_tb(error.__traceback__) if f.f_code is Module.__call__.__code__]
    path = {module: path for path, module in outermost.named_modules()}.get(running[-1])
    name = type(running[-1]).__name__
    return f"{path} ({name})" if path else name
