"""Randomness that can be repeated: one generator for numbers, one counter for the seeds of dropout."""

from __future__ import annotations

import operator
import os
import threading
from typing import Any

import numpy as np

from .kernels.bits import keep as keep  # part of this module, defined beside the kernels
from .kernels.bits import mix

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: its multiples are spread evenly over the 64-bit numbers
_lock = threading.Lock()


class _Source:
    """Where all randomness comes from; there is one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.start = mix(seed)
        self.counter = 0
        self.generator = np.random.default_rng(seed)


def manual_seed(seed: int) -> None:
    """Start all randomness of the library anew from `seed`, an integer of up to 64 bits (negative ones are allowed).

    Raises TypeError if it is not an integer, ValueError if it is too large.

    >>> manual_seed(0)
    >>> first = generator().random()
    >>> manual_seed(0)
    >>> generator().random() == first
    True
    """
    global _source
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"manual_seed(): the seed is {seed!r}; it must be an integer. Try manual_seed(0).") from None
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"manual_seed(): the seed is {number}; it must fit into 64 bits. Try manual_seed(0).")
    _source = _Source(number % 2**64)


def generator() -> np.random.Generator:
    """The generator behind initial weights and sampling. Ask again after manual_seed or set_state.

    >>> manual_seed(0)
    >>> generator().integers(10, size=3)
    array([8, 6, 5])
    """
    return _source.generator


def next_seed() -> int:
    """A 64-bit seed for one call of dropout, different at each call: a function of (seed, number of the call).

    >>> manual_seed(0)
    >>> next_seed() == next_seed()
    False
    """
    with _lock:
        _source.counter += 1
        return mix(_source.start + _source.counter * _GOLDEN)


def get_state() -> dict[str, Any]:
    """All that `set_state` needs to continue from here, as numbers, strings and dicts: it can be written as JSON.

    >>> state = get_state()
    >>> x = generator().random()
    >>> set_state(state)
    >>> generator().random() == x
    True
    """
    with _lock:
        bits = _source.generator.bit_generator.state
        return {"seed": _source.seed, "counter": _source.counter, "generator": bits}


def set_state(state: dict[str, Any]) -> None:
    """Continue from a state that `get_state` returned; raises ValueError if it is none, and changes nothing then."""
    global _source
    try:
        source = _Source(operator.index(state["seed"]))
        source.counter = operator.index(state["counter"])
        if source.counter < 0:
            raise ValueError("the counter is negative")
        source.generator.bit_generator.state = state["generator"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"set_state(): this is not a state of the random numbers ({error!r}). Pass what get_state() returned."
        ) from error
    _source = source


_source = _Source(int.from_bytes(os.urandom(8)))
