"""The random bits of dropout: a function of a seed and a position, so that nothing has to be stored.

Here in NumPy, to be read; `simd.kept` is the same for a vector of positions.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def keep(shape: tuple[int, ...], p: float, seed: int) -> Array:
    """Which elements dropout keeps: each with probability 1 - p, as a function of (seed, position) and nothing else.

    The position i, counted in C order, is changed by both halves of the seed and goes through a hash that makes close
    numbers unrelated (Chris Wellons' lowbias32, without its last step, which is about the low bits). An element is kept
    if its 32 bits, as a number, are not below p 2^32, so the high bits decide.
    So the way back, or another thread, gets the same answer without anything being stored.

    >>> int(keep((1000, 1000), 0.1, seed=1).sum())
    899454
    """
    first, second = keys(seed)
    x = np.arange(math.prod(shape), dtype=np.uint32)
    x ^= np.uint32(first)
    x *= np.uint32(second)  # modulo 2^32
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    return ((x >= np.uint32(threshold(p))) & (p < 1)).reshape(shape)


def keys(seed: int) -> tuple[int, int]:
    """Two 32-bit numbers, both of which depend on every bit of the 64-bit seed; the second is odd, to multiply with."""
    mixed = mix(seed)
    return mixed & 0xFFFFFFFF, mixed >> 32 | 1


def mix(seed: int) -> int:
    """A 64-bit number as unlike as possible for seeds however alike: the last step of SplitMix64 (Steele et al. 2014).

    >>> hex(mix(1)), hex(mix(2))
    ('0x5692161d100b05e5', '0xdbd238973a2b148a')
    """
    z = int(seed) & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return z ^ z >> 31


def threshold(p: float) -> int:
    """Below this number, 32 random bits mean "drop"."""
    return min(round(p * 2**32), 2**32 - 1)


def scale(p: float) -> float:
    """What dropout multiplies the elements by that it keeps."""
    return 1 / (1 - p) if p < 1 else 0.0
