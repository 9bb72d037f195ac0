"""`graph`: the picture of a recording, at the level of detail that can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from ..nn import Module
from ..tensor import Tensor
from ..trace import Edge, Recording, Step, of_tape
from . import arrows, files, overlay
from .dot import dot
from .folds import Folds
from .highlight import strongest_path
from .levels import LEVELS, Group, Levels
from .parts import folded, in_order, numbered, shortened, without_cycles
from .picture import Picture
from .text import tree
from .titles import box, frames

READABLE = 60  # boxes
LARGE = 2_000  # that take long to lay out,
TOO_LARGE = 5_000  # or too long


def graph(
    subject: Recording | Tensor,
    *,
    level: str | None = None,
    open: Iterable[str] = (),
    edges: str = "share",
    nodes: str = "grad",
    to: str | None = None,
    model: Module | None = None,
    fold: bool = True,
    title: str | None = None,
) -> Graph:
    """Draw what was recorded, or the graph behind a tensor: boxes, and on every arrow the gradient that comes back.

    level: "model", its children are boxes; "layer", the members of its lists; "sublayer", what these consist of; "op";
    or "primitive", every step. None: the finest of the first three with at most 60 boxes. open: paths of modules, * and
    ? allowed, that are opened down to their ops at any level. Identical layers are folded, unless `fold` is off.

    edges: what arrows show, "share" <g_e, g> / <g, g> of the gradient g of the tail, "norm", or "none". nodes: what
    colours show, "grad", "value", "time", "memory", or "saturation", the part of the rows of a softmax with an entry
    above 0.99, which needs a recording with detail="definition" and keep="values". to: the name of a parameter or step,
    * and ? allowed; the strongest path of its gradient is highlighted, that with the largest product of shares.

    A live tensor knows no gradients: record. `model` gives names to its graph; a recording has its own. Raises
    ValueError for an unknown level, path, name or choice, TypeError for what is no name, GradError for a tensor whose
    graph was freed.

    >>> import minigrad as mg
    >>> a = mg.tensor([2.0], requires_grad=True)
    >>> with mg.record() as rec:
    ...     (a * a + 3.0).sum().backward()
    >>> picture = mg.graph(rec).picture
    >>> [(box.title, box.lines) for box in picture.boxes][:2]
    [('leaf', ['(1,)', 'data 2 | grad 4']), ('mul', ['(1,)', 'data 4 | grad 1'])]
    >>> [arrow.label.split() for arrow in picture.arrows][:2]
    [['a', '(1,)', '50%'], ['b', '(1,)', '50%']]
    """
    if not isinstance(model, Module | None):
        raise TypeError(f"graph(): the model is a {type(model).__name__}; give a Module, or nothing.")
    if isinstance(subject, Tensor):
        subject = of_tape(subject, model)
    elif not isinstance(subject, Recording):
        kind = type(subject).__name__
        raise TypeError(f"graph(): the subject is a {kind}; give a recording, or a tensor. Try `with record() as rec`.")
    elif model is not None:
        raise ValueError("graph(): a recording knows its model. Leave out model=, or use record(model).")
    for name, value, legal in (
        ("level", level, LEVELS),
        ("edges", edges, overlay.EDGES),
        ("nodes", nodes, overlay.NODES),
    ):
        if value not in legal and not (name == "level" and value is None):
            raise ValueError(f"graph(): {name} is {value!r}; it must be one of {', '.join(map(repr, legal))}.")
    opened = [open] if isinstance(open, str) or not isinstance(open, Iterable) else list(open)
    for name, names in (("open", opened), ("to", [] if to is None else [to])):
        for path in names:
            if not isinstance(path, str):
                raise TypeError(f"graph(): {name} is a {type(path).__name__}; give its name, such as 'layers.0'.")
    return Graph(subject, level, opened, edges, nodes, to, fold, title)


class Graph:
    """What `graph` returns: a `picture` that prints itself in a terminal and in a notebook, and can be saved.

    `level` is the one that is drawn; `recording` is what is drawn.
    """

    def __init__(
        self,
        recording: Recording,
        level: str | None,
        open: list[str],
        edges: str,
        nodes: str,
        to: str | None,
        fold: bool,
        title: str | None,
    ) -> None:
        self.recording, self.edges, self.nodes, self.fold, self.title = recording, edges, nodes, fold, title
        self.levels = Levels(recording)
        self.opened = self.levels.matching(open)
        self.path, self.path_words = strongest_path(recording, to)
        self.remarks: list[str] = []
        self.level, self.placed, self.order = self._choose(level)

    # ---------------------------------------------------------------------------------------------------------- layout
    def _choose(self, asked: str | None) -> tuple[str, dict[Step, Group], list[Group]]:
        """The level to draw, and its boxes."""
        if self.recording.model is None:
            if asked in LEVELS[:3]:
                self.remarks.append(f"there is no model to take the level {asked!r} from: this is the level 'op'")
            candidates = ["primitive", "op"] if asked == "primitive" else ["op"]
        else:
            candidates = list(reversed(LEVELS[: LEVELS.index(asked) + 1 if asked else 3]))
        limit, within = (TOO_LARGE, self.opened) if asked else (READABLE, set())
        for level in candidates:
            placed, order = self._layout(level, within)
            if len(order) <= limit:
                break
            asked_for = "asked for" if level == asked else "tried"
            self.remarks += [f"the level {level!r}, {asked_for}, has {len(order):,} boxes"] if asked else []
        if within is not self.opened and self.opened:
            placed, order = self._layout(level, self.opened)
            limit = TOO_LARGE
        if len(order) > limit:
            self.remarks.append(f"{READABLE} of {len(order):,} boxes are shown; {self._what_to_open(asked)}")
            order = shortened(order, READABLE)
            placed = {step: group for group in order for step in group.steps}
        elif self.remarks and asked and level != asked:
            self.remarks.append(f"this is the level {level!r}; {self._what_to_open(asked)}")
        if len(order) > LARGE:
            self.remarks.append(f"{len(order):,} boxes take long to lay out; a coarser level with open=[...] does not")
        return level, placed, order

    def _layout(self, level: str, within: set[Module]) -> tuple[dict[Step, Group], list[Group]]:
        steps = self.recording.steps
        placed, split = without_cycles(*self.levels.groups(level, within))
        numbered(split)
        order = in_order(placed, steps)
        folds = Folds(order, within).find() if self.fold else []
        if folds:
            placed = folded(placed, folds)
            order = in_order(placed, steps)
        return placed, order

    def _what_to_open(self, asked: str | None) -> str:
        sizes = Counter(step.module for step in self.recording.steps if step.module in self.levels.paths)
        paths = [self.levels.paths[module] for module, _ in sizes.most_common(4)]
        if any(paths):
            return f"open a part of it, as open={[path for path in paths if path][:3]}"
        return "record with a model, whose parts can be opened" + ("" if asked else ", or ask for level='op'")

    # --------------------------------------------------------------------------------------------------------- picture
    @cached_property
    def picture(self) -> Picture:
        """The boxes, frames and arrows, with all that is written on them."""
        recording, order = self.recording, self.order
        on_path = {step for edge in self.path for step in (edge.child, edge.parent)}
        title = self.title or f"{type(recording.model).__name__ if recording.model else 'graph'}, level {self.level}"
        picture = Picture(title)
        colours, words = overlay.fills(self.nodes, [overlay.measure(self.nodes, group.steps) for group in order])
        for group, fill in zip(order, colours, strict=True):
            drawn = box(recording, self.levels, group, self.nodes)
            drawn.fill, drawn.highlighted = fill, not on_path.isdisjoint(group.steps)
            picture.boxes.append(drawn)
        picture.frames = frames(order)
        found = arrows.bundles(recording, self.placed)
        picture.arrows, about = arrows.arrows(recording, found, self.edges, self.path)
        picture.legend = [*self.remarks, *self.path_words, words, *about, *self._conventions()]
        return picture

    def _conventions(self) -> list[str]:
        if not self.order:
            return ["there are no steps: no parameter or input wants a gradient, or no_grad() was on"]
        words = ["data: root mean square, grad: norm, of a single number itself"]
        if any(not group.is_step for group in self.order):
            words.append("|g| a -> b: norm of the gradient that comes in, and of what is sent on")
        if self.recording.detail == "tape":
            words.append("a live graph keeps no gradients and values; use mg.record to see them")
        return words

    def edge(self, child: str | Step, parent: str | Step, argument: str | None = None) -> Edge:
        """The gradient that `child` sends to `parent`; see `Recording.edge`."""
        return self.recording.edge(child, parent, argument)

    # ---------------------------------------------------------------------------------------------------------- output
    def to_dot(self) -> str:
        """The picture in the language of Graphviz."""
        return dot(self.picture)

    def save(self, path: str | Path) -> Path:
        """Write a file; its suffix says which kind: .dot .gv .svg .png .json .mmd (Mermaid) .txt. See `files.save`."""
        return files.save(self.picture, path)

    def __str__(self) -> str:
        return tree(self.picture)

    def __repr__(self) -> str:
        return f"<Graph of {self.recording!r}, level {self.level}: {len(self.order)} boxes>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return files.mimebundle(self.picture)
