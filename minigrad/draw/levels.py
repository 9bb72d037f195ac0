"""Levels of a picture: in which box a step of a recording stands, and in which frames.

A step was made in a module, which is in a module, and so on up to the model; and perhaps in an op that ran as its
definition. Of this chain of units the level opens some: these become frames. The first that stays closed is the box.

    model      the children of the model are boxes: src_embed, encoder, decoder, generator
    layer      what holds a list of modules is opened: encoder.layers.0, ..., encoder.norm
    sublayer   and those boxes are opened once more: encoder.layers.0.self_attn, encoder.layers.0.ffn
    op         all modules are opened; an op that ran as its definition is opened if another such op is inside
    primitive  everything is opened: every step is a box

Nothing here knows of a Transformer: what is a layer follows from where the model keeps its lists of modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

from .. import nn
from ..op import Op
from ..trace import Call, Recording, Step

LEVELS = ("model", "layer", "sublayer", "op", "primitive")
LISTS = (nn.ModuleList, nn.ModuleDict)  # are never called
CONTAINERS = (*LISTS, nn.Sequential)


@dataclass(frozen=True)
class Unit:
    """One use of a module, or one call of an op that ran as its definition: something to open or to leave closed."""

    key: str
    path: str  # of the module, or of the one in which the op was called
    thing: nn.Module | Op
    number: int = 0  # of the use of a module
    call: Call | None = None  # of an op


@dataclass(eq=False)
class Group:
    """What becomes one box: the steps in it, and the frames around it, from the outside in.

    `unit` is the module or op that stays closed; None: it is a step, or parameters. `folded` are the units that a fold
    hides, one list of groups for each.
    """

    key: str
    frames: tuple[Unit, ...]
    unit: Unit | None = None
    steps: list[Step] = field(default_factory=list)
    part: int = 0  # from 1 on, if a unit could not be one box without a cycle
    folded: list[list[Group]] = field(default_factory=list)
    rest: bool = False  # the middle of a picture that would be too large

    @property
    def is_step(self) -> bool:
        """Whether this is one step, and not a unit that happens to have one."""
        return len(self.steps) == 1 and self.unit is None and not self.folded and not self.rest

    @property
    def is_op(self) -> bool:
        """Whether this is an op that ran as its definition."""
        return self.unit is not None and self.unit.call is not None


class Levels:
    """The units of a recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        model = recording.model
        self.paths = {} if model is None else {module: path for path, module in model.named_modules()}
        self.uses: Counter[object] = Counter()  # how often each module was called
        self.keys: dict[Call | nn.Module, str] = {}
        self.names: Counter[str] = Counter()
        self.with_ops_inside: set[Call] = set()
        self.chains: dict[tuple[nn.Module | None, Call | None], tuple[Unit, ...]] = {}
        seen: set[Call] = set()
        for step in recording.steps:
            for call in step.call or ():
                if call in seen:
                    break
                seen.add(call)
                self.uses[call.thing] = max(self.uses[call.thing], call.number + 1)
                if isinstance(call.thing, Op) and call.parent is not None and isinstance(call.parent.thing, Op):
                    self.with_ops_inside.add(call.parent)
        self.unit_keys = {unit.key for step in recording.steps for unit in self.chain(step)}

    # ---------------------------------------------------------------------------------------------------------- units
    def chain(self, step: Step) -> tuple[Unit, ...]:
        """The units around a step, from the outside in; without the model itself, which is around everything."""
        key = step.module, step.call
        if key not in self.chains:
            self.chains[key] = (*self._modules(step.module, step.call), *self._ops(step.module, step.call))
        return self.chains[key]

    def key(self, step: Step) -> str:
        """The name of a step; an op that a module did itself may be called like one of its submodules."""
        name = self.recording.name(step)
        return f"{name} step" if name in self.unit_keys else name

    def _modules(self, module: nn.Module | None, call: Call | None) -> Iterator[Unit]:
        numbers = {c.thing: c.number for c in call or () if isinstance(c.thing, nn.Module)}
        for path, around in self._around(module):
            number = numbers.get(around, 0)
            yield Unit(path + (f" use {number + 1}" if number else ""), path, around, number)

    def _around(self, module: nn.Module | None) -> list[tuple[str, nn.Module]]:
        """The modules in which `module` is, and itself, with their paths. One that is not in the model is alone."""
        if module is None:
            return []
        if module not in self.paths:
            return [(self._unique(module, type(module).__name__), module)]
        names, model = self.paths[module].split("."), self.recording.model
        found = []
        for end in range(1, len(names) + 1) if model is not module else ():
            parent = found[-1][1] if found else model
            found.append((".".join(names[:end]), getattr(parent, names[end - 1])))
        return found

    def _ops(self, module: nn.Module | None, call: Call | None) -> Iterator[Unit]:
        calls = []
        for c in call or ():
            if not isinstance(c.thing, Op):
                break
            calls.append(c)
        modules = self._around(module)
        path = modules[-1][0] if modules else ""
        for c in reversed(calls):
            yield Unit(self._unique(c, f"{path}.{c.thing.name}()".lstrip(".")), path, c.thing, call=c)

    def _unique(self, thing: Call | nn.Module, name: str) -> str:
        if thing not in self.keys:
            self.names[name] += 1
            self.keys[thing] = name if self.names[name] == 1 else f"{name}#{self.names[name]}"
        return self.keys[thing]

    # ----------------------------------------------------------------------------------------------------- what is open
    def opened_modules(self, level: str) -> set[nn.Module]:
        """The modules that a level opens. Those that are not in the model are opened from "op" on."""
        if level in LEVELS[3:]:
            return set(self.paths) | {s.module for s in self.recording.steps if s.module is not None}
        if level == "model":
            return {module for module, path in self.paths.items() if not path}
        modules = {path: module for module, path in self.paths.items()}
        holding = {parent for path, m in modules.items() if isinstance(m, CONTAINERS) for parent in _prefixes(path)}
        opened = {path for path in modules if not path}
        children = []
        for path, module in modules.items():  # parents come first
            parent = path.rpartition(".")[0]
            if path and parent in opened:
                member = isinstance(modules[parent], CONTAINERS) and parent != ""
                if isinstance(module, LISTS) or (path in holding and not member):
                    opened.add(path)
                else:
                    children.append(path)
        if level == "sublayer":
            opened |= {path for path in children if any(True for _ in modules[path].children())}
        return {modules[path] for path in opened}

    def matching(self, patterns: Iterable[str]) -> set[nn.Module]:
        """The modules whose paths match. Raises ValueError for a pattern that no path matches."""
        model = self.recording.model
        named = {} if model is None else dict(model.named_modules(remove_duplicate=False))
        found = set()
        for pattern in patterns:
            new = [module for path, module in named.items() if path and fnmatchcase(path, pattern)]
            if not new:
                paths = [path for path in named if path]
                near = get_close_matches(pattern, paths, n=4, cutoff=0.3) or paths[:4]
                hint = "There is no model: record(model), or model=..., has it."
                hint = f"Near: {', '.join(near) or 'none, it has no parts'}." if named else hint
                raise ValueError(f"graph(): open={pattern!r} is the path of no module. {hint}")
            found |= {module for outer in new for module in outer.modules()}
        return found

    def groups(self, level: str, within: set[nn.Module]) -> tuple[dict[Step, Group], dict[Step, Group]]:
        """The group of each step that is no leaf, and of each leaf. What is `within` these modules is open down to ops.

        A parameter stands in the box that uses it, if that is a module, and only one. Parameters that the same several
        boxes use stand together in a box of their own; at the levels of ops, each does.
        """
        modules = self.opened_modules(level) | within
        modules |= {module for chain in self.chains.values() for module in _around_opened(chain, within)}
        groups: dict[str, Group] = {}
        of: dict[Step, Group] = {}
        for step in self.recording.steps:
            if step.is_leaf:
                continue
            chain = self.chain(step)
            closed = len(chain)
            for position, unit in enumerate(chain):
                if not self._is_open(unit, step, level, modules, within):
                    closed = position
                    break
            frames = tuple(u for u in chain[:closed] if not isinstance(u.thing, LISTS))
            unit = chain[closed] if closed < len(chain) else None
            key = self.key(step) if unit is None else unit.key
            if key not in groups:
                groups[key] = Group(key, frames, unit)
            of[step] = groups[key]
        return of, self._leaves(of)

    def _is_open(self, unit: Unit, step: Step, level: str, modules: set[nn.Module], within: set[nn.Module]) -> bool:
        if isinstance(unit.thing, nn.Module):
            return unit.thing in modules
        return level == "primitive" or (unit.call in self.with_ops_inside and (level == "op" or step.module in within))

    def _leaves(self, of: dict[Step, Group]) -> dict[Step, Group]:
        leaves: dict[Step, Group] = {}
        together: dict[tuple[Group, ...], Group] = {}
        for step in self.recording.steps:
            if step.is_leaf:
                users = tuple(dict.fromkeys(of[e.child] for e in step.uses if e.child in of))
                in_module = [isinstance(user.unit and user.unit.thing, nn.Module) for user in users]
                if not users or not is_parameter(step) or not any(in_module):
                    frames = _common(users) if users and is_parameter(step) else ()
                    leaves[step] = Group(self.key(step), frames)
                elif len(users) == 1:
                    leaves[step] = users[0]
                else:
                    leaves[step] = together.setdefault(users, Group(self.key(step), _common(users)))
        return leaves


def is_parameter(step: Step) -> bool:
    """Whether a step is a leaf that is trained, as far as one can still know."""
    return step.is_leaf and isinstance(step.holder and step.holder(), nn.Parameter)


def _prefixes(path: str) -> Iterator[str]:
    """The path itself, and all above it but the model's."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _around_opened(chain: tuple[Unit, ...], within: set[nn.Module]) -> list[nn.Module]:
    """The modules around one that is to be opened, and this one."""
    modules = [unit.thing for unit in chain if isinstance(unit.thing, nn.Module)]
    last = max((i for i, module in enumerate(modules) if module in within), default=-1)
    return modules[: last + 1]


def _common(groups: Iterable[Group]) -> tuple[Unit, ...]:
    """The frames that are around all of these."""
    frames = [group.frames for group in groups]
    common = []
    for units in zip(*frames, strict=False):
        if len(set(units)) > 1:
            break
        common.append(units[0])
    return tuple(common)
