"""Attention as heat maps: all heads at a glance, or one of them with its numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import draw, nn

from .heads import patterns
from .oscilloscope import equal, softmaxes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

Array = np.ndarray
Tokens = Sequence[str] | None
Patterns = Mapping[str, Array]

KINDS = {"encoder": "*encoder*self_attn", "decoder": "*decoder*self_attn", "cross": "*cross_attn"}
CELL, LEAST_CELL, LARGE_CELL = 0.19, 0.05, 0.36  # inches: a line of type; a dot; room for a number
WIDE = 16  # inches that a figure may have before its cells get smaller
WITH_NUMBERS = 24  # tokens up to which the large map has numbers
STYLE = {"square": True, "axes_grid": False, "axes_titlesize": draw.SMALL, "hatch_color": "#bbbbbb"}


def attention_grid(
    of: nn.Module | Patterns,
    *inputs: Any,
    kind: str | None = None,
    sentence: int = 0,
    source: Tokens = None,
    target: Tokens = None,
) -> draw.Plot:
    """Draw what the heads look at in one sentence: a heat map for every attention (down) and head (across).

    of: a model, and `inputs` what it reads; or what `patterns` returned for it. kind: "encoder", its attention to
    itself, "decoder", the same, or "cross", from the decoder to the source; None: all. sentence: its row in the batch.
    source, target: the tokens, at most S and T; where there are fewer, the others are padding and are cut off.

    In a map the rows are queries, the columns keys, and darker is more. Masked cells are hatched; a weight that is 0
    only by rounding is white. (Without the model nobody can tell, and every cell of exactly 0 is hatched.) The numbers
    are masked arrays (T, S) by the names of the heads.

    Raises ValueError if there is no such kind, head or sentence, for patterns with NaN, and for too many tokens.

    >>> from minitransformer import LanguageModel, TransformerConfig
    >>> model = LanguageModel(TransformerConfig(src_vocab_size=9, d_model=4, nhead=2, num_decoder_layers=1))
    >>> plot = attention_grid(model, [[3, 4, 5]], target=["a", "b", "c"])
    >>> list(plot.numbers)
    ['decoder.layers.0.self_attn.0', 'decoder.layers.0.self_attn.1']
    >>> print(plot.numbers["decoder.layers.0.self_attn.0"][0])
    [1.0 -- --]
    """
    if kind not in (None, *KINDS):
        raise ValueError(f"attention_grid(): kind is {kind!r}; it must be {', '.join(map(repr, KINDS))}, or None.")
    found = {
        name: x for name, x in _masked(of, inputs).items() if kind is None or fnmatchcase(_path(name), KINDS[kind])
    }
    if not found:
        of_kind = f" of the kind {kind!r}" if kind else ""
        raise ValueError(f"attention_grid(): there is no head{of_kind}. Give a model, or what patterns() returned.")
    maps = {name: _one(name, array, sentence, source, target) for name, array in found.items()}
    rows: dict[str, dict[str, Any]] = {}
    for name, weights in maps.items():
        rows.setdefault(_path(name), {})[name] = weights
    heights = [max(weights.shape[0] for weights in row.values()) for row in rows.values()]
    columns, longest = max(map(len, rows.values())), max(weights.shape[1] for weights in maps.values())
    cell = min(CELL, max(LEAST_CELL, WIDE / (columns * longest)))
    width = max(columns * max(cell * longest + 0.12, 0.55) + 2.2, 4.5)
    height = sum(cell * height + 0.5 for height in heights) + 1.6
    with draw.figure(width, height, **STYLE) as fig:
        grid = fig.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
        image = None
        for number, (line, (path, row)) in enumerate(zip(grid, rows.items(), strict=True)):
            for column, axes in enumerate(line):
                axes.set_visible(column < len(row))
            for column, (axes, (name, weights)) in enumerate(zip(line, row.items(), strict=False)):
                image = _heat_map(axes, weights)
                axes.set_title(f"{path}\nhead 0" if column == 0 else f"head {name.rpartition('.')[2]}")
                queries, keys = _labels(path, weights.shape, source, target)
                last = number == len(rows) - 1 or _labels_differ(path, list(rows)[number + 1])
                draw.label_tokens(axes, queries if column == 0 else None, keys if last else None, cell)
        _explain(fig, image, grid, _hatched(of, maps.values()))
    return draw.Plot(fig, maps)


def attention_head(
    of: nn.Module | Patterns, name: str, *inputs: Any, sentence: int = 0, source: Tokens = None, target: Tokens = None
) -> draw.Plot:
    """Draw what one head looks at in one sentence, large, with its numbers if there are not too many.

    name: as `head_names` has it, "decoder.layers.1.cross_attn.0"; all else is as in `attention_grid`.

    >>> plot = attention_head({"layer.0": np.full((1, 2, 4), 0.25)}, "layer.0", target=["x", "y"])
    >>> plot.numbers["layer.0"].shape
    (2, 4)
    """
    found = _masked(of, inputs)
    if name not in found:
        near = get_close_matches(name, found, n=3, cutoff=0.3) or list(found)[:3]
        raise ValueError(f"attention_head(): there is no head {name!r}. Near: {', '.join(near) or 'none'}.")
    weights = _one(name, found[name], sentence, source, target)
    numbers = max(weights.shape) <= WITH_NUMBERS
    cell = LARGE_CELL if numbers else CELL
    width, height = (cell * size + space for size, space in zip(weights.shape[::-1], (2.4, 1.7), strict=True))
    with draw.figure(max(width, 4.5), max(height, 2.4), **STYLE) as fig:
        axes = fig.subplots()
        image = _heat_map(axes, weights)
        axes.set_title(name)
        queries, keys = _labels(_path(name), weights.shape, source, target)
        draw.label_tokens(axes, queries, keys, cell)
        for (query, key), weight in np.ndenumerate(weights.data) if numbers else ():
            if not np.ma.getmaskarray(weights)[query, key]:
                colour = "white" if weight > 0.35 else "black"
                axes.text(key, query, f"{weight:.2f}", ha="center", va="center", fontsize=draw.SMALL, color=colour)
        _explain(fig, image, axes, _hatched(of, [weights]))
    return draw.Plot(fig, {name: weights})


def _masked(of: nn.Module | Patterns, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """The patterns (B, T, S) of all heads as masked arrays."""
    if not isinstance(of, nn.Module | Mapping):
        raise TypeError(f"attention: given a {type(of).__name__}; give a Module, or what patterns() returned.")
    if not isinstance(of, nn.Module):
        return {name: np.ma.masked_equal(weights, 0.0, copy=False) for name, weights in of.items()}
    seen = patterns(of, *inputs)
    # With equal scores only a mask makes a weight 0.
    with nn.patch(of, {scores: equal for scores, _ in softmaxes(of).values()}):
        uniform = patterns(of, *inputs)
    return {name: np.ma.masked_array(weights, uniform[name] == 0) for name, weights in seen.items()}


def _one(name: str, weights: Any, sentence: int, source: Tokens, target: Tokens) -> Any:
    """The pattern (T, S) of one sentence, without the padding for which there are no tokens."""
    if weights.ndim != 3:
        raise ValueError(
            f"attention: {name!r} has shape {weights.shape}; it must be (B, T, S), as lens.patterns() returns it."
        )
    if not weights.size:
        raise ValueError(f"attention: {name!r} has shape {weights.shape}; there is nothing to draw. Give tokens.")
    if not -len(weights) <= sentence < len(weights):
        raise ValueError(f"attention: sentence is {sentence}; the batch has {len(weights)}, counted from 0.")
    chosen = weights[sentence]
    if np.isnan(chosen.data).any():
        raise ValueError(f"attention: {name!r} holds NaN. Where it comes from, minigrad.detect_anomaly() tells.")
    lengths = []
    for size, tokens in zip(chosen.shape, _roles(_path(name), source, target), strict=True):
        if tokens is not None and not 0 < len(tokens) <= size:
            raise ValueError(
                f"attention: {len(tokens)} tokens for {size} places of {name!r}. Give at most as many, at least one."
            )
        lengths.append(size if tokens is None else len(tokens))
    return chosen[: lengths[0], : lengths[1]]


def _path(name: str) -> str:
    """The attention of a head."""
    return name.rpartition(".")[0]


def _roles(path: str, source: Any, target: Any) -> tuple[Any, Any]:
    """Of two things, about source and target, the one that is about the queries, and that about the keys."""
    if fnmatchcase(path, KINDS["encoder"]):
        return source, source
    return (target, target) if fnmatchcase(path, KINDS["decoder"]) else (target, source)


def _labels(path: str, shape: tuple[int, int], source: Tokens, target: Tokens) -> list[Sequence[Any]]:
    """What to write beside queries and keys: the tokens, or their places."""
    roles = _roles(path, source, target)
    return [range(size) if tokens is None else tokens for size, tokens in zip(shape, roles, strict=True)]


def _labels_differ(path: str, other: str) -> bool:
    return _roles(path, 0, 1) != _roles(other, 0, 1)


def _heat_map(axes: Axes, weights: Any) -> AxesImage:
    """A map on a hatched ground, which shows through where cells are masked."""
    from matplotlib.colors import PowerNorm

    axes.patch.set(facecolor="#f4f4f4", hatch="/////")
    axes.set_anchor("NW")
    # The root, so that in a long sentence, where all weights are small, they are seen.
    return axes.imshow(weights, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="equal", interpolation="nearest")


def _hatched(of: nn.Module | Patterns, maps: Iterable[Any]) -> str:
    """What hatched cells are, "" if there are none."""
    if not any(np.ma.getmaskarray(weights).any() for weights in maps):
        return ""
    return "; hatched: masked" if isinstance(of, nn.Module) else "; hatched: exactly 0, as where it is masked"


def _explain(fig: Any, image: Any, axes: Any, hatched: str) -> None:
    """A colour bar, and a title in words."""
    width, height = fig.get_size_inches()
    title = f"attention: which token (across) each token (down) looks at{hatched}"
    fig.suptitle(textwrap.fill(title, round(13 * width)), size=9, x=0.01, ha="left")
    bar = fig.colorbar(image, ax=axes, shrink=min(0.9, 4 / height), anchor=(0.0, 1.0), aspect=20, label="weight")
    bar.ax.tick_params(labelsize=draw.SMALL)
