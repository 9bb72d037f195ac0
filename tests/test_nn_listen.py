"""capture() and patch(): which values are seen under which names, what replaces them, and where that ends."""

import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import Module


class Square(Module):
    taps = ("input", "square")

    def forward(self, x):
        x = self.tap("input", x)
        return self.tap("square", x * x) + 1


class Model(Module):
    taps = ("total",)

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Square(), Square()])
        self.lin = nn.Linear(3, 2)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.lin(self.tap("total", x))


NAMES = [
    "layers.0.input",
    "layers.0.square",
    "layers.0",
    "layers.1.input",
    "layers.1.square",
    "layers.1",
    "total",
    "lin",
]


@pytest.fixture
def x(rng):
    return mg.tensor(rng.standard_normal((4, 3)).astype(np.float32))


# ------------------------------------------------------------------------------------------------------------- capture
def test_everything_is_captured_in_the_order_in_which_it_happens(x):
    model = Model()
    with nn.capture(model) as seen:
        y = model(x)
    assert list(seen) == NAMES
    assert seen["layers.0.input"] is x
    assert seen["lin"] is y
    np.testing.assert_array_equal(seen["layers.0.square"].numpy(), x.numpy() ** 2)
    np.testing.assert_array_equal(seen["layers.0"].numpy(), x.numpy() ** 2 + 1)
    assert sorted(nn.tap_names(model)) == sorted([*NAMES, "layers"])  # a ModuleList never returns anything


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["layers.*.square"], ["layers.0.square", "layers.1.square"]),
        (["layers.[1-9]", "total"], ["layers.1", "total"]),
        (["total", "tot*"], ["total"]),
        (["*.?"], ["layers.0", "layers.1"]),
    ],
)
def test_patterns_are_those_of_file_names(patterns, names, x):
    model = Model()
    with nn.capture(model, *patterns) as seen:
        model(x)
    assert list(seen) == names
    assert all(len(values) == 1 for values in seen.all.values())


def test_capturing_changes_no_number(x, rng):
    model = Model()
    g = rng.standard_normal((4, 2))

    def run():
        model.zero_grad()
        y = model(x)
        y.backward(g)
        return [y.detach().numpy(), model.lin.weight.grad.numpy()]

    plain = run()
    with nn.capture(model, grad=True):
        listened = run()
    for a, b in zip(plain, listened, strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_of_captured_values(x, rng):
    model = Model()
    x.requires_grad_()
    g = rng.standard_normal((4, 2)).astype(np.float32)
    with nn.capture(model, "total", "layers.*", grad=True) as seen:
        model(x).backward(g)
    total = g @ model.lin.weight.data
    np.testing.assert_allclose(seen["total"].grad.numpy(), total, rtol=1e-5)
    np.testing.assert_allclose(seen["layers.1.square"].grad.numpy(), total, rtol=1e-5)
    np.testing.assert_allclose(seen["layers.0"].grad.numpy(), total * 2 * seen["layers.0"].detach().numpy(), rtol=1e-5)


def test_gradients_are_not_kept_unless_asked_for(x, rng):
    model = Model()
    x.requires_grad_()
    with nn.capture(model, "total") as seen:
        model(x).backward(rng.standard_normal((4, 2)))
    assert seen["total"].grad is None


def test_asking_for_gradients_without_a_graph_is_harmless(x):
    model = Model()
    with mg.no_grad(), nn.capture(model, "total", grad=True) as seen:
        model(x)
    assert seen["total"].grad is None


def test_value_seen_several_times_is_kept_several_times(x):
    model = Model()
    with nn.capture(model, "total") as seen:
        model(x)
        model(2 * x)
    assert len(seen.all["total"]) == 2
    assert seen["total"] is seen.all["total"][1]
    assert not np.array_equal(seen.all["total"][0].numpy(), seen["total"].numpy())


def test_module_that_is_shared_is_seen_under_its_first_path(x):
    model = Model()
    model.layers[1] = model.layers[0]
    with nn.capture(model, "layers.*.input") as seen:
        model(x)
    assert list(seen) == ["layers.0.input"]
    assert len(seen.all["layers.0.input"]) == 2


def test_tap_goes_before_the_output_of_a_child_of_the_same_name():
    class Both(Module):
        taps = ("out",)

        def __init__(self):
            super().__init__()
            self.out = nn.ReLU()

        def forward(self, x):
            return self.tap("out", self.out(x) * 2)

    model = Both()
    with nn.capture(model) as seen:
        model(mg.ones(1))
    assert {name: [v.tolist() for v in values] for name, values in seen.all.items()} == {"out": [[2.0]]}


def test_output_that_is_no_tensor_is_captured_as_it_is():
    class Two(Module):
        def forward(self, x):
            return x, None

    model = nn.Sequential(Two())
    with nn.capture(model, grad=True) as seen:
        y = model(mg.ones(1))
    assert seen["0"] is y


def test_submodule_that_is_called_alone_is_seen_under_its_path_in_the_model(x):
    model = Model()
    with nn.capture(model) as seen:
        model.layers[1](x)
    assert list(seen) == ["layers.1.input", "layers.1.square", "layers.1"]


def test_other_models_are_not_seen(x):
    model, other = Model(), Model()
    with nn.capture(model) as seen:
        other(x)
    assert seen == {}


# --------------------------------------------------------------------------------------------------------------- patch
def test_patch_replaces_what_the_model_goes_on_with(x):
    model = Model()
    with nn.patch(model, {"layers.*.square": lambda s: s * 0}):
        y = model(x)
    expected = np.ones((4, 3)) @ model.lin.weight.data.T + model.lin.bias.data
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-6)


def test_output_of_a_module_can_be_replaced(x):
    model = Model()
    with nn.patch(model, {"lin": lambda y: y + 100, "layers.0": lambda y: x}):
        patched = model(x)
    expected = (x.numpy() ** 2 + 1) @ model.lin.weight.data.T + model.lin.bias.data + 100
    np.testing.assert_allclose(patched.detach().numpy(), expected, rtol=1e-5)


def test_gradients_flow_through_a_patch(x, rng):
    model = Model()
    x.requires_grad_()
    g = rng.standard_normal((4, 2)).astype(np.float32)
    with nn.patch(model, {"total": lambda t: 3 * t, "layers.1": lambda _: x}):
        model(x).backward(g)
    np.testing.assert_allclose(x.grad.numpy(), 3 * g @ model.lin.weight.data, rtol=1e-5)


def test_several_patches_work_one_after_the_other(x):
    model = Model()
    same = {"total": lambda t: t * 0 + 2, "tota?": lambda t: t * 10}
    with nn.capture(model, "total") as seen, nn.patch(model, same), nn.patch(model, {"total": lambda t: t + 1}):
        model(x)
    np.testing.assert_array_equal(seen["total"].numpy(), 21)


@pytest.mark.parametrize("capture_first", [True, False])
def test_capture_sees_what_the_model_goes_on_with(capture_first, x):
    model = Model()
    patch, capture = nn.patch(model, {"total": lambda t: t * 0}), nn.capture(model, "total")
    with capture if capture_first else patch as a, patch if capture_first else capture as b:
        model(x)
    seen = a if capture_first else b
    assert not seen["total"].numpy().any()


def test_patch_that_returns_nothing_is_an_error(x):
    model = Model()
    with (
        nn.patch(model, {"layers.1.square": print}),
        pytest.raises(TypeError, match=r"patch\(\): the function for 'layers.1.square' returned None") as error,
    ):
        model(x)
    assert error.value.__notes__ == ["in layers.1 (Square)"]


# ------------------------------------------------------------------------------------------- where it begins and ends
def test_nothing_is_left_behind_even_after_an_exception(x):
    model = Model()
    plain = model(x).detach().numpy()
    with nn.capture(model) as outer:
        with pytest.raises(ZeroDivisionError), nn.patch(model, {"total": lambda t: 1 / 0}), nn.capture(model) as inner:
            model(x)
        model(x)
    np.testing.assert_array_equal(model(x).detach().numpy(), plain)
    assert "total" not in inner
    assert len(outer.all["total"]) == 1
    assert len(outer.all["layers.0"]) == 2


def test_inner_capture_does_not_end_the_outer_one(x):
    model = Model()
    with nn.capture(model, "total") as outer:
        with nn.capture(model, "total") as inner:
            model(x)
        model(x)
    assert len(inner.all["total"]) == 1
    assert len(outer.all["total"]) == 2
    assert outer.all["total"][0] is inner["total"]


def test_listening_is_private_to_the_thread(x):
    model = Model()
    results = []

    def run():
        with nn.capture(model, "lin") as own:
            model(x)
        results.append(len(own.all["lin"]))

    with nn.capture(model) as seen, nn.patch(model, {"total": lambda t: t * 0}):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert seen == {}
    assert results == [1]


def test_watched_says_whether_anybody_listens():
    model = Model()
    first, second = model.layers

    def watched():
        return [first.watched("square"), first.watched("input", "square"), second.watched(), model.watched("total")]

    assert watched() == [False] * 4
    with nn.capture(model, "layers.*.input"):
        assert watched() == [False, True, True, False]
        with nn.patch(model, {"total": lambda t: t}):
            assert watched() == [False, True, True, True]
    with nn.capture(model, "layers.0"):  # its output alone needs nothing from inside
        assert watched() == [False] * 4
    assert watched() == [False] * 4


@pytest.mark.parametrize("listen", [nn.capture, lambda model, p: nn.patch(model, {"total": abs, p: abs})])
def test_pattern_that_matches_nothing_names_near_ones(listen, x):
    model = Model()
    with pytest.raises(ValueError, match=r"nothing in this Model matches 'layers.0.squar'. Near: layers.0.square,"):
        listen(model, "layers.0.squar").__enter__()
    with pytest.raises(ValueError, match=r"matches 'zzz'. Near: layers, layers.0, layers.1, lin\. tap_names\(model\)"):
        listen(model, "zzz").__enter__()
    assert not model.watched()


def test_model_with_nothing_inside_says_so():
    with pytest.raises(ValueError, match="Near: none, it has neither taps nor submodules"):
        nn.capture(nn.Linear(1, 1)).__enter__()


def test_tap_that_was_not_declared_is_an_error_when_somebody_listens():
    class Undeclared(Square):
        def forward(self, x):
            return self.tap("cube", x * x * x)

    model = nn.Sequential(Undeclared())
    assert model(mg.ones(1)).tolist() == [1.0]
    with nn.capture(model), pytest.raises(ValueError, match=r"Undeclared.tap\(\): 'cube' is not one of the names"):
        model(mg.ones(1))
