"""Greedy decoding in fewer steps: guess many tokens at once, and repeat until the guess is what the model says."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import nn

from .decoding import Array, MakeStep, Step, check_count, decoding
from .model import tokens


class Converged(NamedTuple):
    """The tokens (B, L), those of `greedy`, and after how many calls of the model they were found."""

    tokens: Array
    calls: int


def jacobi(
    model: nn.Module,
    src: Any,
    max_len: int | None = None,
    use_cache: bool = True,
    *,
    window: int = 8,
    draft: Any = None,
    step: MakeStep = Step,
) -> Converged:
    """Find the tokens of `greedy` by Jacobi's method, all of a window at once (Song et al. 2021; Santilli et al. 2023).

    Greedy decoding solves the equations y_t = argmax_v p(v | x, y_1 ... y_{t-1}) one by one. This guesses
    y_1 ... y_T, evaluates all right-hand sides in one call of the model, takes them as the next guess, and so on:

        y_t <- argmax_v p(v | x, y_1 ... y_{t-1})   for all t at once, until nothing changes

    The first t tokens that were guessed right make token t + 1 right, whatever the guess after them: each call settles
    at least one more token, so that there are at most as many calls as tokens, and the only fixed point is what
    `greedy` writes. What is settled never changes again, and its keys and values are kept.

    The arguments are those of `greedy`; window: how many tokens after the settled ones are guessed at a time; in a
    batch it begins after what all sentences have settled; draft: the first guess, integers (B, n), from a smaller model
    for example. A right one is confirmed in one call for every window + 1 tokens, a wrong one does no harm.
    Raises ValueError as `greedy` does, ShapeError if there is not one draft for each sentence.

    How much it saves depends on how far the model sees ahead without knowing what it is about to say, and in a batch on
    the sentence that sees least. `evaluate RUN --jacobi`, in batches of 128: after `train copy` 91 calls in the place
    of 118, after `train numbers` 407 of 431. A call for a whole window costs more than one for a token, and without
    idle processors all the savings and more.

    The equality is exact if one token's logits come out the same whether the model computes one position or many. With
    the Numba kernels they do, bit for bit. With NumPy's, sums are added up in another order, so that two tokens whose
    probabilities are equal within rounding (about 1e-6 in float32) may be told apart differently.

    >>> from minitransformer import Transformer, TransformerConfig, greedy
    >>> model = Transformer(TransformerConfig(src_vocab_size=20, d_model=8, nhead=2, num_decoder_layers=1))
    >>> tokens, calls = jacobi(model, [[5, 6, 2]])
    >>> bool((tokens == greedy(model, [[5, 6, 2]])).all()), calls <= tokens.shape[1]
    (True, True)
    """  # fmt: skip
    check_count("window", window)
    with decoding(model, src, max_len, use_cache, step) as (ask, limits):
        written = np.full((len(limits), limits.max()), ask.eos_id)
        if draft is not None:
            given = tokens("draft", draft)[:, : limits.max()]
            if len(given) != len(limits):
                raise mg.ShapeError(
                    f"decoding: draft has shape {given.shape}; there are {len(limits)} sentences, give one for each."
                )
            written[:, : given.shape[1]] = given
        settled = np.zeros(len(limits), int)  # how many tokens of each sentence
        of = np.arange(len(limits))  # the sentences that go on
        calls = 0
        while len(of):
            start = settled[of].min()
            stop = min(start + window, limits[of].max() - 1)
            guess = written[of, start : stop + 1]  # (b, n); the last is not needed to compute it
            told = ask(written[of, :stop], last=stop + 1 - start).argmax(axis=-1)  # (b, n)
            told = np.where(np.arange(start, stop + 1) < settled[of, None], guess, told)
            right = np.logical_and.accumulate(told == guess, axis=1)[:, :-1].sum(axis=1)  # (b,): guesses up to an error
            written[of, start : stop + 1] = told
            settled[of] = np.minimum(start + right + 1, limits[of])
            calls += 1
            is_end = (written[of] == ask.eos_id) & (np.arange(written.shape[1]) < settled[of, None])  # (b, L)
            has_ended = is_end.any(axis=1)
            settled[of[has_ended]] = is_end[has_ended].argmax(axis=1) + 1
            goes_on = ~has_ended & (settled[of] < limits[of])
            if not goes_on.all():
                of = of[goes_on]
                ask.select(np.flatnonzero(goes_on))
            if len(of):
                ask.truncate(settled[of].min() - 1)  # the last one was told, and nothing computed from it
    written[np.arange(written.shape[1]) >= settled[:, None]] = ask.pad_id
    return Converged(written[:, : settled.max()], calls)
