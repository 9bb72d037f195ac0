"""Every op: an input that is overwritten before the way back is refused, or it was not needed any more."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.op import registry
from tests.op_cases import CASES
from tests.test_ops import arrays_of, as_tensor


def safe_after_a_write(op, arrays, settings, written, rng):
    """Gradients after input number `written` was overwritten before the way back; None if that is refused."""
    inputs = [mg.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in arrays]
    leaves = [x.requires_grad_() if isinstance(x, mg.Tensor) and x.dtype.kind == "f" else x for x in inputs]
    y = op(*leaves, **settings)
    if not isinstance(y, mg.Tensor) or not y.requires_grad:
        return None
    with mg.no_grad():
        leaves[written].mul_(3.0)
    try:
        y.backward(rng.standard_normal(y.shape))
    except mg.GradError:
        return None
    return [None if getattr(x, "grad", None) is None else x.grad.data for x in leaves]


@pytest.mark.parametrize("name", sorted(registry))
def test_an_input_that_is_overwritten_is_refused_or_was_not_needed(name):
    """Of every op and every input: either a GradError, or the gradients are those of the input as it was."""
    op = registry[name]
    for case in CASES[name]:
        for arrays in arrays_of(case, np.random.default_rng(0))[:1]:
            for written, array in enumerate(arrays):
                if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or not array.size:
                    continue
                found = safe_after_a_write(op, arrays, case.settings, written, np.random.default_rng(1))
                if found is None:
                    continue
                inputs = [as_tensor(x) for x in arrays]
                y = op(*inputs, **case.settings)
                y.backward(np.random.default_rng(1).standard_normal(y.shape))
                for x, d in zip(inputs, found, strict=True):
                    if d is not None:
                        np.testing.assert_array_equal(x.grad.data, d, err_msg=f"{name}: input {written} written")
