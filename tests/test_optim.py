"""Optimisers against their formulas and against torch; groups, states, errors."""

import json
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import Parameter
from minigrad.optim import SGD, Adam, AdamW, Optimizer
from minigrad.optim.lr_scheduler import LambdaLR
from tests import oracle

STEPS = 40
SHAPES = [(3, 4), (5,), ()]


# The formulas, once more: p and g in float64, s a dict that lives as long as the parameter.
def sgd(p, g, s, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    g = g + weight_decay * p
    if momentum:
        s["v"] = momentum * s["v"] + (1 - dampening) * g if "v" in s else g
        g = g + momentum * s["v"] if nesterov else s["v"]
    return p - lr * g


def adam(p, g, s, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    s["t"] = s.get("t", 0) + 1
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    m, v = s["m"] / (1 - betas[0] ** s["t"]), s["v"] / (1 - betas[1] ** s["t"])
    return p - lr * m / (np.sqrt(v) + eps)


def adamw(p, g, s, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
    return adam(p * (1 - lr * weight_decay), g, s, lr, betas, eps)


CASES = {
    "SGD": (SGD, sgd, {"lr": 0.1}),
    "SGD, default": (SGD, sgd, {}),
    "SGD, decay": (SGD, sgd, {"lr": 0.1, "weight_decay": 0.2}),
    "SGD, momentum": (SGD, sgd, {"lr": 0.05, "momentum": 0.9}),
    "SGD, dampening": (SGD, sgd, {"lr": 0.05, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    "SGD, Nesterov": (SGD, sgd, {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "Adam": (Adam, adam, {}),
    "Adam, paper": (Adam, adam, {"lr": 0.02, "betas": (0.9, 0.98), "eps": 1e-9}),
    "Adam, decay": (Adam, adam, {"lr": 0.02, "weight_decay": 0.3, "eps": 1e-2}),
    "AdamW": (AdamW, adamw, {"lr": 0.02}),
    "AdamW, decay": (AdamW, adamw, {"lr": 0.02, "betas": (0.8, 0.9), "weight_decay": 0.3}),
}


class Problem:
    """Parameters, and a gradient for each of them at each step; some are absent."""

    def __init__(self, rng):
        self.start = [rng.standard_normal(shape) for shape in SHAPES]
        self.gradients = [
            [rng.standard_normal(shape) * 10.0**-i for i, shape in enumerate(SHAPES)] for _ in range(STEPS)
        ]
        for t in (0, 7, 8):
            self.gradients[t][1] = None

    def parameters(self, dtype=np.float64):
        return [Parameter(mg.tensor(p, dtype=dtype)) for p in self.start]

    def run(self, optimizer, parameters, steps=range(STEPS)):
        for t in steps:
            for p, g in zip(parameters, self.gradients[t], strict=True):
                p.grad = None if g is None else mg.tensor(g, dtype=p.dtype)
            optimizer.step()
        return [p.detach().numpy() for p in parameters]

    def expected(self, formula, settings):
        values, states = list(self.start), [{} for _ in SHAPES]
        for gradients in self.gradients:
            for i, g in enumerate(gradients):
                if g is not None:
                    values[i] = formula(values[i], g, states[i], **settings)
        return values

    def torch(self, make, torch):
        parameters = [torch.nn.Parameter(torch.tensor(p)) for p in self.start]
        optimizer = make(parameters)
        for gradients in self.gradients:
            for p, g in zip(parameters, gradients, strict=True):
                p.grad = None if g is None else torch.tensor(g)
            optimizer.step()
        return [p.detach().numpy() for p in parameters]


@pytest.fixture
def problem(rng):
    return Problem(rng)


def assert_all_close(results, expected, rtol, atol):
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=rtol, atol=atol)


def steps_of(optimizer, count, rng):
    """Train one parameter a little, so that the optimiser has a state."""
    (p,) = optimizer.param_groups[0]["params"]
    for _ in range(count):
        p.grad = mg.tensor(rng.standard_normal(p.shape), dtype=p.dtype)
        optimizer.step()
    return p.detach().numpy().copy()


# -------------------------------------------------------------------------------------------------------- the formulas
@pytest.mark.parametrize(("kind", "formula", "settings"), CASES.values(), ids=CASES)
def test_formula(kind, formula, settings, problem):
    parameters = problem.parameters()
    results = problem.run(kind(parameters, **settings), parameters)
    assert_all_close(results, problem.expected(formula, settings), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("kind", "formula", "settings"), CASES.values(), ids=CASES)
def test_formula_in_float32(kind, formula, settings, problem):
    parameters = problem.parameters(np.float32)
    optimizer = kind(parameters, **settings)
    results = problem.run(optimizer, parameters)
    assert_all_close(results, problem.expected(formula, settings), rtol=2e-4, atol=2e-5)
    arrays = [a for state in optimizer.state.values() for a in state.values() if isinstance(a, np.ndarray)]
    assert {a.dtype for a in [*arrays, *results]} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("kind", "formula", "settings"), CASES.values(), ids=CASES)
def test_same_as_torch(kind, formula, settings, problem):
    torch = oracle.torch()
    parameters = problem.parameters()
    results = problem.run(kind(parameters, **settings), parameters)
    theirs = problem.torch(lambda ps: getattr(torch.optim, kind.__name__)(ps, **settings), torch)
    assert_all_close(results, theirs, rtol=1e-10, atol=1e-12)


def test_state_of_float64_parameters_is_float64(problem):
    parameters = problem.parameters()
    optimizer = Adam(parameters)
    problem.run(optimizer, parameters)
    assert {v.dtype for s in optimizer.state.values() for v in (s["exp_avg"], s["exp_avg_sq"])} == {
        np.dtype(np.float64)
    }
    assert [s["step"] for s in optimizer.state.values()] == [STEPS, STEPS, STEPS - 3]


def test_parameter_without_a_gradient_is_left_alone(rng):
    p, q = Parameter(mg.ones(2)), Parameter(mg.ones(2))
    p.grad = mg.ones(2)
    AdamW([p, q], weight_decay=0.5).step()
    assert q.tolist() == [1, 1]
    assert p.tolist() != [1, 1]


def test_step_without_any_gradient_does_nothing():
    optimizer = Adam([Parameter(mg.ones(2))])
    assert optimizer.step() is None
    assert optimizer.state == {}


@pytest.mark.parametrize("kind", [SGD, lambda ps: SGD(ps, momentum=0.9), lambda ps: Adam(ps, weight_decay=0.1), AdamW])
def test_gradient_and_memory_of_the_parameter_are_kept(kind):
    p = Parameter(mg.ones(3))
    memory, p.grad = p.data, mg.tensor([1.0, 2.0, 3.0])
    optimizer = kind([p])
    optimizer.step()
    optimizer.step()
    assert p.data is memory
    assert p.grad.tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_step_between_forward_and_backward_is_seen(kind, rng):
    p = Parameter(mg.tensor(rng.standard_normal(3)))
    y = p * p
    p.grad = mg.ones_like(p)
    kind([p]).step()
    with pytest.raises(mg.GradError, match="modified in place"):
        y.backward(rng.standard_normal(3))


def test_parameters_with_a_strange_layout(rng):
    base = rng.standard_normal((4, 6))
    p, q = Parameter(base.copy().T[::2]), Parameter(base.T[::2].copy())
    for _ in range(3):
        p.grad, q.grad = (mg.tensor(np.sin(x.data)) for x in (p, q))
        for parameter in (p, q):
            Adam([parameter], lr=0.1).step()
    np.testing.assert_allclose(p.data, q.data, rtol=1e-12)


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_infinite_gradients_make_no_warnings(kind):
    p = Parameter(mg.ones(3))
    p.grad = mg.tensor([math.inf, math.nan, 1e30])
    kind([p], lr=1e30, weight_decay=1e30).step()
    assert not np.isfinite(p.data).all()


def test_training_finds_the_minimum(rng):
    a, b = rng.standard_normal((20, 3)), rng.standard_normal(20)
    x = Parameter(mg.zeros(3).double())
    optimizer = Adam([x], lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        (((mg.tensor(a) @ x) - mg.tensor(b)) ** 2).mean().backward()
        optimizer.step()
    np.testing.assert_allclose(x.data, np.linalg.lstsq(a, b)[0], atol=1e-4)


# -------------------------------------------------------------------------------------------------------------- groups
def test_groups_have_their_own_settings(problem):
    settings = [{"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.1, "weight_decay": 0.4}, {"lr": 0.3, "weight_decay": 0.2}]
    parameters = problem.parameters()
    groups = [{"params": [p], **s} for p, s in zip(parameters, settings, strict=True)]
    del groups[1]["lr"]
    groups[2]["params"] = parameters[2]  # a single one need not be in a list
    results = problem.run(AdamW(iter(groups), lr=0.1), parameters)
    expected = [problem.expected(adamw, s)[i] for i, s in enumerate(settings)]
    assert_all_close(results, expected, rtol=1e-12, atol=1e-14)


def test_groups_can_be_added(problem):
    first, *others = parameters = problem.parameters()
    optimizer = SGD([first], lr=0.1)
    optimizer.add_param_group({"params": iter(others), "weight_decay": 0.5, "note": "mine"})
    results = problem.run(optimizer, parameters)
    expected = problem.expected(sgd, {"lr": 0.1})[:1] + problem.expected(sgd, {"lr": 0.1, "weight_decay": 0.5})[1:]
    assert_all_close(results, expected, rtol=1e-12, atol=1e-14)
    assert optimizer.param_groups[1]["note"] == "mine"


def test_closure_computes_the_loss_with_gradients():
    p = Parameter(mg.tensor([3.0]))
    optimizer = SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with mg.no_grad():
        assert optimizer.step(closure).item() == 9
    assert p.tolist() == [0]


def test_zero_grad_forgets_or_fills_with_zeros():
    p, q = Parameter(mg.ones(2)), Parameter(mg.ones(2))
    p.grad = mg.ones(2)
    memory, optimizer = p.grad.data, SGD([p, q])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.data is memory
    assert p.grad.tolist() == [0, 0]
    assert q.grad is None
    optimizer.zero_grad()
    assert p.grad is None


def test_own_optimizer_needs_only_update(rng):
    class Sign(Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def update(self, p, g, state, group):
            p -= group["lr"] * np.sign(g)

    p = Parameter(mg.zeros(2))
    p.grad = mg.tensor([5.0, -0.1])
    Sign([p], lr=0.5).step()
    assert p.tolist() == [-0.5, 0.5]


def test_subclass_without_init_works_with_a_schedule():
    class Dummy(Optimizer):
        def __init__(self):
            self.param_groups = [{"lr": 2.0}]

        def step(self, closure=None):
            return "stepped"

        def zero_grad(self, set_to_none=True):
            pass

    optimizer = Dummy()
    schedule = LambdaLR(optimizer, lambda n: 10 + n)
    assert optimizer.step() == "stepped"
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 22


def test_printed_optimizer():
    optimizer = SGD([{"params": [Parameter(mg.ones(1))], "lr": 0.5}])
    assert repr(optimizer).startswith("SGD (\n  1 parameters: {'lr': 0.5, 'momentum': 0.0,")


# ---------------------------------------------------------------------------------------------------------- the states
@pytest.mark.parametrize(("kind", "formula", "settings"), CASES.values(), ids=CASES)
def test_continued_from_json_is_the_same_to_the_bit(kind, formula, settings, problem):
    parameters = problem.parameters(np.float32)
    uninterrupted = problem.run(kind(parameters, **settings), parameters)

    parameters = problem.parameters(np.float32)
    optimizer = kind(parameters, **settings)
    problem.run(optimizer, parameters, range(17))
    as_lists = json.dumps(optimizer.state_dict(), default=lambda array: array.tolist())
    parameters = [Parameter(p.detach().clone()) for p in parameters]
    successor = kind(parameters, lr=99.0)
    successor.load_state_dict(json.loads(as_lists))
    for result, value in zip(problem.run(successor, parameters, range(17, STEPS)), uninterrupted, strict=True):
        np.testing.assert_array_equal(result, value)


def test_state_dict_has_the_form_of_torch(problem):
    torch = oracle.torch()
    parameters = problem.parameters()
    optimizer = Adam([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.5}])
    problem.run(optimizer, parameters)
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in problem.start]
    reference = torch.optim.Adam([{"params": theirs[:1]}, {"params": theirs[1:], "lr": 0.5}])
    for p in theirs:
        p.grad = torch.ones_like(p)
    reference.step()
    ours, expected = optimizer.state_dict(), reference.state_dict()
    assert ours.keys() == expected.keys()
    assert ours["state"].keys() == expected["state"].keys()
    assert ours["state"][0].keys() == expected["state"][0].keys()
    for group, other in zip(ours["param_groups"], expected["param_groups"], strict=True):
        assert group == {key: other[key] for key in group}


def test_loaded_state_is_a_copy_in_the_dtype_of_the_parameter(rng):
    first = Adam([Parameter(mg.zeros(3).double())])
    steps_of(first, 2, rng)
    second = Adam([Parameter(mg.zeros(3))])
    second.load_state_dict(first.state_dict())
    (mine,) = second.state.values()
    (theirs,) = first.state.values()
    assert mine["exp_avg"].dtype == np.float32
    np.testing.assert_allclose(mine["exp_avg"], theirs["exp_avg"], rtol=1e-6)
    assert mine["step"] == 2
    before = theirs["exp_avg"].copy()
    steps_of(second, 1, rng)
    np.testing.assert_array_equal(theirs["exp_avg"], before)


def test_a_state_may_be_set_by_hand(rng):
    p, q = Parameter(mg.zeros(3)), Parameter(mg.zeros(3))
    first, second = Adam([p, Parameter(mg.zeros(2))], lr=0.1), Adam([q], lr=0.1)
    steps = [rng.standard_normal(3).astype(np.float32) for _ in range(2)]
    p.grad = mg.tensor(steps[0])
    first.step()
    q.data = p.data.copy()
    second.state[q] = {"exp_avg": first.state[p]["exp_avg"].copy(), "step": 1}
    second.state[q]["exp_avg_sq"] = first.state[p]["exp_avg_sq"].copy()
    for _ in range(2):
        for x, optimizer in ((p, first), (q, second)):
            x.grad = mg.tensor(steps[1])
            optimizer.step()
        np.testing.assert_array_equal(p.data, q.data)
        first.state[p]["exp_avg"] = second.state[q]["exp_avg"] = np.full(3, 7, np.float32)
        first.state[p]["step"] = second.state[q]["step"] = 3
    first.state.clear()
    p.grad = mg.tensor(steps[0])
    first.step()
    assert first.state[p]["step"] == 1
    np.testing.assert_allclose(first.state[p]["exp_avg"], 0.1 * steps[0], rtol=1e-5)


def test_parameters_of_a_group_may_be_exchanged_in_place(rng):
    p, q, r = (Parameter(mg.zeros(3)) for _ in range(3))
    optimizer = SGD([p, q], lr=1.0)
    optimizer.param_groups[0]["params"][1] = r
    for x in (p, q, r):
        x.grad = mg.ones(3)
    optimizer.step()
    assert [x.data[0] for x in (p, q, r)] == [-1, 0, -1]


def test_state_of_other_groups_is_an_error_and_changes_nothing(rng):
    first = Adam([Parameter(mg.zeros(3)), Parameter(mg.zeros(3))])
    second = Adam([Parameter(mg.zeros(3))])
    with pytest.raises(ValueError, match=r"Adam.load_state_dict\(\): the state has groups of \[2\] parameters, this"):
        second.load_state_dict(first.state_dict())
    third = Adam([Parameter(mg.zeros(4))], lr=0.5)
    steps_of(third, 1, rng)
    before = third.state_dict()
    steps_of(second, 1, rng)
    with pytest.raises(ValueError, match=r"exp_avg has shape \(3,\), its parameter \(4,\)"):
        third.load_state_dict(second.state_dict())
    assert third.state_dict()["param_groups"] == before["param_groups"]
    np.testing.assert_array_equal(third.state_dict()["state"][0]["exp_avg"], before["state"][0]["exp_avg"])


# -------------------------------------------------------------------------------------------------------------- errors
def test_no_parameters():
    with pytest.raises(ValueError, match=r"SGD\(\): the list of parameters is empty"):
        SGD([])


def test_one_tensor_is_not_a_list():
    with pytest.raises(TypeError, match=r"Adam\(\): params is a Parameter; give a list"):
        Adam(Parameter(mg.zeros(1)))


def test_set_has_no_order():
    with pytest.raises(TypeError, match="params is a set, whose order changes"):
        Adam([{"params": {Parameter(mg.zeros(1))}}])


def test_something_else_than_a_tensor():
    with pytest.raises(TypeError, match=r"SGD\(\): a ndarray cannot be optimised"):
        SGD([np.zeros(3)])


def test_result_of_an_operation():
    with pytest.raises(ValueError, match=r"a tensor of shape \(3,\) is the result of an operation; only leaves"):
        SGD([Parameter(mg.zeros(3)) * 2])


def test_parameter_given_twice():
    p = Parameter(mg.zeros(3))
    with pytest.raises(ValueError, match=r"a parameter of shape \(3,\) is given twice"):
        SGD([p, p])
    with pytest.raises(ValueError, match="is given twice"):
        SGD([{"params": [p]}, {"params": [p]}])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ps: SGD(ps, lr=-1), r"SGD\(\): lr = -1; it must be at least 0"),
        (lambda ps: SGD(ps, lr=math.nan), r"SGD\(\): lr = nan"),
        (lambda ps: SGD(ps, momentum=-0.5), r"SGD\(\): momentum = -0.5"),
        (lambda ps: SGD(ps, nesterov=True), r"SGD\(\): nesterov needs momentum > 0 and dampening = 0"),
        (lambda ps: SGD(ps, momentum=0.9, dampening=0.1, nesterov=True), "nesterov needs"),
        (lambda ps: Adam(ps, betas=(1.0, 0.9)), r"Adam\(\): beta1 = 1.0; it must be in \[0.0, 1\)"),
        (lambda ps: Adam(ps, betas=(0.9, -1)), r"Adam\(\): beta2 = -1"),
        (lambda ps: Adam(ps, eps=-1e-8), r"Adam\(\): eps = -1e-08"),
        (lambda ps: AdamW(ps, weight_decay=-1), r"AdamW\(\): weight_decay = -1"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make([Parameter(mg.zeros(1))])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ps: Adam(ps, lr=mg.tensor(0.1)), r"Adam\(\): lr = tensor\(0.1\); it must be a number"),
        (lambda ps: AdamW(ps, eps=None), r"AdamW\(\): eps = None; it must be a number"),
        (lambda ps: SGD(ps, lr="0.1"), r"SGD\(\): lr = '0.1'; it must be a number"),
    ],
)
def test_settings_that_are_no_numbers(make, message):
    with pytest.raises(TypeError, match=message):
        make([Parameter(mg.zeros(1))])


def test_optimizer_without_a_formula():
    optimizer = Optimizer([Parameter(mg.zeros(1))], {})
    optimizer.param_groups[0]["params"][0].grad = mg.ones(1)
    with pytest.raises(NotImplementedError, match=r"Optimizer has no update\(\)"):
        optimizer.step()


def test_gradient_of_another_shape():
    p = Parameter(np.zeros((2, 3)))
    p.grad = mg.ones(3)  # NumPy would broadcast it
    with pytest.raises(mg.ShapeError, match=r"SGD.step\(\): a parameter has shape \(2, 3\), its gradient \(3,\)"):
        SGD([p], lr=0.1).step()
    assert not p.data.any()


def test_a_model_is_not_its_parameters():
    with pytest.raises(TypeError, match=r"Adam\(\): params is a Linear; pass model.parameters\(\)"):
        Adam(mg.nn.Linear(2, 2))


@pytest.mark.parametrize(("state", "got"), [({}, r"keys \[\]"), (None, "a NoneType"), ({"state": {}}, "keys")])
def test_state_that_is_none(state, got):
    with pytest.raises(ValueError, match=rf"SGD.load_state_dict\(\): expected a dict with 'state' .* got {got}"):
        SGD([Parameter(np.zeros(2))], lr=0.1).load_state_dict(state)
