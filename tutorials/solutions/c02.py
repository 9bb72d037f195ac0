"""Solution of exercise c02."""

import minigrad as mg


def guilty(model, source, target):
    """Record two runs with all values: the first step with another value is where it begins."""
    runs = []
    for _ in range(2):
        with mg.record(model, keep="values") as rec:
            model(source, target)
        runs.append(rec)
    first, second = runs
    for step, again in zip(first.steps, second.steps, strict=True):
        if (step.array != again.array).any():
            return first.path(step.module)
    return None
