"""Beam search: not the best next token but, as far as a few hypotheses reach, the best sentence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minigrad import nn

from .decoding import Array, MakeStep, Step, check_count, decoding

MOST = 10.0  # the greatest |length_penalty|: its powers of lengths stay far inside the range of floats


class Hypothesis(NamedTuple):
    """A sentence that was found: its tokens (L,), with the end of sentence unless it was cut off; no padding.

    log_prob: log p(tokens | source), the sum over the tokens; score: log_prob / penalty, by which it was chosen.
    """

    tokens: Array
    score: float
    log_prob: float


def beam_search(
    model: nn.Module,
    src: Any,
    *,
    beam_size: int = 4,
    length_penalty: float = 0.6,
    n_best: int = 1,
    max_len: int | None = None,
    use_cache: bool = True,
    step: MakeStep = Step,
) -> list[list[Hypothesis]]:
    """Find, for every source sentence x of a batch, sentences y of a high score:

        score(y) = log p(y | x) / lp(y),   lp(y) = ((5 + |y|) / 6)^length_penalty          (Wu et al. 2016, equation 14)

    where |y| counts the end of sentence. A hypothesis goes on with a token if the score is then among the beam_size
    best: of all continuations of the hypotheses of its source sentence, and of those that have ended. These do not go
    on, but take places: a beam of 1 is `greedy`, and a beam that holds all sentences finds the best of all. A
    hypothesis is given up when no continuation can have a better score than the n_best that have ended: log p can only
    fall, and lp is greatest for the longest sentence (the shortest, if length_penalty is negative). A source sentence
    ends when no hypothesis of it is left: not at the first end of sentence, but when nothing better can come.

    length_penalty: 0 chooses by log p alone, above 0 favours longer sentences, below 0 shorter ones, from -10 to 10;
    n_best: how many sentences to return for each, at most beam_size; the rest as in `greedy`. Returns a list for each
    source sentence, the best hypothesis first. It is shorter than n_best only if there are not so many sentences.
    Raises ValueError for values that are not legal.

    >>> from minitransformer import Transformer, TransformerConfig
    >>> model = Transformer(TransformerConfig(src_vocab_size=20, d_model=8, nhead=2, num_decoder_layers=1))
    >>> [[first, second]] = beam_search(model, [[5, 6, 2]], n_best=2, max_len=4)
    >>> first.score >= second.score
    True
    """  # fmt: skip
    check_count("beam_size", beam_size)
    check_count("n_best", n_best)
    if n_best > beam_size:
        raise ValueError(f"decoding: n_best is {n_best}; it must be at most beam_size = {beam_size}.")
    if not -MOST <= length_penalty <= MOST:
        raise ValueError(f"decoding: length_penalty is {length_penalty}; it must be from {-MOST:g} to {MOST:g}.")
    with decoding(model, src, max_len, use_cache, step) as (ask, limits):
        ended: list[list[Hypothesis]] = [[] for _ in limits]
        best = np.full((len(limits), beam_size), -np.inf)  # the scores of those that have ended, the best first
        of = np.arange(len(limits))  # (R,): the sentence of each hypothesis, in order
        log_p = np.zeros(len(of))  # (R,)
        written = np.empty((len(of), 0), int)  # (R, t)
        while len(of):
            length = written.shape[1] + 1
            totals = log_p[:, None] + ask(written)[:, -1]  # (R, V)
            parent, token = continuations(totals, of, best * penalty(length, length_penalty))
            of, log_p, written = of[parent], totals[parent, token], np.column_stack([written[parent], token])
            ends = (token == ask.eos_id) | (length == limits[of])
            for i in np.flatnonzero(ends):
                score = float(log_p[i] / penalty(length, length_penalty))
                ended[of[i]].append(Hypothesis(written[i], score, float(log_p[i])))
                best[of[i]] = -np.sort(-np.append(best[of[i]], score))[:-1]
            possible = [log_p / penalty(n, length_penalty) for n in (length + 1, limits[of])]  # shortest and longest
            (goes_on,) = np.nonzero(~ends & (np.maximum(*possible) > best[of, n_best - 1]))
            of, log_p, written = of[goes_on], log_p[goes_on], written[goes_on]
            ask.select(parent[goes_on])
    return [sorted(hypotheses, key=lambda y: -y.score)[:n_best] for hypotheses in ended]


def penalty(length: Any, length_penalty: float) -> Any:
    """((5 + length) / 6)^length_penalty."""
    return ((5 + length) / 6) ** length_penalty


def continuations(totals: Array, of: Array, ended: Array) -> tuple[Array, Array]:
    """Choose the continuations that, with the sentences that have ended, are the best of their source sentence.

    totals (R, V): log p of each hypothesis continued by each token; of (R,): its sentence, in order; ended (B, beam
    size): what to compare them with. Returns row and token of each that was chosen, by sentence, the best first. Of
    equals the sentences that have ended come first, then the better hypothesis, then the smaller token.
    """
    beam_size = ended.shape[1]
    k = min(beam_size, totals.shape[1])
    tokens = largest(totals, k)  # (R, k): more of one hypothesis are never needed
    values = np.take_along_axis(totals, tokens, axis=1).ravel()  # (R k,)
    order = np.lexsort((-values, np.repeat(of, k)))
    sentence, value = np.repeat(of, k)[order], values[order]
    before = np.arange(len(order)) - np.searchsorted(sentence, sentence)  # better continuations of the same sentence
    before += (ended[sentence] >= value[:, None]).sum(axis=1)
    chosen = order[(before < beam_size) & (value > -np.inf)]
    return chosen // k, tokens.ravel()[chosen]


def largest(x: Array, k: int) -> Array:
    """Where in each row of x (R, V) the k largest are, (R, k), from left to right; of equals the first.

    >>> largest(np.array([[2.0, 3.0, 2.0, 2.0]]), 2)
    array([[0, 1]])
    """
    least = -np.partition(-x, k - 1, axis=1)[:, k - 1 : k]
    above, equal = x > least, x == least
    room = k - above.sum(axis=1, keepdims=True)
    return np.nonzero(above | (equal & (equal.cumsum(axis=1) <= room)))[1].reshape(-1, k)
