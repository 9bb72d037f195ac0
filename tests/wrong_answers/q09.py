"""Wrong answers to q09."""

import numpy as np

from tutorials.solutions.q09 import positions, rotation


def in_halves(places, D):
    """All sines, then all cosines: as many libraries have it, but not this formula."""
    right = positions(places, D)
    return np.concatenate([right[:, 0::2], right[:, 1::2]], axis=1)


def every_entry_a_clock(places, D):
    """The exponent n / D for entry n, in place of 2i / D."""
    angles = np.asarray(places)[:, None] / 10000 ** (np.arange(D) / D)
    return np.where(np.arange(D) % 2, np.cos(angles), np.sin(angles))


WRONG = {
    "in halves": {"positions": in_halves},
    "every entry a clock": {"positions": every_entry_a_clock},
    "turns the wrong way": {"rotation": lambda k, D: rotation(-k, D)},
    "one angle for all": {"rotation": lambda k, D: np.kron(np.eye(D // 2), rotation(k, 2)) + 1e-3 * (D == 2)},
    "always from place 0": {"positions": lambda places, D: positions(np.arange(len(places)), D)},
    "never to the left": {"rotation": lambda k, D: rotation(abs(k), D)},
    "float32": {"positions": lambda places, D: positions(places, D).astype(np.float32)},
}
