"""Wrong answers to a05."""

import numpy as np


def by_norm(parts):
    """Lengths among lengths."""
    norms = [np.linalg.norm(part) for part in parts]
    return [norm / sum(norms) for norm in norms]


def without_sign(parts):
    """No negative shares."""
    total = np.sum(parts, axis=0)
    found = [abs(np.sum(part * total)) for part in parts]
    return [share / sum(found) if sum(found) else float("nan") for share in found]


def zero_of_zero(parts):
    """Protected against division by 0, and no longer honest."""
    total = np.sum(parts, axis=0)
    return [np.sum(part * total) / (np.sum(total * total) + 1e-12) for part in parts]


def at_most_one(splits):
    """All routes with branches in one place."""
    past = np.prod([split[0] for split in splits])
    return [past, 1 - past] + [0.0] * (len(splits) - 1)


def in_the_wrong_direction(splits):
    """Past and through the branch exchanged."""
    found = np.ones(1)
    for past, through in splits:
        found = np.convolve(found, [through, past])
    return found


WRONG = {
    "lengths": {"shares": by_norm},
    "without sign": {"shares": without_sign},
    "protected against 0": {"shares": zero_of_zero},
    "one branch or more": {"by_branches": at_most_one},
    "exchanged": {"by_branches": in_the_wrong_direction},
}
