"""Ways to make values and gradients that are not finite, and to ask where they come from."""

import inspect

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import functional as F
from minigrad.trace import AnomalyError
from tests.models import sentences

TOKENS = np.random.default_rng(5)
SOURCE = sentences(TOKENS, [6, 4, 5])
TARGET = sentences(TOKENS, [5, 5, 3], bos=True)
PATH = "encoder.layers.1.ffn"


def train(model, source=SOURCE):
    logits = model(source, TARGET)
    F.cross_entropy(logits.flatten(0, 1), TARGET.reshape(-1), ignore_index=0).backward()


def leaf(values, dtype=np.float32):
    return mg.tensor(np.array(values, dtype), requires_grad=True)


def line_of(function, text):
    """The number of the line of a function that contains the text."""
    lines, start = inspect.getsourcelines(function)
    (offset,) = [i for i, line in enumerate(lines) if text in line]
    return start + offset


def answers(function, model=None, **settings):
    """A recording of function(), to be asked."""
    with mg.record(model, **settings) as rec:
        function()
    return rec


def caught(function, model=None, **settings):
    """What `detect_anomaly` says; both have to agree."""
    with pytest.raises(AnomalyError) as error, mg.detect_anomaly(model, **settings):
        function()
    return error.value.origin


def planted(x, kind):
    """`x` with something bad at [1, 2, 3]."""
    mark = np.zeros(x.shape, bool)
    mark[1, 2, 3] = True
    zeroed = mg.where(mark, 0.0, x)
    if kind == "log":
        return mg.log(zeroed.abs() * mark + ~mark)  # of 0
    if kind == "sqrt":
        return mg.sqrt(zeroed.abs() + 1.0 * ~mark)  # of 0
    if kind == "div":
        return x / (1.0 * ~mark)  # by 0
    if kind == "exp":
        return mg.exp(mg.where(mark, 89.0, zeroed))  # more than float32 can hold
    if kind == "neg":
        return mg.sqrt(zeroed.abs() - 1.0 * mark + 1.0 * ~mark)  # of -1
    raise ValueError(kind)


def dead(model):
    model.encoder.layers[1].ffn.linear1.bias.data[...] = -100.0


def probed(function):
    """Ends in a random cotangent."""
    rng = np.random.default_rng(4)

    def run():
        y = function()
        y.backward(rng.normal(size=y.shape).astype(y.dtype))

    return run
