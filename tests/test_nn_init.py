"""How parameters start: bounds and variances from the papers, written in place and outside any graph."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import Parameter, init
from tests import oracle

FAN_OUT, FAN_IN = 300, 200


CASES = {
    "xavier": ("xavier", {}, math.sqrt(2 / (FAN_IN + FAN_OUT))),
    "xavier, gain": ("xavier", {"gain": 3.0}, 3 * math.sqrt(2 / (FAN_IN + FAN_OUT))),
    "kaiming": ("kaiming", {}, math.sqrt(2 / FAN_IN)),
    "kaiming, slope": ("kaiming", {"a": math.sqrt(5)}, math.sqrt(1 / 3 / FAN_IN)),
    "kaiming, out": ("kaiming", {"mode": "fan_out"}, math.sqrt(2 / FAN_OUT)),
    "kaiming, tanh": ("kaiming", {"nonlinearity": "tanh"}, 5 / 3 / math.sqrt(FAN_IN)),
}


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize(("family", "settings", "std"), CASES.values(), ids=CASES)
def test_spread_is_that_of_the_paper(family, settings, std, kind, rng):
    values = getattr(init, f"{family}_{kind}_")(Parameter(mg.zeros(FAN_OUT, FAN_IN)), **settings).data
    limit = math.sqrt(3) * std if kind == "uniform" else 6 * std
    assert values.dtype == np.float32
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    assert values.mean() == pytest.approx(0, abs=std / 50)
    assert values.std() == pytest.approx(std, rel=0.02)
    kurtosis = (values.astype(np.float64) ** 4).mean() / values.astype(np.float64).var() ** 2
    assert kurtosis == pytest.approx({"uniform": 9 / 5, "normal": 3}[kind], rel=0.05)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("family", ["xavier", "kaiming"])
def test_spread_is_that_of_torch_for_windows_too(family, kind, rng):
    torch = oracle.torch()
    ours = getattr(init, f"{family}_{kind}_")(mg.zeros(60, 40, 5, 3)).data
    theirs = getattr(torch.nn.init, f"{family}_{kind}_")(torch.zeros(60, 40, 5, 3)).numpy()
    assert ours.std() == pytest.approx(theirs.std(), rel=0.03)


def test_uniform_and_normal(rng):
    u = init.uniform_(mg.zeros(1000), -3, 5).data
    assert -3 <= u.min() < -2.5 < 4.5 < u.max() <= 5
    n = init.normal_(mg.zeros(100, 100), mean=2, std=0.1).data
    assert n.mean() == pytest.approx(2, abs=0.01)
    assert n.std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    ("fill", "value"),
    [(init.zeros_, 0), (init.ones_, 1), (lambda t: init.constant_(t, -2.5), -2.5)],
)
def test_constants(fill, value, rng):
    x = mg.randn(3, 4)
    assert fill(x) is x
    assert (x.data == value).all()


EVERY = {
    "uniform": init.uniform_,
    "normal": init.normal_,
    "zeros": init.zeros_,
    "ones": init.ones_,
    "constant": lambda t: init.constant_(t, 2),
    "xavier uniform": init.xavier_uniform_,
    "xavier normal": init.xavier_normal_,
    "kaiming uniform": init.kaiming_uniform_,
    "kaiming normal": init.kaiming_normal_,
}


@pytest.mark.parametrize("fill", EVERY.values(), ids=EVERY)
def test_writes_in_place_and_leaves_no_history(fill, rng):
    p = Parameter(mg.full((3, 4), 9.0))
    memory, node = p.data, p.node
    y = p.exp()
    z = p * p
    assert fill(p) is p
    assert p.data is memory
    assert not (memory == 9).any()
    assert p.node is node
    assert p.is_leaf
    y.backward(rng.standard_normal((3, 4)))  # needs its result only, which is untouched
    with pytest.raises(mg.GradError, match="modified in place"):
        z.backward(rng.standard_normal((3, 4)))


@pytest.mark.parametrize("fill", EVERY.values(), ids=EVERY)
def test_keeps_float64_and_strange_layouts(fill):
    base = mg.zeros(4, 6, dtype=np.float64)
    view = mg.from_numpy(base.data.T[::2])
    fill(view)
    assert view.dtype == np.float64
    assert not base.data[:, 1::2].any()
    assert fill is init.zeros_ or base.data[:, ::2].all()


def test_seed_decides():
    mg.manual_seed(5)
    first = init.normal_(mg.zeros(4)).tolist()
    mg.manual_seed(5)
    assert init.normal_(mg.zeros(4)).tolist() == first
    assert init.normal_(mg.zeros(4)).tolist() != first


@pytest.mark.parametrize(
    ("arguments"), [["linear"], ["sigmoid"], ["tanh"], ["relu"], ["leaky_relu"], ["leaky_relu", 0.3], ["selu"]]
)
def test_gain_is_that_of_torch(arguments):
    expected = oracle.torch().nn.init.calculate_gain(*arguments)
    assert init.calculate_gain(*arguments) == pytest.approx(expected, rel=1e-15)


def test_gain_keeps_the_variance(rng):
    x = rng.standard_normal(100_000)
    assert (init.calculate_gain("relu") * np.maximum(x, 0)).__pow__(2).mean() == pytest.approx(1, rel=0.02)


def test_weight_without_inputs():
    assert init.kaiming_uniform_(mg.zeros(3, 0)).shape == (3, 0)


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("function", [init.xavier_uniform_, init.kaiming_normal_])
def test_fans_need_two_dimensions(function):
    with pytest.raises(mg.ShapeError, match=r"init: a has shape \(3,\); fans need \(out, in\)"):
        function(mg.zeros(3))


def test_unknown_mode():
    with pytest.raises(ValueError, match="init: mode = 'fan'; it must be 'fan_in' or 'fan_out'"):
        init.kaiming_uniform_(mg.zeros(2, 2), mode="fan")


def test_unknown_nonlinearity():
    with pytest.raises(ValueError, match=r"calculate_gain\(\): nonlinearity = 'swish'; it must be one of linear, "):
        init.kaiming_uniform_(mg.zeros(2, 2), nonlinearity="swish")
