"""Wrong answers to a05."""

import numpy as np

from tutorials.solutions import a05


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


def small_is_zero(parts):
    """A tolerance: small gradients have no shares."""
    return [float("nan")] * len(parts) if np.allclose(sum(parts), 0) else a05.shares(parts)


def sums_of_entries(parts):
    """Takes a sum whose entries sum to 0 for 0."""
    return a05.shares(parts) if np.sum(parts) else [float("nan")] * len(parts)


def in_place(parts):
    """Adds up in the first part."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return [float(np.sum(part * total) / np.sum(total * total)) for part in parts]


WRONG = {
    "lengths": {"shares": by_norm},
    "without sign": {"shares": without_sign},
    "protected against 0": {"shares": zero_of_zero},
    "one branch or more": {"by_branches": at_most_one},
    "exchanged": {"by_branches": in_the_wrong_direction},
    "a tolerance": {"shares": small_is_zero},
    "the sum of the entries": {"shares": sums_of_entries},
    "adds up in the first part": {"shares": in_place},
    "an array": {"shares": lambda parts: np.array(a05.shares(parts))},
    "no connection, no share": {"by_branches": lambda splits: a05.by_branches(splits) if splits else []},
}
