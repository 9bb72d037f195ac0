"""Where the time went: by op, by module, by kernel, and step by step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..nn import Module
from .steps import Call, KernelCall, Step
from .table import Table

if TYPE_CHECKING:
    from .recording import Recording

BY = ("op", "module", "kernel", "step")
OUTSIDE = "(outside of modules)"


class OpRow(NamedTuple):
    """A row of `Recording.profile` by op or by step: time forwards and backwards, sizes in bytes, operations."""

    name: str
    calls: int | None
    ms: float
    forward_ms: float | None
    backward_ms: float | None
    share: float
    nbytes: int | None
    kept: int | None
    flops: int | None
    gflops_per_s: float | None


class ModuleRow(NamedTuple):
    """A row of `Recording.profile` by module: `own_ms` without the modules inside, everything else with them."""

    name: str
    calls: int | None
    own_ms: float
    ms: float
    forward_ms: float | None
    backward_ms: float | None
    share: float
    nbytes: int | None
    kept: int | None
    flops: int | None
    gflops_per_s: float | None


class KernelRow(NamedTuple):
    """A row of `Recording.profile` by kernel."""

    name: str
    calls: int | None
    ms: float
    share: float
    mean_us: float | None
    max_us: float | None
    nbytes: int | None
    gb_per_s: float | None
    flops: int | None
    gflops_per_s: float | None


class Item(NamedTuple):
    """One call of an op, or the Python of a module around its calls (`kind` is "" then), with what it took."""

    kind: str
    step: Step | None
    modules: tuple[str, ...]  # from the inside out
    forward: float
    backward: float
    nbytes: int | None
    flops: int | None


def profile(recording: Recording, by: str, depth: int | None) -> Table:
    """See `Recording.profile`."""
    if by not in BY:
        raise ValueError(f"profile(): by is {by!r}; it must be {', '.join(map(repr, BY))}. Try by='op'.")
    if depth is not None and (by != "module" or not isinstance(depth, int) or depth < 1):
        raise ValueError(f"profile(): depth is {depth!r}, by is {by!r}; it cuts paths. Try by='module', depth=1.")
    total = ended(recording, "profile()")
    if by == "kernel":
        return _by_kernel(recording, total)
    items = list(_items(recording, depth))
    if by == "module":
        return _by_module(items, total, recording, depth)
    return _by_op(items, total, recording, by)


def ended(recording: Recording, who: str) -> float:
    """The seconds that were recorded. Raises RuntimeError while they still are, and if there never were any."""
    if recording.seconds is None:
        raise RuntimeError(f"{who}: no time has been recorded yet. Ask after the `with record(...)` block.")
    return recording.seconds


# -------------------------------------------------------------------------------------------------------------- items
def own_seconds(calls: Iterable[Call]) -> dict[Call, float]:
    """What each call took without the calls inside."""
    own: dict[Call, float] = {}
    for call in calls:
        own[call] = call.seconds
        if call.parent in own:
            own[call.parent] -= call.seconds
    return own


def _items(recording: Recording, depth: int | None) -> Iterator[Item]:
    backward: dict[Step, float] = defaultdict(float)
    ways: Counter[Step] = Counter()
    for way in recording.ways_back:
        backward[way.step] += way.seconds
        ways[way.step] += 1
    composed = {call.parent for call in recording.calls if not isinstance(call.thing, Module)}
    for call, own in own_seconds(recording.calls).items():
        modules = _modules(recording, call, depth)
        if isinstance(call.thing, Module) or (call.step is None and call in composed):
            yield Item("", None, modules, own, 0.0, None, None)
        elif call.step is None:  # no gradient was wanted
            yield Item(call.thing.name, None, modules, own, 0.0, None, None)
        else:
            yield _item(call.step, modules, own, backward.pop(call.step, 0.0), ways[call.step])
    for step, seconds in backward.items():  # of steps that were made before the recording began
        modules = () if step.module is None else (_key(recording, step.module, depth),)
        yield _item(step, modules, 0.0, seconds, ways[step])


def _item(step: Step, modules: tuple[str, ...], forward: float, backward: float, ways: int) -> Item:
    flops, back = step.flops, step.backward_flops
    both = None if flops is None or back is None else flops + ways * back
    return Item(step.kind, step, modules, forward, backward, step.nbytes, both)


def _modules(recording: Recording, call: Call, depth: int | None) -> tuple[str, ...]:
    return tuple([_key(recording, c.thing, depth) for c in call if isinstance(c.thing, Module)])


def _key(recording: Recording, module: Module, depth: int | None) -> str:
    path = recording.path(module)
    return ".".join(path.split(".")[:depth]) if path else type(module).__name__


# --------------------------------------------------------------------------------------------------------------- rows
def _sums(items: list[Item], total: float) -> tuple:
    """From `ms` to `gflops_per_s` of a row."""
    forward, backward = sum(item.forward for item in items), sum(item.backward for item in items)
    steps = [item.step for item in items if item.step is not None]
    nbytes, flops = _known(item.nbytes for item in items), _known(item.flops for item in items)
    seconds = forward + backward
    times = 1e3 * seconds, 1e3 * forward, 1e3 * backward, _share(seconds, total)
    return *times, nbytes, _known(step.saved for step in steps), flops, _rate(flops, seconds)


def _known(numbers: Iterable[int | None]) -> int | None:
    known = [n for n in numbers if n is not None]
    return sum(known) if known else None


def _rate(number: int | None, seconds: float) -> float | None:
    """Giga per second."""
    return number / seconds / 1e9 if number and seconds else None


def _share(seconds: float, total: float) -> float:
    return seconds / total if total else 0.0


def _groups(items: Iterable[Item], name: Callable[[Item], str]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[name(item)].append(item)
    return groups


def _by_op(items: list[Item], total: float, recording: Recording, by: str) -> Table:
    found = [item for item in items if item.kind and (by == "op" or item.step is not None)]
    names = (lambda item: item.kind) if by == "op" else (lambda item: recording.name(item.step))
    rows = [
        OpRow(name, sum(item.step is None or not item.step.outside for item in group), *_sums(group, total))
        for name, group in _groups(found, names).items()
    ]
    if by == "op":
        rows.sort(key=lambda row: -row.ms)
    rest = total - sum(item.forward + item.backward for item in found)
    rows.append(OpRow("(between steps)", None, 1e3 * rest, None, None, _share(rest, total), None, None, None, None))
    return Table(_title(by, total, rest, "between the steps"), OpRow, rows)


def _by_module(items: list[Item], total: float, recording: Recording, depth: int | None) -> Table:
    own: dict[str, float] = defaultdict(float)
    inside: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        modules = item.modules or (OUTSIDE,)
        own[modules[0]] += item.forward + item.backward
        for name in dict.fromkeys(modules[::-1]):  # once, even if a module calls itself
            inside[name].append(item)
    chains = [_modules(recording, call, depth) for call in recording.calls if isinstance(call.thing, Module)]
    calls = Counter(name for name, *around in chains if name not in around)
    rows = [ModuleRow(name, calls[name], 1e3 * own[name], *_sums(group, total)) for name, group in inside.items()]
    rest = total - sum(own.values())
    ms = 1e3 * rest
    rows.append(ModuleRow("(between)", None, ms, ms, None, None, _share(rest, total), None, None, None, None))
    return Table(_title("module", total, rest, "between modules and steps"), ModuleRow, rows)


def _by_kernel(recording: Recording, total: float) -> Table:
    groups: dict[str, list[KernelCall]] = defaultdict(list)
    for call in recording.kernel_calls:
        groups[call.name].append(call)
    rows = []
    for name, calls in groups.items():
        seconds, nbytes = sum(call.seconds for call in calls), sum(call.nbytes for call in calls)
        mean, most = 1e6 * seconds / len(calls), 1e6 * max(call.seconds for call in calls)
        flops = _known(call.flops for call in calls)
        times = 1e3 * seconds, _share(seconds, total), mean, most
        rows.append(KernelRow(name, len(calls), *times, nbytes, _rate(nbytes, seconds), flops, _rate(flops, seconds)))
    rows.sort(key=lambda row: -row.ms)
    rest = total - sum(call.seconds for call in recording.kernel_calls)
    rows.append(KernelRow("(outside of kernels)", None, 1e3 * rest, _share(rest, total), *[None] * 6))
    return Table(_title(f"kernel ({recording.kernel_set})", total, rest, "outside of kernels"), KernelRow, rows)


def _title(by: str, total: float, rest: float, where: str) -> str:
    return f"time by {by}: {1e3 * total:.3g} ms, of which {1e3 * rest:.3g} ms {where}"
