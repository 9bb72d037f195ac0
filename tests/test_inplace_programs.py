"""Random little programs of views, in-place writes and operations: the gradient of PyTorch, or an error."""

import operator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from tests import oracle


def fitted(u, t):
    """`u`, or one number made of it, to be combined with `t` without changing its shape."""
    shape, other = tuple(t.shape), tuple(u.shape)
    fits = len(other) <= len(shape) and all(m in (1, n) for m, n in zip(other[::-1], shape[::-1], strict=False))
    return u if fits else u.sum()


def beside(u, t):
    """`u` for a write into `t`; a copy where they overlap, since PyTorch would read what it has just written."""
    u = fitted(u, t)
    return u.clone() if np.shares_memory(u.detach().numpy(), t.detach().numpy()) else u


def quietly(m, t):
    with m.no_grad():
        t.add_(1.0)


STEPS = {
    "scale": lambda m, t, u: t * 1.5,
    "add": lambda m, t, u: t + fitted(u, t),
    "mul": lambda m, t, u: t * fitted(u, t),
    "sin": lambda m, t, u: t.sin(),
    "tanh": lambda m, t, u: t.tanh(),
    "clone": lambda m, t, u: t.clone(),
    "row": lambda m, t, u: t[0] if t.dim() else t.view(1),
    "column": lambda m, t, u: t[..., -1] if t.dim() else t.unsqueeze(0),
    "chosen": lambda m, t, u: t[[0, 0]] if t.dim() else t.reshape(1),
    "flat": lambda m, t, u: t.reshape(-1),
    "turned": lambda m, t, u: t.transpose(0, -1) if t.dim() else t,
    "detach": lambda m, t, u: t.detach(),
    "mul_ 2": lambda m, t, u: t.mul_(2.0),
    "add_": lambda m, t, u: t.add_(beside(u, t)),
    "mul_": lambda m, t, u: t.mul_(beside(u, t)),
    "copy_": lambda m, t, u: t.copy_(beside(u, t)),
    "fill_": lambda m, t, u: t.fill_(0.5),
    "set row": lambda m, t, u: operator.setitem(t, 0, beside(u, t[0])) if t.dim() else t.add_(beside(u, t)),
    "set column": lambda m, t, u: operator.setitem(t, (..., -1), 0.25) if t.dim() else t.mul_(0.5),
    "set small": lambda m, t, u: operator.setitem(t, t < 0, 0.0),
    "no_grad": lambda m, t, u: quietly(m, t),
    "retain_grad": lambda m, t, u: None,  # see execute()
}
DETACHING = {"detach", "no_grad"}
NEW = {"scale", "add", "mul", "sin", "tanh", "clone", "row", "column", "chosen", "flat", "turned", "detach"}
START = [np.array([[0.5, -0.3], [0.8, 0.2]]), np.array([0.7, -0.6]), np.array([[0.1, 0.9], [-0.4, 0.6]])]


def execute(m, program, start):
    """Run it on two leaves, two results and a constant; the loss is a weighted sum of everything that is left over.

    Returns the loss and the tensors whose gradient is kept.
    """
    make = m.from_numpy if m is mg else m.tensor
    kept = [make(x.copy()).requires_grad_() for x in start[:2]]
    pool = [*kept, kept[0] * 1.0, kept[1] * 2.0, make(start[2].copy())]
    for step, i, j in program:
        tensor = pool[i % len(pool)]
        result = STEPS[step](m, tensor, pool[j % len(pool)])
        if step in NEW:
            pool.append(result)
        elif step == "retain_grad" and tensor.requires_grad and not any(t is tensor for t in kept):
            tensor.retain_grad()
            kept.append(tensor)
    loss = kept[0].sum() * 0.0 + kept[1].sum() * 0.0
    for k, t in enumerate(pool):
        loss = loss + (t * (0.3 + k)).sum()
    return loss, kept


def outcome(m, program, start=START):
    """(loss, gradients), or None where the library refuses."""
    try:
        loss, kept = execute(m, program, start)
        loss.backward()
    except RuntimeError:  # ours is a GradError, which is one
        return None
    return loss.item(), [np.zeros(tuple(x.shape)) if x.grad is None else x.grad.numpy() for x in kept]


def differences(program, eps=1e-6):
    """The gradients by central differences."""
    gradients = [np.zeros_like(x) for x in START[:2]]
    for k, gradient in enumerate(gradients):
        for place in np.ndindex(gradient.shape):
            values = []
            for sign in (1, -1):
                moved = [x.copy() for x in START]
                moved[k][place] += sign * eps
                values.append(execute(mg, program, moved)[0].item())
            gradient[place] = (values[0] - values[1]) / (2 * eps)
    return gradients


programs = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 11), st.integers(0, 11)), max_size=9)


@settings(max_examples=400)
@given(program=programs)
def test_random_programs_agree_with_torch_or_raise(program):
    torch = oracle.torch()
    ours, theirs = outcome(mg, program), outcome(torch, program)
    if ours is not None and theirs is not None:
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-9, atol=1e-12)
        for a, b in zip(ours[1], theirs[1], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@settings(max_examples=200)
@given(program=programs.filter(lambda program: not DETACHING & {step for step, _, _ in program}))
def test_random_programs_agree_with_finite_differences_or_raise(program):
    ours = outcome(mg, program)
    if ours is not None:
        for a, b in zip(ours[1][:2], differences(program), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_random_programs_are_not_refused_too_often():
    """Most of what torch can do with them we can do, too; else the two tests above would be empty."""
    torch = oracle.torch()
    choose = np.random.default_rng(0)
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for _ in range(300):
        steps = choose.choice(sorted(STEPS), size=choose.integers(1, 7))
        program = [(str(step), *choose.integers(0, 12, 2).tolist()) for step in steps]
        counts[outcome(mg, program) is not None, outcome(torch, program) is not None] += 1
    assert counts[True, True] > 60
    assert counts[False, True] < counts[True, True], "refused although torch can do it"
