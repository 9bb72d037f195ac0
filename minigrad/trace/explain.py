"""Why an op made a value or a gradient that is not finite, or 0 everywhere: what can be told from a few statistics.

Each function answers in plain words, or with None where it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..op import Op
from .steps import Statistics, Step

Values = Mapping[str, Statistics | None]  # of the arguments, by name

PROBABILITIES = ("softmax", "masked_softmax")
ROWS = (*PROBABILITIES, "log_softmax")
SUMS = ("add", "sub", "mul", "div", "pow", "exp", "sum", "matmul", "linear")  # which can only overflow
STEEP = {"sqrt": "sqrt", "log": "ln", "pow": "x^b with b < 1"}
PRODUCTS = ("mul", "matmul", "linear")


def kinds(values: Statistics | None) -> set[str]:
    """Which of "nan", "inf" and "-inf" there are."""
    return {found.kind for found in values.kinds} if values else set()


def value(step: Step, kind: str, arguments: Values) -> str | None:
    """Why `step` made a value of this kind from arguments that had none."""
    op, coming = step.kind, set[str]().union(*map(kinds, arguments.values()))
    if kind == "nan" and coming and any(_is_within(step, name) for name in ROWS):
        return "all scores of this row are -inf: no key is allowed, and 0 / 0 is left (masked_softmax gives 0 there)"
    if op == "masked_fill":
        return "what is masked was set to it"
    if op == "div" and _has_zeros(arguments.get("b")):
        return "0 / 0" if kind == "nan" else "division by 0"
    if op == "log":
        return "the logarithm of a negative number" if kind == "nan" else "the logarithm of 0"
    if op == "sqrt" and kind == "nan":
        return "the square root of a negative number"
    if op == "pow" and not coming:
        if kind == "nan":
            return "a root of a negative number"
        return "0 to a negative power" if _has_zeros(arguments.get("a")) else _too_large(step)
    if op == "exp" and kind == "inf":
        return f"e^x is {_too_large(step)}; that is so from x = {math.log(np.finfo(step.dtype).max):.1f} on"
    if op == "cross_entropy" and kind == "nan" and not coming:
        return "0 / 0: a mean over no targets, since all are ignored"
    if op in ("mean", "var", "std") and kind == "nan" and not coming:
        return "0 / 0: of no elements, or of one with the correction of n - 1"
    if kind == "nan" and coming:
        return "inf - inf, 0 * inf or inf / inf"
    return _too_large(step) if op in SUMS and kind != "nan" and not coming else _look_inside(step)


def gradient(step: Step, kind: str, arguments: Values) -> str | None:
    """Why `step` made a gradient of this kind of the finite one that it received."""
    op = step.kind
    if op in STEEP and _has_zeros(arguments.get("a" if op == "pow" else "x")):
        why = f"{STEEP[op]} has an infinite slope at 0"
        if kind == "nan":
            return f"{why}, and 0 * inf is nan (where() does not help: put a safe value in before the {op})"
        return why
    if op == "div" and _has_zeros(arguments.get("b")):
        return "division by 0"
    if any(map(kinds, [step.value, *arguments.values()])):
        return "the value or an argument was not finite already: see first_nonfinite()"
    return _too_large(step) if op in SUMS and kind != "nan" else _look_inside(step)


def zero(step: Step, arguments: Values) -> str | None:
    """Why `step` made a gradient that is 0 everywhere of one that is not."""
    op, y = step.kind, step.value
    if y is None:
        return None
    if op == "relu" and y.all_zero:
        return "every unit is dead: no input is above 0"
    if op in PROBABILITIES and y.all_zero:
        return "no row has an allowed key"
    if op in PROBABILITIES and y.squares == y.total:
        return "saturated: every row is 1 at one place and 0 elsewhere, and diag(y) - y y^T is 0"
    if op in PROBABILITIES:
        return "a softmax does not feel a gradient that is the same for all keys of a row"
    nothing = [name for name, values in arguments.items() if values is not None and values.all_zero]
    if op in PRODUCTS and nothing:
        return f"multiplied by {nothing[0]}, which is 0 everywhere"
    if op in ("masked_fill", "where"):
        return "all of it is masked"
    if op == "clamp":
        return "all of it is outside of the bounds"
    if op == "dropout" and y.all_zero:
        return "all of it was dropped"
    return _look_inside(step)


def _is_within(step: Step, name: str) -> bool:
    """Whether a step is an op of this name, or a part of its definition."""
    return step.kind == name or any(isinstance(c.thing, Op) and c.thing.name == name for c in step.call or ())


def _has_zeros(values: Statistics | None) -> bool:
    return values is not None and values.zeros > 0


def _too_large(step: Step) -> str:
    return f"too large for {step.dtype}, which ends at {np.finfo(step.dtype).max:.3g}"


def _look_inside(step: Step) -> str | None:
    if step.op is None or step.op.definition is None:
        return None
    return f'{step.kind} is several steps in one: record(model, detail="definition") tells which'
