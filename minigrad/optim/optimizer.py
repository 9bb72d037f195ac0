"""Optimizer: parameters in groups, a state for each parameter, and a loop. The formula is in the subclasses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Any

import numpy as np

from ..arguments import unwrap
from ..checks import require_number
from ..core import Array, ShapeError, enable_grad, writes
from ..flat import Flat
from ..tensor import Tensor

Group = dict[str, Any]


class Optimizer:
    """What all optimisers share; a new one defines `update`, or `step` itself.

    `params` is an iterable of tensors, or of dicts {"params": tensors, setting: value} to give groups of their own
    settings, where `defaults` holds those that a group does not name. `param_groups` may be changed while training, as
    schedules do; `state` maps each parameter to a dict of arrays in its dtype.

    The parameters of a group move into one piece of memory, and their gradients into another, so that one call of a
    kernel can update them all; one whose memory somebody else looks into stays where it is, if it is contiguous.
    """

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        if hasattr(params, "parameters"):
            raise TypeError(f"{self._name}(): params is a {type(params).__name__}; pass model.parameters()")
        if isinstance(params, Tensor | Mapping):
            raise TypeError(f"{self._name}(): params is a {type(params).__name__}; give a list of tensors or of dicts")
        self.defaults = dict(defaults)
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self.flats: list[list[Flat]] = []  # of each group, see _flats_of
        self.moved: list[list[Tensor]] = []  # the parameters of each group for which they were made
        groups = list(params)
        if not groups:
            raise ValueError(f"{self._name}(): the list of parameters is empty. Was model.parameters() used up before?")
        for group in groups if isinstance(groups[0], Mapping) else [{"params": groups}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Optimise further parameters, with settings of their own.

        Raises TypeError for what is not a tensor, ValueError for a tensor that is not a leaf or that is there already.
        """
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError(f"{self._name}(): params is a set, whose order changes from run to run; give a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for p in self._parameters()}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"{self._name}(): a {type(p).__name__} cannot be optimised, only tensors can")
            if not p.is_leaf:
                raise ValueError(
                    f"{self._name}(): a tensor of shape {p.shape} is the result of an operation; only leaves can be "
                    "optimised. Give the tensors it was computed from, or its detach()."
                )
            if id(p) in known:
                raise ValueError(f"{self._name}(): a parameter of shape {p.shape} is given twice; give each one once")
            known.add(id(p))
        self.param_groups.append({**self.defaults, **param_group, "params": params})
        self._flats_of(len(self.param_groups) - 1)

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to zero."""
        for p in self._parameters():
            if set_to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; return what `closure`, which may compute the loss, returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            for flat in self._flats_of(number):
                try:
                    flat.gather()
                except ShapeError as error:
                    message = f"{self._name}.step(): {error} Assign a gradient of the parameter's shape."
                    raise ShapeError(message) from None
                with np.errstate(all="ignore"):  # what has become inf or NaN stays so, without a warning
                    self.update_flat(flat, group)
                changed = zip(flat.tensors, flat.stamps, strict=True)
                writes.renew([stamp for p, stamp in changed if p.grad is not None])
        return loss

    def _flats_of(self, number: int) -> list[Flat]:
        """The memory of a group: one Flat for each dtype, and one for each parameter that could not move.

        It is made anew when the group has other parameters than before, or they have other shapes or dtypes.
        """
        params, here = self.param_groups[number]["params"], slice(number, number + 1)
        for moved, flats in zip(self.moved[here], self.flats[here], strict=True):
            if len(moved) == len(params) and all(map(is_, moved, params)) and all(flat.fits() for flat in flats):
                return flats
        self.flats[here] = [[]]  # let go of the old memory
        together: dict[Any, list[Tensor]] = {}
        for p in params:
            together.setdefault(id(p) if writes.shared(p) else p.dtype, []).append(p)
        self.flats[here] = [[Flat(tensors) for tensors in together.values()]]
        self.moved[here] = [list(params)]
        return self.flats[number]

    def __getstate__(self) -> dict[str, Any]:
        none = [[] for _ in self.param_groups]  # a copy has parameters of its own
        return vars(self) | {"flats": list(none), "moved": list(none)}

    def update_flat(self, flat: Flat, group: Group) -> None:
        """Change all parameters of `flat` that have a gradient: one after the other, if not said otherwise."""
        for p in flat.tensors:
            if p.grad is not None:
                self.update(p.data, p.grad.data, self.state[p], group)

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """Change the parameter `p` in place, given its gradient `g`, which must not be changed."""
        raise NotImplementedError(f"{self._name} has no update(); define it, or step(), in the class")

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number of the parameter: its state}, "param_groups": [...]}, as in PyTorch.

        The arrays share memory with the optimiser. All else goes into JSON and comes back from it unharmed.
        """
        number = {id(p): i for i, p in enumerate(self._parameters())}
        return {
            "state": {number[id(p)]: dict(state) for p, state in self.state.items()},
            "param_groups": [{**g, "params": [number[id(p)] for p in g["params"]]} for g in self.param_groups],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()` of an optimiser for the same parameters; arrays are copied.

        Raises ValueError if it is no such state, or if groups or shapes differ; nothing has been changed then.
        """
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
            what = f"keys {list(state_dict)}" if isinstance(state_dict, Mapping) else f"a {type(state_dict).__name__}"
            raise ValueError(
                f"{self._name}.load_state_dict(): expected a dict with 'state' and 'param_groups', got {what}. "
                "Give what the state_dict() of an optimiser returned."
            )
        saved = state_dict["param_groups"]
        here, there = [[len(g["params"]) for g in groups] for groups in (self.param_groups, saved)]
        if here != there:
            raise ValueError(
                f"{self._name}.load_state_dict(): the state has groups of {there} parameters, this one of {here}. "
                "Build the optimiser as the saved one was built."
            )
        numbers = [i for group in saved for i in group["params"]]
        parameters = dict(zip(numbers, self._parameters(), strict=True))
        state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        for i, values in state_dict["state"].items():
            p = parameters[int(i)]  # JSON makes strings of the numbers
            state[p] = {name: self._like(p, name, value) for name, value in values.items()}
        self.state = state
        self.param_groups = [
            {**mine, **group, "params": mine["params"]} for group, mine in zip(saved, self.param_groups, strict=True)
        ]

    def _like(self, p: Tensor, name: str, value: Any) -> Any:
        """A saved value as a new array in the dtype of `p`, or as a number if it counts something."""
        array = np.asarray(unwrap(value))
        if array.dtype.kind in "iu":
            return array.item()
        if array.shape != p.shape:
            raise ValueError(
                f"{self._name}.load_state_dict(): {name} has shape {array.shape}, its parameter {p.shape}. "
                "The state is that of another model."
            )
        return array.astype(p.dtype)

    def __repr__(self) -> str:
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]
        lines = [f"  {len(g['params'])} parameters: {s}" for g, s in zip(self.param_groups, settings, strict=True)]
        return "\n".join([f"{self._name} (", *lines, ")"])


def check_range(name: str, low: float = 0.0, below: float = float("inf"), **settings: float) -> None:
    """Raise TypeError unless a setting is a number, ValueError unless low <= setting < below."""
    for setting, value in settings.items():
        require_number(name, setting, value)
        if not low <= value < below:
            limit = f"in [{low}, {below})" if below < float("inf") else f"at least {low}"
            raise ValueError(f"{name}(): {setting} = {value}; it must be {limit}")
