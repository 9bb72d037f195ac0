"""The way of a gradient from the loss to one step: of all paths, the one along which most of it came."""

from __future__ import annotations

import math
from difflib import get_close_matches

from ..trace import Edge, Recording, Step


def strongest_path(recording: Recording, to: str | None) -> tuple[set[Edge], list[str]]:
    """The edges of the paths to the steps whose names match `to`, and what there is to say about them.

    Shares multiply along a path, and over all paths they sum to 1; see `Recording.paths` for how exact that is. Without
    a backward pass it is the shortest path.
    Raises ValueError if nothing matches.
    """
    if to is None:
        return set(), []
    targets = recording.find(to)
    if not targets:
        near = get_close_matches(to, [recording.name(step) for step in recording.steps], n=4, cutoff=0.3)
        raise ValueError(f"graph(): to={to!r} is the name of no step or parameter. Near: {', '.join(near) or 'none'}.")
    best, came = _search(recording)
    path: set[Edge] = set()
    words = []
    for target in targets:
        step = target
        while step in came and came[step] not in path:
            path.add(came[step])
            step = came[step].child
        if target not in best:
            words.append(f"no gradient came to {recording.name(target)}")
        elif recording.runs:
            share = f"its shares multiply to {math.exp(best[target]):.2%}"
            words.append(f"highlighted: the strongest path to {recording.name(target)}; {share}")
        else:
            words.append(f"highlighted: the shortest path to {recording.name(target)}; there are no gradients yet")
    return path, [*words[:3], f"... and {len(words) - 3} more"] if len(words) > 3 else words


def _search(recording: Recording) -> tuple[dict[Step, float], dict[Step, Edge]]:
    """Of every step the log of the largest product of shares along a path to it, and the last edge of that path."""
    roots = [recording.root] if recording.root else [step for step in recording.steps if not step.uses]
    best: dict[Step, float] = dict.fromkeys(roots, 0.0)
    came: dict[Step, Edge] = {}
    for step in sorted(recording.steps, key=lambda step: (step.is_leaf, -step.serial)):
        for edge in step.uses:
            share = abs(edge.share or 0.0) if recording.runs else math.exp(-1)
            if edge.child in best and share > 0:  # neither 0 nor NaN
                length = best[edge.child] + math.log(share)
                if step not in best or length > best[step]:
                    best[step], came[step] = length, edge
    return best, came
