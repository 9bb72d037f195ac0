"""Gradient and perturbation of every pair of a result and a token, by a batch of one sentence many times over.

Row n of the batch has a question of its own: its cotangent is at one result only, and one of its tokens is another one
in the second run. There is a row more than there are questions. If something arrives there all the same, sentences see
each other, and what is found in the others may belong to a neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from minigrad.trace.leak import differ

from .probe import Pair, Probe, Run

Array = np.ndarray


def measure(
    probe: Probe, results: Mapping[str, tuple[int, ...]], rng: np.random.Generator, together: bool
) -> tuple[dict[Pair, Array], dict[Pair, Array], bool]:
    """From the shapes (R, V) of the results to the gradient's size and whether anything changed, (R, C) by pair.

    And whether something came to the row without a question. `together`: as one batch; else row by row. Raises
    FloatingPointError if there is NaN or infinity.
    """
    asked = blocks({output: shape[0] for output, shape in results.items()})
    replaced = blocks({name: len(ids) for name, ids in probe.sentences.items()})
    count = 1 + max(block.stop for block in (*asked.values(), *replaced.values()))

    ids = {name: np.tile(sentence, (count, 1)) for name, sentence in probe.sentences.items()}
    noise = probe.quiet(count)
    other_ids, other_noise = ({name: array.copy() for name, array in kind.items()} for kind in (ids, noise))
    for name, block in replaced.items():
        for column in range(len(probe.sentences[name])):
            row = block.start + column
            other_ids[name][row], other_noise[name][row] = probe.disturbed(name, column, rng)
    cotangents = {output: np.zeros((count, *shape)) for output, shape in results.items()}
    for output, (size, width) in results.items():
        for row in range(size):
            cotangents[output][asked[output].start + row, row] = rng.standard_normal(width)

    size = {name: np.zeros(array.shape) for name, array in ids.items()}  # of the gradient
    changed = {output: np.zeros((count, shape[0]), bool) for output, shape in results.items()}
    for rows in [slice(count)] if together else [slice(row, row + 1) for row in range(count)]:
        before = probe.run(cut(ids, rows), cut(noise, rows))
        after = probe.run(cut(other_ids, rows), cut(other_noise, rows))
        weighed: Any = sum((x * cotangents[o][rows].astype(x.dtype)).sum() for o, x in before.outputs.items())
        if weighed.requires_grad:
            weighed.backward()
        check_finite(before)
        check_finite(after)
        for output, x in before.outputs.items():
            changed[output][rows] = differ(x.data, after.outputs[output].data).any(axis=-1)
        for name, x in before.entered.items():
            size[name][rows] = 0.0 if x.grad is None else np.abs(x.grad.data).max(axis=-1)
    moved = any(array[-1].any() for array in (*size.values(), *changed.values()))
    pairs = [(output, name) for output in results for name in ids]
    return (
        {(output, name): size[name][asked[output]] for output, name in pairs},
        {(output, name): changed[output][replaced[name]].T for output, name in pairs},
        moved,
    )


def blocks(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Rows that follow each other, one block per name.

    >>> blocks({"encoder": 3, "decoder": 2})
    {'encoder': slice(0, 3, None), 'decoder': slice(3, 5, None)}
    """
    stops = list(accumulate(sizes.values()))
    return {name: slice(stop - size, stop) for (name, size), stop in zip(sizes.items(), stops, strict=True)}


def cut(arrays: Mapping[str, Array], rows: slice) -> dict[str, Array]:
    """These rows of all arrays."""
    return {name: array[rows] for name, array in arrays.items()}


def check_finite(run: Run) -> None:
    """Raise FloatingPointError where a value that is masked may not become 0: 0 times infinity is NaN."""
    for name, x in run.entered.items():
        finite("vector", name, np.isfinite(x.data))
    for output, x in run.outputs.items():
        finite("result", output, ~np.isnan(x.data))  # -inf as a logit may be meant
    for name, x in run.entered.items():
        finite("gradient", name, np.isfinite(0.0 if x.grad is None else x.grad.data))


def finite(what: str, name: str, good: Any) -> None:
    """Raise FloatingPointError unless all of an array (N, T, D) is good."""
    if not np.all(good):
        place = int(np.argwhere(~good)[0, 1])
        raise FloatingPointError(
            f"dependency(): the {what} at {name} {place} is not finite. A masked value counts 0 times, and 0 times "
            "infinity is NaN, so there is no verdict. Look for the first such value with nn.capture(model)."
        )
