"""Wrong answers to c02."""

import numpy as np

import minigrad as mg
from minigrad import nn


def _recorded(model, source, target):
    with mg.record(model, keep="values") as rec:
        model(source, target)
    return rec


def the_last_difference(model, source, target):
    """Where it ends, not where it begins."""
    first, second = (_recorded(model, source, target) for _ in range(2))
    pairs = zip(first.steps, second.steps, strict=True)
    differ = [step for step, again in pairs if (step.array != again.array).any()]
    return first.path(differ[-1].module) if differ else None


def all_outputs_are_compared_with_the_first(model, source, target):
    """One run only: the first module that makes zeros is taken for one that drops something."""
    with nn.capture(model) as seen:
        model(source, target)
    return next((name for name, value in seen.items() if (value.detach().numpy() == 0).any()), None)


def the_layer(model, source, target):
    """The layer is named, and not its part."""
    first, second = (_recorded(model, source, target) for _ in range(2))
    for step, again in zip(first.steps, second.steps, strict=True):
        if (step.array != again.array).any():
            return ".".join(first.path(step.module).split(".")[:3])
    return None


def in_training(model, source, target):
    """Dropout is switched on, and then is everywhere."""
    model.train()
    first, second = (_recorded(model, source, target) for _ in range(2))
    for step, again in zip(first.steps, second.steps, strict=True):
        if (step.array != again.array).any():
            return first.path(step.module)
    return None


def _first(differ):
    """The first step that differs in some sense."""

    def guilty(model, source, target):
        first, second = (_recorded(model, source, target) for _ in range(2))
        for step, again in zip(first.steps, second.steps, strict=True):
            if differ(step.array, again.array):
                return first.path(step.module)
        return None

    return guilty


WRONG = {
    "the last difference": {"guilty": the_last_difference},
    "zeros of one run": {"guilty": all_outputs_are_compared_with_the_first},
    "the layer only": {"guilty": the_layer},
    "in training": {"guilty": in_training},
    "sums": {"guilty": _first(lambda a, b: a.sum() != b.sum())},
    "the largest number": {"guilty": _first(lambda a, b: a.max() != b.max())},
    "a tolerance": {"guilty": _first(lambda a, b: not np.allclose(a, b))},
    "the first sentence": {"guilty": _first(lambda a, b: (a[:1] != b[:1]).any())},
    "all numbers": {"guilty": _first(lambda a, b: (a != b).all())},
}
