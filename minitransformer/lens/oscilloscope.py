"""The softmax oscilloscope: what every row of every attention looks like, and what of its gradient gets through.

A softmax near one-hot lets no gradient through: its Jacobian J vanishes. Whether that happens, and in which rows, is
hidden in the mean of a layer, so everything here is measured row by row, and summed up by mean *and* median.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

from ..batching import Batch
from ..checks import is_number
from ..decoding import evaluating
from .rows import REASONS, Rows, Saturation

Array = np.ndarray
DEAD = 1e-3  # a row that lets through less of its gradient is dead


def softmaxes(model: nn.Module) -> dict[str, tuple[str, str]]:
    """The modules with taps `scores` and `pattern`, before and after a softmax: path -> full names of the two taps.

    Raises ValueError if there are none, TypeError for what is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"lens: the model is a {type(model).__name__}; give a Module, such as mt.load(folder).model.")
    names = dict.fromkeys(nn.tap_names(model))  # in their order
    stems = [name.removesuffix("scores") for name in names if f".{name}".endswith(".scores")]
    found = {stem.rstrip("."): (f"{stem}scores", f"{stem}pattern") for stem in stems if f"{stem}pattern" in names}
    if not found:
        raise ValueError(
            f"lens: no part of this {type(model).__name__} has taps `scores` and `pattern`, before and after a "
            "softmax. Let it show them: taps = ('scores', 'pattern') and self.tap('scores', scores)."
        )
    return found


@contextmanager
def sharpen(model: nn.Module, factor: float, attentions: str | Iterable[str] | None = None) -> Iterator[None]:
    """Inside, the scores of these attentions, or this one, or all, are multiplied by `factor`: softmax(factor s).

    The scores are those that enter the softmax, scale and bias of positions included. As the factor grows a row becomes
    one-hot, and its Jacobian 0; with a factor of 0 it is uniform. Raises ValueError for an attention that is not there
    and for a factor that is negative or not finite.

    >>> from minitransformer import MultiHeadAttention
    >>> x = mg.randn(1, 4, 8)
    >>> attention = MultiHeadAttention(d_model=8, nhead=2)
    >>> with sharpen(attention, 0.0), nn.capture(attention, "pattern") as seen:
    ...     y = attention(x, x, x)
    >>> bool((seen["pattern"] == 0.25).all())
    True
    """
    if not is_number(factor) or not 0 <= factor < math.inf:
        raise ValueError(f"sharpen(): factor is {factor!r}; it must be a finite number of at least 0. Try 8.0.")
    taps = softmaxes(model)
    chosen = taps if attentions is None else [attentions] if isinstance(attentions, str) else list(attentions)
    for path in chosen:
        if path not in taps:
            near = get_close_matches(path, taps, n=3, cutoff=0.3) or list(taps)[:3]
            raise ValueError(f"sharpen(): there is no attention {path!r}. Near: {', '.join(map(repr, near))}.")
    with nn.patch(model, {taps[path][0]: lambda scores: scores * factor for path in chosen}):
        yield


def saturation(
    model: nn.Module,
    *inputs: Any,
    targets: Any = None,
    loss: Callable[..., mg.Tensor] | None = None,
    seed: int = 0,
    dead: float = DEAD,
) -> Saturation:
    """Measure every row of every softmax of a model while it reads `inputs`, with gradients, in evaluation mode.

    For a row p = softmax(s) of a pattern, with the gradient g = dL/dp that arrives and J g = dL/ds that goes on,

        J = dp/ds = diag(p) - p p^T,   gain = |J g| / |g|,   dead: gain < `dead`,

    and its entropy, largest weight and |J|, as `Rows` says. No eigenvalue of J is above 1/2, so no gain is. Two things
    can kill a row: p is near one-hot, so that J is small, or g is the same for all keys, which J takes to 0.

    L is one of three:
    - `saturation(model, batch)`, with a `Batch`, or `saturation(model, *inputs, targets=...)`: the cross entropy of the
      logits, averaged over the targets; where logits are (B, T, V), targets that are padding do not count.
    - with `loss`: what loss(output, targets) returns, or loss(output) if there are no targets.
    - without either: <c, output> with a random cotangent c, normal numbers that `seed` decides, 0 at padding.

    A row that is measured has at least two legal keys and gets a gradient. The others are left out of every statistic;
    in the arrays they are NaN. These are the rows of padding, on which L does not depend. A row with one legal key has
    entropy 0 and gradient 0 by its nature: it did not die, and is left out, too. `Rows.left_out` counts them by reason.

    The model runs twice, on copies of caches: first with all scores equal, which shows which keys are legal. It may be
    any module with taps `scores` and `pattern` of shapes (B, H, T, S), (B, T, S) or (B, S); calls one after the other,
    as in a recurrent network, are put behind each other as the rows T. Parameters, their gradients, modes and the state
    of the random numbers stay as they were.

    Raises ValueError for a model without such taps, with taps of other shapes, or whose output does not depend on them.

    >>> from minitransformer import MultiHeadAttention
    >>> x = mg.randn(2, 5, 8)
    >>> rows = saturation(MultiHeadAttention(d_model=8, nhead=2), x, x, x)[""]
    >>> rows.entropy.shape, rows.left_out["one key"], bool((rows.jacobian < 0.5).all())
    ((2, 2, 5), 0, True)
    """
    if not is_number(dead) or not dead >= 0:
        raise ValueError(f"saturation(): dead is {dead!r}; it must be a number of at least 0. Try {DEAD}.")
    if len(inputs) == 1 and isinstance(inputs[0], Batch):
        (batch,) = inputs
        inputs, targets = (batch.src, batch.tgt_in), batch.tgt_out if targets is None else targets
    taps = softmaxes(model)
    scores, patterns = [s for s, _ in taps.values()], [p for _, p in taps.values()]
    with evaluating(model), left_as_it_was(model):
        with nn.patch(model, dict.fromkeys(scores, equal)), nn.capture(model, *patterns) as uniform:
            model(*copies(inputs))
        with (
            mg.enable_grad(),
            nn.patch(model, dict.fromkeys(scores, with_gradient)),
            nn.capture(model, *scores, *patterns, grad=True) as seen,
        ):
            output = model(*copies(inputs))
            scalar(model, inputs, output, targets, loss, seed).backward()
    measured = {}
    for path, (before, after) in taps.items():
        if after in seen:
            runs = zip(seen.all[before], seen.all[after], uniform.all[after], strict=True)
            measured[path] = Rows.joined([rows_of_run(after, *run, dead) for run in runs])
    return Saturation(measured, dead)


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Afterwards the gradients of the parameters and the random numbers are as if nothing had been computed inside."""
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    random = mg.random.get_state()
    for parameter, _ in before:
        parameter.grad = None
    try:
        yield
    finally:
        mg.random.set_state(random)
        for parameter, grad in before:
            parameter.grad = grad


def copies(inputs: tuple[Any, ...]) -> list[Any]:
    """Inputs that a model may use up: no gradient goes to the original, and no cache of it grows."""
    return [x.detach() if isinstance(x, mg.Tensor) else deepcopy(x) for x in inputs]


def equal(scores: mg.Tensor) -> mg.Tensor:
    """The same score for all keys, but for those that a bias of -inf forbids."""
    return mg.zeros_like(scores).masked_fill(scores == -math.inf, -math.inf)


def with_gradient(scores: mg.Tensor) -> mg.Tensor:
    """The scores; if no gradient goes beyond them, as in a frozen model, it ends here."""
    return scores if scores.requires_grad else scores.detach().requires_grad_()


def scalar(
    model: nn.Module,
    inputs: tuple[Any, ...],
    output: Any,
    targets: Any,
    loss: Callable[..., mg.Tensor] | None,
    seed: int,
) -> mg.Tensor:
    """What is differentiated, as `saturation` says."""
    if loss is not None:
        return loss(output) if targets is None else loss(output, targets)
    of_tokens = isinstance(output, mg.Tensor) and output.ndim == 3  # (B, T, V)
    pad_id = getattr(getattr(model, "config", None), "pad_id", None) if of_tokens else None
    if targets is not None:
        return mg.ops.cross_entropy(output, as_array(targets), ignore_index=-100 if pad_id is None else pad_id)
    rng = np.random.default_rng(seed)
    products = []
    for y in output if isinstance(output, tuple) else (output,):
        if isinstance(y, mg.Tensor) and y.requires_grad:
            c = rng.standard_normal(y.shape)
            if pad_id is not None:
                c[is_padding(inputs, y.shape[:2], pad_id)] = 0.0
            products.append((y * mg.from_numpy(c).type_as(y)).sum())
    if not products:
        raise ValueError(
            f"saturation(): nothing that this {type(model).__name__} returns depends on the scores of an attention. "
            "Give loss=, a function from the output to a number that does."
        )
    return sum(products[1:], start=products[0])


def is_padding(inputs: tuple[Any, ...], shape: tuple[int, ...], pad_id: int) -> Array:
    """Where the tokens (B, T) that the last dimension of an output (B, T, V) is about are padding."""
    for ids in map(as_array, reversed(inputs)):  # of source and target, the output is about the target
        if ids.shape == shape and ids.dtype.kind in "iu":
            return ids == pad_id
    return np.zeros(shape, bool)


def as_array(x: Any) -> Array:
    """A tensor, array or nested list as an array."""
    return x.detach().numpy() if isinstance(x, mg.Tensor) else np.asarray(x)


def rows_of_run(name: str, scores: mg.Tensor, pattern: mg.Tensor, uniform: mg.Tensor, dead: float) -> Rows:
    """Measure the rows of one call of a softmax, given what comes out of it when all scores are equal."""
    p, legal = by_head(name, pattern), by_head(name, uniform) > 0  # (B, H, T, S)
    g, J_g = (mg.zeros_like(x) if x.grad is None else x.grad for x in (pattern, scores))  # no grad: L is of other runs
    keys, arrives = np.count_nonzero(legal, axis=-1), norm(np.where(legal, by_head(name, g), 0.0))  # (B, H, T)
    statistics = softmax_statistics(p) | {"row_gradient": norm(by_head(name, J_g))}
    finite = np.all([np.isfinite(x) for x in (arrives, *statistics.values())], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics["gain"] = statistics["row_gradient"] / arrives
        statistics["normalised_entropy"] = statistics["entropy"] / np.log(keys)
    reasons = [keys == 0, keys == 1, ~finite, arrives == 0]
    measured = ~np.any(reasons, axis=0)
    statistics = {statistic: np.where(measured, values, np.nan) for statistic, values in statistics.items()}
    because = np.select(reasons, REASONS, "")
    return Rows(**statistics, dead=statistics["gain"] < dead, keys=keys, left_out_because=because)


def by_head(name: str, x: mg.Tensor) -> Array:
    """Values (B, H, T, S), (B, T, S) or (B, S) as an array (B, H, T, S), in float64."""
    if not 2 <= x.ndim <= 4:
        raise ValueError(
            f"saturation(): {name} has shape {x.shape}; it must be (B, H, T, S), (B, T, S) or (B, S), keys last."
        )
    return as_array(x).astype(np.float64).reshape(x.shape[0], *[1] * (4 - x.ndim), *x.shape[1:])


def norm(x: Array) -> Array:
    """The Euclidean length of every row."""
    return np.sqrt(np.square(x).sum(axis=-1))


def softmax_statistics(p: Array) -> dict[str, Array]:
    """Entropy, largest weight and norm of the Jacobian of softmax, of rows p (..., S) that sum to 1; each (...).

        entropy = -sum_i p_i ln p_i  (in nats),   max_p = max_i p_i,   J = dp/ds = diag(p) - p p^T,
        |J|^2 = sum_i p_i^2 (1 - p_i)^2 + sum_{i != j} p_i^2 p_j^2 = sum p^2 - 2 sum p^3 + (sum p^2)^2

    Uniform over n keys they are ln n, 1/n and sqrt(n - 1)/n; |J| is never above 1/2, what two equal keys have.

    Near one-hot the three sums are all close to 1, and their difference is noise. So the sums are taken in another
    order, in which nothing cancels: with q = 1 - p_k of the largest weight p_k found as the sum of the others,

        |J|^2 = sum_i p_i^2 ((sum_{j != i} p_j)^2 + sum_{j != i} p_j^2),   -p_k ln p_k = -(1 - q) log1p(-q).

    >>> statistics = softmax_statistics(np.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 1e-30]]))
    >>> statistics["entropy"] / np.log(4)
    array([1.00000000e+00, 5.05502689e-29])
    >>> statistics["jacobian"]
    array([4.33012702e-01, 2.00000000e-30])
    """
    p_k = p.max(axis=-1, keepdims=True, initial=0.0)
    largest = p == p_k
    largest &= largest.cumsum(axis=-1) == 1  # the first, where several are
    others = np.where(largest, 0.0, p)
    q, squares = others.sum(axis=-1, keepdims=True), np.square(others).sum(axis=-1, keepdims=True)
    sum_of_rest = np.where(largest, q, 1 - p)
    squares_of_rest = np.where(largest, squares, p_k**2 + squares - others**2)
    logs = np.log(others, where=others > 0, out=np.zeros_like(others))
    return {
        "entropy": -(others * logs).sum(axis=-1) - ((1 - q) * np.log1p(-q))[..., 0],
        "max_p": p_k[..., 0],
        "jacobian": np.sqrt((p**2 * (sum_of_rest**2 + squares_of_rest)).sum(axis=-1)),
    }
