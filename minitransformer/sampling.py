"""Sentences drawn at random, as probable as the model says, or with the improbable left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

from .decoding import Array, MakeStep, Step, check_count, decoding, write


def sample(
    model: nn.Module,
    src: Any,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | Sequence[Any] | Array | None = None,
    max_len: int | None = None,
    use_cache: bool = True,
    step: MakeStep = Step,
) -> Array:
    """Draw, for every source sentence of a batch, a token, then the next, until all have ended:

        y_t ~ filtered(p(. | x, y_1 ... y_{t-1}))

    temperature, top_k, top_p: see `filtered`; with their defaults the model's own probabilities; seed: an integer, from
    which sentence i of the batch gets the generator (seed, i), or one seed for each sentence; None: of
    `mg.manual_seed`. So one seed gives one answer, whatever other sentences are in the batch. (The logits of a sentence
    are the same bits in any batch with the Numba kernels. With NumPy's they may differ by rounding, and in rare cases a
    token with them.) The rest, and what is returned, as in `greedy`. Raises ValueError for values that are not legal.

    >>> from minitransformer import Transformer, TransformerConfig
    >>> model = Transformer(TransformerConfig(src_vocab_size=20, d_model=8, nhead=2, num_decoder_layers=1))
    >>> first, second = (sample(model, [[5, 6, 2]], top_p=0.9, seed=1) for _ in range(2))
    >>> bool((first == second).all())
    True
    """  # fmt: skip
    check_filter(temperature, top_k, top_p)
    with decoding(model, src, max_len, use_cache, step) as (ask, limits):
        generators = generators_of(seed, len(limits))

        def draw(log_p: Array, of: Array) -> Array:
            upto = filtered(log_p, temperature, top_k, top_p).cumsum(axis=-1)  # (b, V)
            u = np.array([[generators[i].random()] for i in of]) * upto[:, -1:]  # below the sum, also when rounded
            return (upto <= u).sum(axis=-1)  # the first token with upto > u: never one of probability 0

        return write(ask, limits, draw)


def filtered(log_p: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Array:
    """Probabilities (..., V) to draw from, of log-probabilities (..., V), in float64:

        p_i = exp(log p_i / temperature) / Z, and 0 for tokens that are left out.

    Below 1 the temperature makes the probable more probable, above 1 less. top_k leaves out all but the k most probable
    tokens (Fan et al. 2018). top_p then leaves out all but the nucleus: the smallest set of most probable tokens that
    together have probability top_p or more (Holtzman et al. 2020). Of equally probable tokens the first comes first.

    >>> filtered(np.log([0.5, 0.3, 0.2]), top_p=0.7)
    array([0.625, 0.375, 0.   ])
    """
    log_p = np.asarray(log_p, np.float64)
    with np.errstate(over="ignore"):  # -inf is what a temperature near 0 means
        p = np.exp((log_p - log_p.max(axis=-1, keepdims=True)) / temperature)
    if top_k is not None or top_p is not None:
        order = np.argsort(-p, axis=-1, kind="stable")  # the most probable first
        ranked = np.take_along_axis(p, order, axis=-1)
        if top_k is not None:
            ranked[..., top_k:] = 0
        if top_p is not None:
            upto = ranked.cumsum(axis=-1)
            before = upto - ranked
            ranked[before >= top_p * upto[..., -1:]] = 0
        np.put_along_axis(p, order, ranked, axis=-1)
    return p / p.sum(axis=-1, keepdims=True)


def check_filter(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError if `filtered` cannot make sense of these."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"decoding: temperature is {temperature}; it must be above 0, and finite. For 0 use greedy().")
    if top_k is not None:
        check_count("top_k", top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"decoding: top_p is {top_p}; it must be above 0 and at most 1.")


def generators_of(seed: int | Sequence[Any] | Array | None, n: int) -> list[np.random.Generator]:
    """Make n generators, see `sample`. Raises ValueError if a seed is none, or if there are not n."""
    if isinstance(seed, np.ndarray):
        seed = seed.tolist()
    if seed is None:
        seed = mg.random.next_seed()
    seeds: Sequence[Any] = seed if isinstance(seed, Sequence) else [(seed, i) for i in range(n)]
    if len(seeds) != n:
        raise ValueError(f"decoding: there are {len(seeds)} seeds and {n} sentences; give one seed, or one for each.")
    try:
        return [np.random.default_rng(s) for s in seeds]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"decoding: seed is {seed!r}; it must be an integer that is not negative, or one for each sentence."
        ) from error
