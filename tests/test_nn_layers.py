"""The layers: their values and gradients, how they start, and the containers."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.testing import gradcheck
from tests import oracle


def tensor(rng, *shape, requires_grad=False):
    return mg.tensor(rng.standard_normal(shape), requires_grad=requires_grad)


# -------------------------------------------------------------------------------------------------------- against torch
LAYERS = {
    "linear": (lambda nn: nn.Linear(5, 3), (2, 4, 5)),
    "linear without bias": (lambda nn: nn.Linear(5, 3, bias=False), (5,)),
    "layer norm": (lambda nn: nn.LayerNorm(5), (2, 4, 5)),
    "layer norm, eps": (lambda nn: nn.LayerNorm([5], eps=0.5), (5,)),
    "layer norm without bias": (lambda nn: nn.LayerNorm((5,), bias=False), (2, 5)),
    "layer norm without parameters": (lambda nn: nn.LayerNorm(5, elementwise_affine=False), (2, 5)),
    "rms norm": (lambda nn: nn.RMSNorm(5), (2, 4, 5)),
    "rms norm of two dimensions": (lambda nn: nn.RMSNorm((4, 5), eps=0.5), (2, 4, 5)),
    "rms norm without parameters": (lambda nn: nn.RMSNorm([5], elementwise_affine=False), (5,)),
    "relu": (lambda nn: nn.ReLU(), (3, 2)),
    "silu": (lambda nn: nn.SiLU(), (3, 2)),
    "gelu": (lambda nn: nn.GELU(), (3, 2)),
    "gelu, tanh": (lambda nn: nn.GELU(approximate="tanh"), (3, 2)),
    "tanh": (lambda nn: nn.Tanh(), (3, 2)),
    "sigmoid": (lambda nn: nn.Sigmoid(), (3, 2)),
    "identity": (lambda nn: nn.Identity(), (3, 2)),
    "sequential": (lambda nn: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Dropout(0.5), nn.LayerNorm(3)), (2, 4)),
}


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_values_and_gradients_are_those_of_torch(make, shape, rng):
    torch = oracle.torch()
    ours, theirs = make(nn).double().eval(), make(torch.nn).double().eval()
    parameters = {name: rng.standard_normal(tuple(p.shape)) for name, p in theirs.named_parameters()}
    ours.load_state_dict(parameters)
    theirs.load_state_dict({name: torch.tensor(p) for name, p in parameters.items()})
    data = rng.standard_normal(shape)
    x, y = mg.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    a, b = ours(x), theirs(y)
    g = rng.standard_normal(a.shape)
    a.backward(g)
    b.backward(torch.tensor(g))
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12, atol=1e-12)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12, atol=1e-12, err_msg=name)


def test_embedding_is_that_of_torch(rng):
    torch = oracle.torch()
    table, indices, g = rng.standard_normal((6, 3)), np.array([[1, 5, 2], [1, 0, 1]]), rng.standard_normal((2, 3, 3))
    ours, theirs = nn.Embedding(6, 3, padding_idx=-4).double(), torch.nn.Embedding(6, 3, padding_idx=-4).double()
    assert ours.padding_idx == theirs.padding_idx == 2
    ours.load_state_dict({"weight": table})
    theirs.load_state_dict({"weight": torch.tensor(table)})
    a, b = ours(mg.tensor(indices)), theirs(torch.tensor(indices))
    a.backward(g)
    b.backward(torch.tensor(g))
    np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-12)
    assert not ours.weight.grad.numpy()[2].any()


# --------------------------------------------------------------------------------------------------------- closed form
def test_linear_is_a_matrix_product(rng):
    layer = nn.Linear(3, 2)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    expected = x @ layer.weight.data.T + layer.bias.data
    np.testing.assert_allclose(layer(mg.tensor(x)).detach().numpy(), expected, rtol=1e-5)


def test_layer_norm_standardises(rng):
    y = nn.LayerNorm(50)(mg.tensor(rng.normal(3, 7, (4, 50)))).detach().numpy()
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(-1), 1, rtol=1e-4)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_gradient(approximate, rng):
    gradcheck(lambda x: nn.GELU(approximate)(x), [rng.standard_normal((3, 4)) * 2])


def test_layers_keep_float32(rng):
    x = mg.tensor(rng.standard_normal((2, 4)).astype(np.float32))
    for activation in (
        nn.ReLU(),
        nn.GELU(),
        nn.GELU("tanh"),
        nn.SiLU(),
        nn.RMSNorm(4),
        nn.BatchNorm1d(4),
        nn.Tanh(),
        nn.Sigmoid(),
        nn.Dropout(0.5),
        nn.LayerNorm(4),
    ):
        assert activation(x).dtype == np.float32


# ------------------------------------------------------------------------------------------------------- how they start
def test_linear_starts_within_its_bounds(rng):
    layer = nn.Linear(400, 300)
    for parameter in (layer.weight, layer.bias):
        assert np.abs(parameter.data).max() <= 1 / 20
        assert parameter.data.std() == pytest.approx(1 / 20 / np.sqrt(3), rel=0.1)  # uniform
        assert parameter.dtype == np.float32


def test_embedding_starts_normal_with_a_row_of_zeros(rng):
    weight = nn.Embedding(300, 200, padding_idx=7).weight.data
    assert not weight[7].any()
    rest = np.delete(weight, 7, axis=0)
    assert rest.mean() == pytest.approx(0, abs=0.02)
    assert rest.std() == pytest.approx(1, rel=0.02)


def test_layer_norm_starts_as_plain_normalisation():
    layer = nn.LayerNorm(3)
    assert layer.weight.tolist() == [1, 1, 1]
    assert layer.bias.tolist() == [0, 0, 0]


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 3), lambda: nn.Embedding(3, 3)])
def test_seed_decides_how_layers_start(make):
    mg.manual_seed(1)
    first = make()
    mg.manual_seed(1)
    second, third = make(), make()
    np.testing.assert_array_equal(first.weight.data, second.weight.data)
    assert not np.array_equal(second.weight.data, third.weight.data)


def test_reset_starts_anew(rng):
    embedding, norm, linear = nn.Embedding(4, 2, padding_idx=1), nn.LayerNorm(2), nn.Linear(2, 2)
    old = linear.weight.data.copy()
    with mg.no_grad():
        for parameter in (embedding.weight, norm.weight, norm.bias):
            parameter.fill_(9)
    for layer in (embedding, norm, linear, nn.LayerNorm(2, elementwise_affine=False)):
        layer.reset_parameters()
    assert embedding.weight[1].tolist() == [0, 0]
    assert np.abs(embedding.weight.data).max() < 9
    assert (norm.weight.tolist(), norm.bias.tolist()) == ([1, 1], [0, 0])
    assert not np.array_equal(linear.weight.data, old)


def test_layer_without_inputs_can_be_made():
    assert nn.Linear(0, 2)(mg.zeros(3, 0)).shape == (3, 2)


# ------------------------------------------------------------------------------------------------------------- dropout
def test_dropout_is_off_in_evaluation(rng):
    x, layer = tensor(rng, 5, 5), nn.Dropout(0.9)
    assert layer.eval()(x) is x
    assert not np.array_equal(layer.train()(x).numpy(), x.numpy())
    assert nn.Dropout(0.0)(x) is x


def test_dropout_zeroes_a_share_and_scales_the_rest(rng):
    y = nn.Dropout(0.25)(mg.ones(100, 1000)).numpy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert not nn.Dropout(1.0)(mg.ones(10)).numpy().any()


def test_dropout_is_different_at_every_call_and_repeats_with_the_seed():
    layer, x = nn.Dropout(0.5), mg.ones(100)
    mg.manual_seed(3)
    first, second = layer(x).numpy(), layer(x).numpy()
    mg.manual_seed(3)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(layer(x).numpy(), first)


def test_gradient_of_dropout_passes_where_the_value_did(rng):
    x = tensor(rng, 20, 30, requires_grad=True)
    g = rng.standard_normal((20, 30))
    y = nn.Dropout(0.4)(x)
    y.backward(g)
    np.testing.assert_allclose(x.grad.numpy(), np.where(y.detach().numpy() == 0, 0, g / 0.6), rtol=1e-12)


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_dropout_needs_a_probability(p):
    with pytest.raises(ValueError, match=r"Dropout\(\): p = .*; a probability lies in \[0, 1\]"):
        nn.Dropout(p)


def test_padding_row_must_exist():
    with pytest.raises(ValueError, match=r"Embedding\(\): padding_idx = 5; there are 5 rows only"):
        nn.Embedding(5, 2, padding_idx=5)


def test_layer_norm_normalises_one_dimension():
    with pytest.raises(ValueError, match=r"normalized_shape = \(2, 3\); only the last dimension"):
        nn.LayerNorm((2, 3))


def test_input_of_another_size_is_an_error_of_that_layer():
    with pytest.raises(mg.ShapeError, match=r"layer_norm\(\): a has shape \(2, 4\); its last size must be .* = 3"):
        nn.LayerNorm(3, elementwise_affine=False)(mg.zeros(2, 4))
    with pytest.raises(mg.ShapeError, match=r"Check the in_features of the layer"):
        nn.Linear(3, 2)(mg.zeros(2, 4))


# ---------------------------------------------------------------------------------------------------------- containers
def test_sequential_is_composition(rng):
    f, g = nn.Linear(3, 4).double(), nn.Linear(4, 2).double()
    x = tensor(rng, 5, 3)
    np.testing.assert_array_equal(nn.Sequential(f, g)(x).detach().numpy(), g(f(x)).detach().numpy())
    assert nn.Sequential()(x) is x


def test_sequential_with_names():
    model = nn.Sequential({"in": nn.Linear(3, 4), "act": nn.ReLU()})
    assert list(model.state_dict()) == ["in.weight", "in.bias"]
    assert isinstance(model.act, nn.ReLU)
    assert list(model[:1].state_dict()) == ["in.weight", "in.bias"]
    assert len(nn.Sequential({})) == 0


def test_same_module_twice_runs_twice():
    double = nn.Sequential(*[nn.Identity()] * 3)
    assert len(double) == 3
    assert len(list(double.children())) == 1


def names(modules):
    return [type(module).__name__ for module in modules]


@pytest.mark.parametrize("kind", [lambda *ms: nn.ModuleList(ms), nn.Sequential])
def test_numbered_containers_are_lists(kind):
    modules = kind(nn.ReLU(), nn.Tanh())
    assert modules.append(nn.GELU()) is modules
    assert names(modules.extend([nn.Sigmoid()])) == ["ReLU", "Tanh", "GELU", "Sigmoid"]
    modules.insert(1, nn.Identity())
    assert names(modules) == ["ReLU", "Identity", "Tanh", "GELU", "Sigmoid"]
    del modules[0]
    modules[-1] = nn.Dropout()
    assert names(modules) == ["Identity", "Tanh", "GELU", "Dropout"]
    assert [name for name, _ in modules.named_children()] == ["0", "1", "2", "3"]
    assert type(modules[1:3]) is type(modules)
    assert names(modules[1:3]) == ["Tanh", "GELU"]
    assert isinstance(modules[-2], nn.GELU)
    del modules[:2]
    assert names(modules) == ["GELU", "Dropout"]
    with pytest.raises(IndexError):
        modules[2]
    with pytest.raises(TypeError, match=r"None is not a module; use Identity\(\)"):
        modules.append(None)


def test_list_is_not_a_function():
    with pytest.raises(NotImplementedError, match=r"ModuleList has no forward\(\)"):
        nn.ModuleList([nn.ReLU()])(mg.zeros(1))


def test_module_dict_is_a_dict():
    modules = nn.ModuleDict([("b", nn.ReLU()), ("a", nn.Tanh())])
    modules["c"] = nn.Linear(1, 1)
    assert list(modules) == modules.keys() == ["b", "a", "c"]
    assert names(modules.values()) == ["ReLU", "Tanh", "Linear"]
    assert modules.items()[1] == ("a", modules["a"])
    del modules["b"]
    assert "b" not in modules
    assert "a" in modules
    assert len(modules) == 2
    modules.update({"a": nn.GELU()})
    assert isinstance(modules["a"], nn.GELU)
    assert list(modules.state_dict()) == ["c.weight", "c.bias"]
    for missing in (lambda: modules["b"], lambda: modules.__delitem__("training")):
        with pytest.raises(KeyError):
            missing()
    with pytest.raises(KeyError, match="already has an attribute 'items'"):
        modules["items"] = nn.ReLU()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nn.Linear(-1, 2), r"Linear\(\): in_features = -1; a size cannot be negative"),
        (lambda: nn.Linear(2, -3), r"Linear\(\): out_features = -3"),
        (lambda: nn.Embedding(-4, 2), r"Embedding\(\): num_embeddings = -4"),
    ],
)
def test_negative_sizes(make, says):
    with pytest.raises(ValueError, match=says):
        make()
