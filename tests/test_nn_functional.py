"""minigrad.nn.functional: the arguments mean what they mean in torch.nn.functional."""

import contextlib
import inspect

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, nn, ops
from minigrad.core import definitions
from minigrad.nn import functional as F
from minigrad.testing import gradcheck
from tests import oracle


class Both:
    """The same call in both libraries, in float64: values and gradients must agree."""

    def __init__(self, rng):
        self.rng = rng
        self.torch = oracle.torch()

    def check(self, function, *arrays):
        results = []
        cotangent = None
        for m in (mg, self.torch):
            xs = [m.tensor(a) for a in arrays]
            floats = [x.requires_grad_() for x, a in zip(xs, arrays, strict=True) if a.dtype.kind == "f"]
            y = function(m.nn.functional, *xs)
            cotangent = self.rng.standard_normal(tuple(y.shape)) if cotangent is None else cotangent
            y.backward(m.tensor(cotangent))
            results.append([y.detach().numpy(), *[x.grad.numpy() for x in floats]])
        for ours, theirs in zip(*results, strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.fixture
def both(rng):
    return Both(rng)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, dim, both, rng):
    both.check(lambda f, x: getattr(f, name)(x, dim), rng.standard_normal((3, 4, 2)))


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "tanh", "sigmoid"])
def test_activations(name, both, rng):
    both.check(lambda f, x: getattr(f, name)(x), rng.standard_normal((3, 4)) * 3)


def test_gelu_by_tanh(both, rng):
    both.check(lambda f, x: f.gelu(x, approximate="tanh"), rng.standard_normal((3, 4)) * 3)


def test_linear_embedding_layer_norm(both, rng):
    w, b = rng.standard_normal((3, 4)), rng.standard_normal(3)
    both.check(lambda f, x, w, b: f.linear(x, w, b), rng.standard_normal((2, 4)), w, b)
    both.check(lambda f, x, w: f.linear(x, w), rng.standard_normal(4), w)
    both.check(lambda f, i, w: f.embedding(i, w), np.array([[0, 2], [2, 2]]), w)
    both.check(lambda f, i, w: f.embedding(i, w, padding_idx=2), np.array([0, 2, 1]), w)
    both.check(lambda f, x, w, b: f.layer_norm(x, (3,), w, b, 1e-3), rng.standard_normal((2, 3)), b, b)
    both.check(lambda f, x, w: f.layer_norm(x, [3], w), rng.standard_normal((2, 3)), b)
    both.check(lambda f, x: f.layer_norm(x, (3,)), rng.standard_normal((4, 2, 3)))


@pytest.mark.parametrize(
    "settings", [{"reduction": "none"}, {"ignore_index": 2, "label_smoothing": 0.1}, {"reduction": "sum"}]
)
@pytest.mark.parametrize("shape", [(5,), (4, 5), (4, 5, 3), (2, 5, 3, 4)])
def test_cross_entropy_has_its_classes_in_dimension_1(shape, settings, both, rng):
    target = rng.integers(0, 5, shape[:1] + shape[2:] if len(shape) > 1 else ())
    target = np.where(target == 2, 3, target) if target.ndim == 0 else target  # an ignored target alone gives NaN
    both.check(lambda f, x, t: f.cross_entropy(x, t, **settings), rng.standard_normal(shape), target)


def test_cross_entropy_of_uniform_scores_is_the_logarithm_of_their_number():
    loss = F.cross_entropy(mg.zeros(2, 7, 3), mg.zeros(2, 3, dtype=np.int64))
    assert loss.item() == pytest.approx(np.log(7))


@pytest.mark.parametrize("mask", ["none", "boolean", "float", "causal"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention(mask, scale, both, rng):
    q, k, v = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((2, 3, 6, 7))
    masks = {"boolean": rng.random((2, 1, 4, 6)) < 0.7, "float": rng.standard_normal((3, 4, 6))}
    given = [masks[mask]] if mask in masks else []

    def attend(f, q, k, v, *masks):
        return f.scaled_dot_product_attention(q, k, v, *masks, is_causal=mask == "causal", scale=scale)

    both.check(attend, q, k, v, *given)


def test_attention_with_nowhere_to_attend_is_zero(rng):
    q, k, v = (mg.tensor(rng.standard_normal((1, 1, 2, 3)), requires_grad=True) for _ in range(3))
    z = F.scaled_dot_product_attention(q, k, v, mg.tensor([[True, True], [False, False]]))
    z.backward(rng.standard_normal(z.shape))
    assert not z.detach().numpy()[0, 0, 1].any()
    assert not q.grad.numpy()[0, 0, 1].any()
    assert q.grad.numpy()[0, 0, 0].any()


def test_dropout_in_attention_acts_on_the_pattern(rng):
    q = k = mg.zeros(1, 1, 4, 8)
    v = mg.eye(8, dtype=np.float64)[:4].view(1, 1, 4, 8)  # the result is the pattern, one column for each key
    pattern = F.scaled_dot_product_attention(q.double(), k.double(), v, dropout_p=0.5).numpy()[0, 0, :, :4]
    assert set(np.unique(pattern)) == {0, 0.5}
    again = F.scaled_dot_product_attention(q.double(), k.double(), v, dropout_p=0.5).numpy()[0, 0, :, :4]
    assert not np.array_equal(pattern, again)


def test_masked_softmax(rng):
    x, mask = rng.standard_normal((3, 4)), np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    e = np.exp(x) * mask
    expected = np.divide(e, e.sum(-1, keepdims=True), out=np.zeros_like(e), where=mask.any(-1, keepdims=True))
    np.testing.assert_allclose(F.masked_softmax(mg.tensor(x), mask).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(F.masked_softmax(mg.tensor(x.T), mask.T, dim=0).numpy(), expected.T, rtol=1e-12)
    gradcheck(lambda x: F.masked_softmax(x, mask), [x])


@pytest.mark.parametrize("widths", [(1, 2), (0, 1, 2, 0), (-1, 1), (1, 1, 0, 0, 2, 0)])
def test_pad(widths, both, rng):
    both.check(lambda f, x: f.pad(x, widths), rng.standard_normal((2, 3, 4)))
    both.check(lambda f, x: f.pad(x, widths, mode="constant", value=-3.5), rng.standard_normal((2, 3, 4)))


def test_pad_keeps_integers():
    padded = F.pad(mg.tensor([[1, 2]]), (0, 1, 1, 0), value=7)
    assert padded.tolist() == [[7, 7, 7], [1, 2, 7]]
    assert padded.dtype == np.int64


def test_dropout_outside_training_is_the_identity(rng):
    x = mg.tensor(rng.standard_normal(100))
    assert F.dropout(x, training=False) is x
    assert F.dropout(x, 0.0) is x
    dropped = F.dropout(x).numpy()
    assert 20 < (dropped == 0).sum() < 80
    np.testing.assert_allclose(dropped[dropped != 0], 2 * x.numpy()[dropped != 0], rtol=1e-12)


def test_functions_take_arrays_too(rng):
    x, target = rng.standard_normal((4, 5, 3)), rng.integers(0, 5, (4, 3))
    by_array = F.cross_entropy(x, target)
    assert isinstance(by_array, np.ndarray)
    assert by_array == F.cross_entropy(mg.tensor(x), target).numpy()
    assert F.layer_norm(x, 3).shape == x.shape


def test_classes_last_is_the_op(rng):
    x, target = mg.tensor(rng.standard_normal((2, 3, 5))), rng.integers(0, 5, (2, 3))
    first = F.cross_entropy(x.permute(0, 2, 1), target, label_smoothing=0.2)
    assert first.item() == pytest.approx(ops.cross_entropy(x, target, label_smoothing=0.2).item())


# ----------------------------------------------------------------------------------------------------------- the names
HELPERS = {F.one_size, F.last_sizes}
FUNCTIONS = [
    f
    for name, f in inspect.getmembers(F, inspect.isfunction)
    if f.__module__ == F.__name__ and not name.startswith("_") and f not in HELPERS
]


OURS = {F.masked_softmax, F.add_layer_norm, F.bias_activation}  # PyTorch has none of these
OUR_KEYWORDS = {"mask"}  # nor these


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f not in OURS], ids=lambda f: f.__name__)
def test_arguments_are_named_and_ordered_as_in_torch(function):
    theirs = getattr(oracle.torch().nn.functional, function.__name__)
    try:
        names = list(inspect.signature(theirs).parameters)
    except ValueError:  # written in C++, but its documentation starts with the signature
        arguments = theirs.__doc__.partition("(")[2].partition(")")[0].split(",")
        names = [argument.partition("=")[0].strip(" *\n") for argument in arguments]
    parameters = inspect.signature(function).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == names[: len(positional)]
    assert {p.name for p in parameters} - OUR_KEYWORDS <= set(names)


# -------------------------------------------------------------------------------------------------------------- errors
def test_softmax_needs_a_dimension():
    with pytest.raises(TypeError, match="dim"):
        F.softmax(mg.zeros(2, 2))


def test_gelu_of_an_unknown_kind():
    with pytest.raises(ValueError, match=r"gelu\(\): approximate = 'erf'; it must be 'none' or 'tanh'"):
        F.gelu(mg.zeros(2), "erf")


def test_layer_norm_of_another_size():
    with pytest.raises(mg.ShapeError, match=r"a has shape \(2, 3\); its last size must be normalized_shape = 2"):
        F.layer_norm(mg.zeros(2, 3), 2)


def test_pad_of_an_unknown_mode():
    with pytest.raises(ValueError, match=r"pad\(\): mode = 'reflect'; only 'constant'"):
        F.pad(mg.zeros(2), (1, 1), mode="reflect")


def test_cross_entropy_with_the_classes_last_says_what_to_do():
    with pytest.raises(mg.ShapeError, match=r"\(2, 3, 5\), the target \(2, 3\); .* If the classes come last, use"):
        F.cross_entropy(mg.zeros(2, 3, 5), mg.zeros(2, 3, dtype=np.int64))


def test_cross_entropy_settings_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        F.cross_entropy(mg.zeros(2, 3), mg.zeros(2, dtype=np.int64), mg.ones(3))


def test_attention_mask_of_integers():
    q = mg.zeros(1, 1, 2, 3)
    with pytest.raises(mg.DTypeError, match="attn_mask has dtype int64; it must be boolean"):
        F.scaled_dot_product_attention(q, q, q, mg.tensor([[1, 0], [1, 1]]))


def test_dropout_needs_a_probability():
    with pytest.raises(ValueError, match=r"dropout\(\): p = 1.5; a probability"):
        F.dropout(mg.zeros(2), 1.5)


def test_layers_and_functions_are_reachable_as_in_torch():
    assert mg.nn.functional is F
    assert callable(nn.utils.clip_grad_norm_)


@pytest.mark.parametrize("causal", [False, True])
def test_a_mask_of_numbers_may_shut_out_a_query(causal, rng):
    """Its output is 0, and no gradient becomes NaN, whichever way it is computed."""
    numbers = np.zeros((3, 3))
    numbers[0, :] = -np.inf
    q, g = mg.tensor(rng.standard_normal((1, 2, 3, 4)), requires_grad=True), rng.standard_normal((1, 2, 3, 4))
    legal = mg.tensor((numbers == 0) & np.tri(3, k=0 if causal else 3, dtype=bool))
    expected = F.scaled_dot_product_attention(q, q, q, legal).detach().numpy()
    for way in (contextlib.nullcontext(), definitions(), kernels.use("numpy")):
        q.grad = None
        with way:
            z = F.scaled_dot_product_attention(q, q, q, mg.tensor(numbers), is_causal=causal)
            z.backward(g)
        assert (z.detach().numpy()[:, :, 0] == 0).all()
        np.testing.assert_allclose(z.detach().numpy(), expected, rtol=1e-12, atol=1e-15)
        assert np.isfinite(q.grad.data).all()


def test_the_row_of_padding_has_to_be_one_of_the_table():
    with pytest.raises(IndexError, match=r"embedding\(\): padding_idx = 7 is not one of the 3 rows"):
        F.embedding(mg.tensor([0]), mg.ones(3, 2), padding_idx=7)
