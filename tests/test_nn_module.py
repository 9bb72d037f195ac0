"""Module and Parameter: what is registered, in which order, under which name; saving and loading; the whole at once."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import Module, Parameter
from tests import oracle
from tests.networks import Net


def build(m):
    """A model with everything that has an order, made with m = minigrad or m = torch."""

    class Inner(m.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", m.zeros(2))
            self.lin = m.nn.Linear(3, 3)
            self.scale = m.nn.Parameter(m.ones(3))
            self.register_buffer("scratch", m.zeros(4), persistent=False)
            self.register_parameter("absent", None)

        def forward(self, x):
            return self.lin(x) * self.scale

    class Outer(m.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Inner()
            self.act = m.nn.ReLU()
            self.layers = m.nn.ModuleList([Inner(), m.nn.Sequential(m.nn.Linear(3, 5, bias=False), self.act)])
            self.by_name = m.nn.ModuleDict({"b": m.nn.LayerNorm(5), "a": m.nn.Embedding(7, 3)})
            self.weight = m.nn.Parameter(m.zeros(1))
            self.register_buffer("count", m.zeros(1))
            self.head = m.nn.Linear(3, 7, bias=False)
            self.head.weight = self.by_name["a"].weight
            self.again = self.first

    return Outer()


# ---------------------------------------------------------------------------------------------------------- Parameter
def test_parameter_wants_a_gradient_even_under_no_grad():
    with mg.no_grad():
        assert Parameter(mg.zeros(2)).requires_grad
        assert not Parameter(mg.zeros(2), requires_grad=False).requires_grad


def test_parameter_shares_memory_and_is_a_leaf():
    x = mg.randn(3, requires_grad=True) * 2
    p = Parameter(x)
    assert p.is_leaf
    assert p.data is x.data


def test_results_of_operations_on_parameters_are_plain_tensors():
    p = Parameter(mg.zeros(2))
    assert type(p + 1) is type(p.detach()) is mg.Tensor


def test_parameter_of_integers_is_an_error():
    with pytest.raises(mg.GradError, match="only floats have gradients"):
        Parameter(mg.tensor([1, 2]))


def test_parameter_says_what_it_is():
    assert repr(Parameter(mg.ones(1))) == "Parameter containing:\ntensor([1.], requires_grad=True)"


def test_deepcopy_keeps_ties_and_separates_memory(rng):
    model = build(mg)
    twin = copy.deepcopy(model)
    assert twin.head.weight is twin.by_name["a"].weight
    assert twin.again is twin.first
    assert isinstance(twin.head.weight, Parameter)
    assert twin.head.weight.requires_grad
    assert twin.state_dict().keys() == model.state_dict().keys()
    before = model.head.weight.data.copy()
    with mg.no_grad():
        twin.head.weight.mul_(2)
    np.testing.assert_array_equal(model.head.weight.data, before)
    twin.head(mg.randn(2, 3)).backward(rng.standard_normal((2, 7)))
    assert twin.head.weight.grad is not None
    assert model.head.weight.grad is None


# ------------------------------------------------------------------------------------------------ order, as in PyTorch
VIEWS = {
    "named_parameters": lambda m: [name for name, _ in m.named_parameters()],
    "own parameters": lambda m: [name for name, _ in m.named_parameters(recurse=False)],
    "all names of parameters": lambda m: [name for name, _ in m.named_parameters("p", remove_duplicate=False)],
    "named_buffers": lambda m: [name for name, _ in m.named_buffers()],
    "named_modules": lambda m: [(name, type(module).__name__) for name, module in m.named_modules()],
    "all names of modules": lambda m: [name for name, _ in m.named_modules(remove_duplicate=False)],
    "named_children": lambda m: [name for name, _ in m.named_children()],
    "children": lambda m: [type(child).__name__ for child in m.children()],
    "parameters": lambda m: [tuple(p.shape) for p in m.parameters()],
    "buffers": lambda m: [tuple(b.shape) for b in m.buffers()],
    "modules": lambda m: [type(module).__name__ for module in m.modules()],
    "state_dict": lambda m: {name: tuple(value.shape) for name, value in m.state_dict().items()},
    "state_dict order": lambda m: list(m.state_dict()),
    "after None": lambda m: [setattr(m.first, "lin", None), list(m.state_dict())],
    "after del": lambda m: [delattr(m, "act"), delattr(m, "count"), list(m.state_dict()), len(list(m.modules()))],
    "after a new kind": lambda m: [setattr(m, "head", m.weight), list(m.state_dict())],
    "a slice": lambda m: [list(m.layers[1:].state_dict()), list(m.layers[1][:1].state_dict())],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_order_is_that_of_torch(view):
    torch = oracle.torch()
    assert view(build(mg)) == view(build(torch))


def test_apply_visits_children_first_as_torch_does():
    torch = oracle.torch()

    def visited(model):
        names = []
        assert model.apply(lambda module: names.append(type(module).__name__)) is model
        return names

    assert visited(build(mg)) == visited(build(torch))


def test_order_of_names():
    names = list(build(mg).state_dict())
    assert names[:5] == ["weight", "count", "first.scale", "first.table", "first.lin.weight"]


def test_tied_parameter_comes_once_and_gets_one_gradient(rng):
    model = build(mg)
    names = [name for name, _ in model.named_parameters()]
    assert "by_name.a.weight" in names
    assert "head.weight" not in names
    assert model.state_dict()["head.weight"].data is model.state_dict()["by_name.a.weight"].data
    x, g = mg.tensor([1, 4, 4]), rng.standard_normal((3, 7)).astype(np.float32)
    e = model.by_name["a"](x)
    model.head(e).backward(g)
    w = model.head.weight.data
    expected = g.T @ e.detach().numpy()
    np.add.at(expected, x.numpy(), g @ w)
    np.testing.assert_allclose(model.head.weight.grad.numpy(), expected, rtol=1e-5, atol=1e-6)


# -------------------------------------------------------------------------------------------------------- registration
def test_assigning_before_init_is_an_error():
    class Forgot(Module):
        def __init__(self):
            self.lin = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"Forgot: call super\(\).__init__\(\) before you assign 'lin'"):
        Forgot()


def test_module_without_init_has_nothing_in_it():
    class Bare(Module):
        def __init__(self):
            self.setting = 3

    assert list(Bare().parameters()) == []
    assert Bare().eval().training is False


def test_unknown_attribute_is_an_error_that_names_class_and_attribute():
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'wieght'"):
        _ = nn.Linear(1, 1).wieght


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("weight", mg.zeros(1), "Parameter"), ("first", mg.zeros(1), "Module"), ("count", np.zeros(1), "Tensor")],
)
def test_registered_name_takes_only_its_kind(name, value, kind):
    model = build(mg)
    with pytest.raises(TypeError, match=rf"Outer.{name} is a {kind}; it cannot become a {type(value).__name__}"):
        setattr(model, name, value)
    assert getattr(model, name) is not value


def test_parameter_that_is_absent_stays_a_parameter():
    layer = nn.Linear(2, 2, bias=False)
    with pytest.raises(TypeError, match="bias is a Parameter"):
        layer.bias = mg.zeros(2)
    layer.bias = Parameter(mg.zeros(2))
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_none_removes_and_del_forgets():
    layer = nn.Linear(2, 2)
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]
    del layer.weight
    layer.weight = mg.zeros(2)  # no longer registered, so a plain tensor is fine
    assert list(layer.state_dict()) == []
    with pytest.raises(AttributeError):
        del layer.nothing


def test_buffer_that_becomes_a_parameter_is_saved():
    model = build(mg)
    model.first.scratch = Parameter(mg.zeros(4))
    assert "first.scratch" in model.state_dict()


def test_plain_tensor_is_neither_parameter_nor_buffer():
    model = Net()
    model.note = mg.zeros(3)
    assert "note" not in model.state_dict()


@pytest.mark.parametrize("name", ["", "a.b"])
def test_unusable_names_are_errors(name):
    with pytest.raises(KeyError, match="must not be empty, nor contain a dot"):
        Net().add_module(name, nn.ReLU())


@pytest.mark.parametrize("name", ["forward", "training", "setting"])
def test_taken_names_are_errors(name):
    model = Net()
    model.setting = 3
    with pytest.raises(KeyError, match=f"Net already has an attribute '{name}'"):
        model.register_buffer(name, mg.zeros(1))


@pytest.mark.parametrize(
    ("method", "value", "kind"),
    [
        ("register_parameter", mg.zeros(1), "Parameter"),
        ("register_buffer", np.zeros(1), "Tensor"),
        ("add_module", mg.zeros(1), "Module"),
        ("register_module", len, "Module"),
    ],
)
def test_registering_the_wrong_kind_is_an_error(method, value, kind):
    with pytest.raises(TypeError, match=f"'x' is to be a {kind} or None, not a {type(value).__name__}"):
        getattr(Net(), method)("x", value)


# ------------------------------------------------------------------------------------------------------------- loading
def test_state_dict_shares_memory_and_blocks_gradients():
    model = Net()
    saved = model.state_dict()["a.weight"]
    assert saved.data is model.a.weight.data
    assert not saved.requires_grad


@pytest.mark.parametrize("kind", [lambda t: t, lambda t: t.numpy(), lambda t: t.double()])
def test_load_copies_into_existing_memory(kind):
    model, other = Net(), Net()
    memory = {name: value.data for name, value in model.state_dict().items()}
    assert model.load_state_dict({n: kind(v) for n, v in other.state_dict().items()}) == ([], [])
    for name, value in model.state_dict().items():
        assert value.data is memory[name]
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value.numpy(), other.state_dict()[name].numpy())
    with mg.no_grad():
        other.a.weight.mul_(0)
    assert np.any(model.a.weight.data)


def test_load_lists_all_that_is_wrong_and_changes_nothing():
    model = Net()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    wrong = {
        "a.weight": np.full((4, 3), 7.0),
        "a.bias": np.zeros(5),
        "b.1.weight": np.zeros((2, 4), complex),
        "c": np.zeros(1),
        "d": np.zeros(1),
    }
    with pytest.raises(RuntimeError) as error:
        model.load_state_dict(wrong)
    assert str(error.value).splitlines() == [
        "Net.load_state_dict(): the state does not fit the model",
        "  missing: b.1.bias",
        "  unexpected: c",
        "  unexpected: d",
        "  shape of a.bias: (5,) in the state, (4,) in the model",
        "  dtype of b.1.weight: complex128 in the state, float32 in the model",
    ]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_load_that_is_not_strict_forgives_names_but_no_shapes():
    model = Net()
    result = model.load_state_dict({"a.bias": np.full(4, 7.0), "c": np.zeros(1)}, strict=False)
    assert result.missing_keys == ["a.weight", "b.1.weight", "b.1.bias"]
    assert result.unexpected_keys == ["c"]
    assert model.a.bias.tolist() == [7, 7, 7, 7]
    with pytest.raises(RuntimeError, match=r"shape of a.bias: \(1,\) in the state, \(4,\) in the model"):
        model.load_state_dict({"a.bias": np.zeros(1)}, strict=False)


def test_loading_between_forward_and_backward_is_seen(rng):
    model = Net()
    y = model(mg.tensor(rng.standard_normal((2, 3)).astype(np.float32)))
    model.load_state_dict(Net().state_dict())
    with pytest.raises(mg.GradError, match="modified in place"):
        y.backward(rng.standard_normal((2, 2)))


# -------------------------------------------------------------------------------------------------------- all at once
def test_train_and_eval_reach_every_module():
    model = build(mg)
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    assert all(module.training for module in model.train().modules())


def test_zero_grad_forgets_or_fills_with_zeros(rng):
    model = Net()
    model(mg.randn(2, 3)).backward(rng.standard_normal((2, 2)))
    memory = model.a.weight.grad.data
    model.b[1].bias.grad = None
    model.zero_grad(set_to_none=False)
    assert model.a.weight.grad.data is memory
    assert not memory.any()
    assert model.b[1].bias.grad is None
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_requires_grad_freezes(rng):
    model = Net()
    assert model.a.requires_grad_(False) is model.a
    model(mg.randn(2, 3)).backward(rng.standard_normal((2, 2)))
    assert [p.grad is None for p in model.parameters()] == [True, True, False, False]


@pytest.mark.parametrize(
    "convert", [lambda m: m.double(), lambda m: m.to(mg.float64), lambda m: m.to("cpu", "float64")]
)
def test_dtype_of_the_whole_changes_in_place(convert, rng):
    model = build(mg)
    model.register_buffer("number", mg.tensor([3]))
    parameters = list(model.parameters())
    model.first(mg.randn(2, 3)).backward(rng.standard_normal((2, 3)))
    gradient = model.first.scale.grad.numpy()
    assert convert(model) is model
    assert all(p is q for p, q in zip(parameters, model.parameters(), strict=True))
    assert {name: v.dtype for name, v in model.state_dict().items() if v.dtype != np.float64} == {"number": np.int64}
    assert model.head.weight is model.by_name["a"].weight
    np.testing.assert_array_equal(model.first.scale.grad.numpy(), gradient.astype(np.float64))
    x = mg.tensor(rng.standard_normal((2, 3)))
    model.zero_grad()
    model.head(x).backward(rng.standard_normal((2, 7)))
    assert model.head.weight.grad.dtype == np.float64
    assert {p.dtype for p in model.float().parameters()} == {np.dtype(np.float32)}


def test_same_dtype_leaves_the_graph_alone():
    model = Net()
    node = model.a.weight.node
    assert model.to("cpu", dtype=np.float32, device="cpu").a.weight.node is node


def test_frozen_stays_frozen_in_another_dtype():
    assert not Net().requires_grad_(False).double().a.weight.requires_grad


def test_there_is_only_the_cpu():
    with pytest.raises(ValueError, match="'cuda' is no dtype, and the only device is 'cpu'"):
        Net().to("cuda")


def test_a_module_is_of_floats():
    with pytest.raises(TypeError, match="of a float dtype only, not int64"):
        Net().to(np.int64)


def test_printed_module():
    class Pair(Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3))
            self.norm1, self.norm2 = nn.LayerNorm(2), nn.LayerNorm(2)

        def extra_repr(self):
            return "n=2"

    assert repr(Pair()).splitlines() == [
        "Pair(n=2",
        "  (layers): ModuleList(",
        "    (0-2): 3 x Sequential(",
        "      (0): Linear(in_features=2, out_features=2, bias=True)",
        "      (1): ReLU()",
        "    )",
        "  )",
        "  (norm1): LayerNorm((2,), eps=1e-05, elementwise_affine=True)",
        "  (norm2): LayerNorm((2,), eps=1e-05, elementwise_affine=True)",
        ")",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Dropout(0.1), nn.LayerNorm(3), nn.Identity()),
        lambda nn: nn.ModuleDict({"e": nn.Embedding(3, 2, padding_idx=0), "f": nn.Embedding(3, 2), "t": nn.Tanh()}),
        lambda nn: nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(12)] + [nn.Sigmoid()]),
    ],
)
def test_layers_are_printed_as_torch_prints_them(make):
    text = repr(make(oracle.torch().nn)).replace("p=0.1, inplace=False", "p=0.1").replace(", bias=True\n", "\n")
    ours = repr(make(nn)).replace(", bias=True\n", "\n")
    assert ours == text.replace("elementwise_affine=True, bias=True", "elementwise_affine=True")


def test_pickle_keeps_parameters_and_ties():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    other = pickle.loads(pickle.dumps(model))
    assert other[1].weight is other[0].weight
    assert len(list(other.parameters())) == 3
    x = mg.randn(3, 2)
    np.testing.assert_array_equal(other(x).data, model(x).data)
