"""Tensor: PyTorch's names and meaning, and what Python itself asks of an object."""

import copy
import operator
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.core import GradError, ShapeError
from tests import oracle
from tests.graphs import assert_same_as_torch, leaf

f32, f64, i64 = np.float32, np.float64, np.int64


# ------------------------------------------------------------------------------------------------- Python's protocol
def test_length_and_iteration():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    first, second = x
    (first * second).backward(np.array([1.0, 10.0]))
    assert x.grad.tolist() == [[3, 40], [1, 20]]
    assert [row.tolist() for row in reversed(x)] == [[3, 4], [1, 2]]
    assert 3.0 in x[1]
    assert 7.0 not in x[1]
    for function in (len, iter, list):
        with pytest.raises(TypeError, match="0-d tensor"):
            function(mg.tensor(1.0))
    with pytest.raises(IndexError, match=r"index\(\): a has shape \(\); too many indices"):
        mg.tensor(1.0)[0]


def test_truth():
    assert mg.tensor([[2.0]])
    assert not mg.tensor(0)
    assert bool(mg.tensor(3) > 2)
    for x in (mg.tensor([1.0, 2.0]), mg.zeros(0)):
        says = f"bool(): a has shape {x.shape}, {x.numel()} elements; there must be exactly one. Use .all() or .any()"
        with pytest.raises(ShapeError, match=re.escape(says)):
            bool(x)


def test_numbers_come_out():
    x = mg.tensor(2.75)
    assert (float(x), int(x), x.item()) == (2.75, 2, 2.75)
    assert (f"{x:6.2f}", "%6.2f" % x, "%d" % x, f"{mg.tensor(7):03d}") == ("  2.75", "  2.75", "2", "007")  # noqa: UP031
    assert (["a", "b", "c"][mg.tensor(1)], list(range(5))[mg.tensor(1) : mg.tensor(3)]) == ("b", [1, 2])
    assert 0 + x == x
    assert (mg.tensor([[5]]).item(), float(mg.tensor([2.0]))) == (5, 2.0)
    with pytest.raises(ShapeError, match=r"item\(\): a has shape \(2,\), 2 elements; there must be exactly one"):
        mg.tensor([1.0, 2.0]).item()
    for bad in (mg.tensor(1.0), mg.tensor([1])):
        with pytest.raises(TypeError, match="only a 0-d integer tensor can be an index"):
            operator.index(bad)


def test_format_of_larger_tensors_is_that_of_their_text():
    assert f"{mg.tensor([1.0, 2.0])}" == "tensor([1., 2.])"
    assert f"{mg.tensor([1]):>14}" == "   tensor([1])"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mg.tensor([[1.0, 2.0], [3.0, 4.0]]), "tensor([[1., 2.],\n        [3., 4.]])"),
        (lambda: mg.tensor(3), "tensor(3)"),
        (lambda: mg.tensor([True, False]), "tensor([ True, False])"),
        (lambda: mg.tensor([1.5], dtype=f64), "tensor([1.5], dtype=float64)"),
        (lambda: mg.tensor([1.5], requires_grad=True), "tensor([1.5], requires_grad=True)"),
        (lambda: mg.tensor([1.5], requires_grad=True) * 2, "tensor([3.], op=mul)"),
        (lambda: mg.zeros(0, 3), "tensor([], size=(0, 3))"),
    ],
)
def test_repr(make, text):
    assert repr(make()) == text


def test_identity_is_the_hash_and_equality_is_elementwise():
    x, y = mg.tensor([1.0, 2.0]), mg.tensor([1.0, 5.0])
    assert {x: "x", y: "y"}[x] == "x"
    assert len({x, y, x}) == 2
    assert (x == y).tolist() == [True, False]
    assert (x != y).tolist() == [False, True]


def test_nothing_is_equal_to_none_or_to_a_word():
    x = mg.tensor([1.0])
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert (None == x) is False  # noqa: E711, SIM300
    assert (x == "a") is False
    assert x not in (None, "a")


def test_deepcopy_of_a_leaf():
    x = leaf([1.0, 2.0])
    (x * 3.0).backward(np.ones(2))
    other = copy.deepcopy({"a": x, "b": [x]})
    y = other["a"]
    assert y is other["b"][0]
    assert not np.shares_memory(x.data, y.data)
    assert (y.tolist(), y.grad.tolist(), y.requires_grad, y.is_leaf) == ([1, 2], [3, 3], True, True)
    y.grad.zero_()
    (y * 2.0).backward(np.ones(2))
    assert (x.grad.tolist(), y.grad.tolist()) == ([3, 3], [2, 2])
    with pytest.raises(GradError, match=r"deepcopy\(\): only leaves can be copied; .*detach\(\).clone\(\)"):
        copy.deepcopy(x * 2)


def test_pickle_keeps_the_data_and_whether_a_gradient_is_wanted():
    x = leaf([1.0, 2.0])
    p, other, again = pickle.loads(pickle.dumps([nn.Parameter(x), x.detach(), x]))
    assert isinstance(p, nn.Parameter)
    assert [(t.tolist(), t.requires_grad, t.is_leaf) for t in (p, other, again)] == [
        ([1, 2], True, True),
        ([1, 2], False, True),
        ([1, 2], True, True),
    ]


def test_sizes_are_not_data():
    with pytest.raises(TypeError, match=r"Tensor\(\): one argument is the data; for sizes use mg.empty\(2, 3\)"):
        mg.Tensor(2, 3)


def test_arrays_come_out():
    x = mg.tensor([1.0, 2.0])
    assert x.numpy() is x.data
    assert np.asarray(x, f64).dtype == f64
    assert np.array(x).tolist() == [1, 2]
    np.testing.assert_array_equal(np.stack([x.numpy(), x.numpy()]).shape, (2, 2))
    x.requires_grad_()
    for function in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(GradError, match=r"numpy\(\): this tensor requires a gradient; use .detach\(\).numpy\(\)"):
            function()
    assert x.detach().numpy().tolist() == [1, 2]
    assert x.tolist() == [1, 2]


def test_there_are_no_other_attributes():
    with pytest.raises(AttributeError):
        mg.tensor(1.0).shpae  # noqa: B018
    with pytest.raises(AttributeError):
        mg.tensor(1.0).anything = 1


# ---------------------------------------------------------------------------------------------- the rows of the table
def test_broadcasting_is_summed_back():
    """Row 1."""
    a, b, c = (leaf(np.full(s, 2.0)) for s in [(2, 3, 4), (3, 1), ()])
    g = np.arange(24.0).reshape(2, 3, 4)
    (a * b * c).backward(g)
    np.testing.assert_array_equal(a.grad.data, 4 * g)
    np.testing.assert_array_equal(b.grad.data, 4 * g.sum(axis=(0, 2))[:, None])
    assert c.grad.item() == 4 * g.sum()


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (lambda x: (lambda y: y * y + y)(x * x + x), lambda x: (2 * (x * x + x) + 1) * (2 * x + 1)),
        (lambda x: mg.ops.cat(x * 2, x * 2).sum(), lambda x: 4 + 0 * x),
        (lambda x: x - x, lambda x: 0 * x),
        (lambda x: x * 0.0, lambda x: 0 * x),
    ],
)
def test_all_paths_accumulate(function, slope):
    """Rows 2, 3 and 8."""
    x = leaf([3.0])
    function(x).backward()
    np.testing.assert_allclose(x.grad.data, slope(x.data))


def test_a_matrix_times_itself(rng):
    x = leaf(rng.standard_normal((3, 3)))
    g = rng.standard_normal((3, 3))
    (x @ x).backward(g)
    np.testing.assert_allclose(x.grad.data, g @ x.data.T + x.data.T @ g)


def test_backward_needs_one_number_or_a_gradient():
    """Rows 6 and 7."""
    x = leaf([1.0, 2.0])
    with pytest.raises(GradError, match=r"backward\(\): the shape is \(2,\); give `gradient`, or reduce to one number"):
        (x * 2).backward()
    with pytest.raises(GradError, match=r"no gradient is wanted: no leaf has requires_grad=True"):
        mg.tensor([1.0]).backward()
    with pytest.raises(ShapeError, match=r"backward\(\): the tensor has shape \(2,\), the gradient \(1, 2\)"):
        (x * 2).backward(np.ones((1, 2)))
    with pytest.raises(GradError, match="create_graph=True: minigrad computes first derivatives only"):
        x.sum().backward(create_graph=True)
    x.sum().view(1, 1).backward()
    (x * 2).backward(mg.tensor([1.0, 10.0]))
    (x * 2).backward([1, 1])
    assert x.grad.tolist() == [5, 23]


def test_unused_leaves_have_no_gradient_and_unused_pieces_zeros():
    """Rows 8 and 13."""
    x, unused = leaf(np.ones((2, 6))), leaf(1.0)
    _q, k, _v = x.split(2, dim=1)
    k.sum().backward()
    assert unused.grad is None
    assert x.grad.tolist() == [[0, 0, 1, 1, 0, 0]] * 2


def test_expand_and_permute_are_undone(rng):
    """Rows 14 and 36."""
    x = leaf([[1.0], [2.0]])
    y = x.expand(2, 3)
    assert (y.data.strides[1], y.expand(4, -1, -1).shape) == (0, (4, 2, 3))
    g = rng.standard_normal((3, 2))
    y.transpose(0, 1).contiguous().view(6).backward(g.ravel())
    np.testing.assert_allclose(x.grad.data[:, 0], g.sum(0))


def test_gradients_of_results_are_kept_on_request():
    """Row 15."""
    x = leaf(2.0)
    y = x * 3
    z = y * y
    y.retain_grad()
    x.retain_grad()
    z.backward()
    assert (y.grad.item(), z.grad, x.grad.item()) == (12, None, 36)
    assert ((x.is_leaf, x.grad_fn), (y.is_leaf, y.grad_fn.op.name)) == ((True, None), (False, "mul"))
    with pytest.raises(GradError, match=r"retain_grad\(\): this tensor does not require a gradient"):
        mg.tensor(1.0).retain_grad()


def test_who_requires_a_gradient():
    """Rows 16 and 20."""
    x = leaf([1.0, 2.0])
    y = x * 2
    for flag in (True, False):
        with pytest.raises(GradError, match=r"requires_grad_\(\): only leaves can be switched; .*detach\(\)"):
            y.requires_grad = flag
    for result in (x > 1, x == x, x.argmax(), x.long(), x.isfinite(), ~(x > 1), x.all(), x // 2):
        assert not result.requires_grad
    for make in (lambda: mg.tensor([1, 2], requires_grad=True), lambda: mg.tensor([1]).requires_grad_()):
        with pytest.raises(GradError, match=r"requires_grad_\(\): only floats have gradients, this is int64"):
            make()
    assert x.requires_grad_(False) is x
    assert not (x * 2).requires_grad
    x.requires_grad = True
    assert (x * 2).requires_grad


def test_detach_shares_memory_and_stops_the_gradient():
    """Row 18."""
    x = leaf([1.0, 2.0])
    d = (x * 2).detach()
    assert (d.requires_grad, d.is_leaf) == (False, True)
    (x * x.detach()).backward(np.ones(2))
    assert x.grad.tolist() == [1, 2]
    assert np.shares_memory(x.data, x.detach().data)


def test_views():
    """Rows 33 and 34."""
    x = mg.arange(6).view(2, 3)
    assert np.shares_memory(x.data, x.view(-1).data)
    with pytest.raises(ShapeError, match=r"view\(\): a has shape \(3, 2\), not contiguous; .*reshape\(\)"):
        x.t().view(-1)
    assert x.t().reshape(-1).tolist() == [0, 3, 1, 4, 2, 5]
    pieces = mg.arange(24).view(2, 3, 4).split(2, dim=2)
    assert [p.view(2, 3, 1, 2).shape for p in pieces] == [(2, 3, 1, 2)] * 2
    with pytest.raises(ShapeError, match="not contiguous"):
        pieces[0].view(2, 6)


SHAPES = [(24,), (4, 6), (2, 3, 4), (4, 3, 2), (2, 12), (1, 24), (2, 2, 6), (6, 1, 4), (3, 8), (2, 2, 2, 3), (24, 1)]


@given(data=st.data())
def test_a_view_is_possible_where_torch_says_so(data):
    """All strides: some dimensions swapped, every second element, one element repeated."""
    torch = oracle.torch()
    ours, theirs = mg.arange(48).view(2, 4, 6), torch.arange(48).view(2, 4, 6)
    for _ in range(data.draw(st.integers(0, 3))):
        i, j = (data.draw(st.integers(0, ours.dim() - 1)) for _ in range(2))
        step = data.draw(st.sampled_from(["swap", "skip", "repeat"]))
        if step == "swap":
            ours, theirs = ours.transpose(i, j), theirs.transpose(i, j)
        elif step == "skip":
            ours, theirs = ours[:, ::2], theirs[:, ::2]
        else:
            ours, theirs = ours[:1].expand(2, -1, -1), theirs[:1].expand(2, -1, -1)
    shape = data.draw(st.sampled_from([s for s in SHAPES if np.prod(s) == ours.numel()] or [(ours.numel(),)]))
    assert ours.is_contiguous() == theirs.is_contiguous()
    try:
        expected = theirs.view(shape)
    except RuntimeError:
        with pytest.raises(ShapeError, match=r"view\(\): .* not contiguous"):
            ours.view(shape)
    else:
        assert_same_as_torch(ours.view(shape), expected)
        assert np.shares_memory(ours.view(shape).data, ours.data)
    assert_same_as_torch(ours.reshape(shape), theirs.reshape(shape))


def test_empty_tensors():
    """Row 37."""
    x = leaf(np.zeros((0, 3)))
    x.sum().backward()
    assert (x.grad.shape, x.sum().item()) == ((0, 3), 0)
    assert np.isnan(mg.zeros(0).mean().item())
    assert (mg.zeros(2, 0) @ mg.zeros(0, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert (mg.zeros(0, 3).max(dim=1).values.shape, mg.zeros(0, 3).tolist()) == ((0,), [])


def test_max_along_a_dimension_gives_values_and_indices():
    """Row 41."""
    x = leaf([[1.0, 5.0, 5.0], [7.0, 2.0, 3.0]])
    result = x.max(dim=1)
    values, indices = result
    assert (result.values is values, result.indices is indices) == (True, True)
    assert (values.tolist(), indices.tolist(), indices.dtype) == ([5, 7], [1, 0], i64)
    values.backward(np.array([1.0, 10.0]))
    assert x.grad.tolist() == [[0, 1, 0], [10, 0, 0]]
    assert x.min(dim=0, keepdim=True).values.tolist() == [[1, 2, 3]]
    assert (x.max().item(), x.min().item(), mg.tensor(3.0).max(dim=0).values.item()) == (7, 1, 3)


def test_the_spread_is_unbiased():
    """Row 42."""
    x = mg.tensor([1.0, 2.0, 4.0])
    np.testing.assert_allclose(
        [x.std().item(), x.var().item()], [np.std(x.data, ddof=1), np.var(x.data, ddof=1)], rtol=1e-6
    )
    np.testing.assert_allclose(x.var(correction=0).item(), np.var(x.data), rtol=1e-6)


def test_sum_over_no_dimension_is_the_sum_of_everything():
    x = mg.ones(2, 3)
    assert [x.sum(dim).item() for dim in (None, (), [], (0, 1), [-1, 0])] == [6] * 5
    assert x.sum(np.int64(0)).tolist() == [2, 2, 2]


# -------------------------------------------------------------------------------------------------- methods, one by one
@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.size(),
        lambda x: (
            x.size(0),
            x.size(-1),
            x.dim(),
            x.ndim,
            x.numel(),
            x.nelement(),
            x.is_contiguous(),
            x.T.is_contiguous(),
        ),
        lambda x: x.t(),
        lambda x: x.T,
        lambda x: x.mT,
        lambda x: x.view(6),
        lambda x: x.view((3, -1)),
        lambda x: x.reshape([3, 2]),
        lambda x: x.permute(1, 0),
        lambda x: x.permute((1, 0)),
        lambda x: x.transpose(-1, 0),
        lambda x: x.unsqueeze(1),
        lambda x: x.unsqueeze(1).squeeze(),
        lambda x: x.unsqueeze(1).squeeze(1),
        lambda x: x.expand(4, -1, -1),
        lambda x: x.flatten(),
        lambda x: x.unsqueeze(0).flatten(1),
        lambda x: x.unsqueeze(0).flatten(0, 1),
        lambda x: x.flip(1),
        lambda x: x.flip((0, 1)),
        lambda x: x.roll(1, 1),
        lambda x: x.tril(-1),
        lambda x: x.triu(1),
        lambda x: x.split(2, dim=1)[1],
        lambda x: x.split([1, 2], dim=1)[1],
        lambda x: x.contiguous(),
        lambda x: x.sum(1),
        lambda x: x.sum((0, 1), keepdim=True),
        lambda x: x.mean(-1, keepdim=True),
        lambda x: x.amax(0),
        lambda x: x.amin((0, 1)),
        lambda x: x.argmax(1),
        lambda x: x.argmin(),
        lambda x: (x > 0).all(1),
        lambda x: (x > 0).any(0),
        lambda x: x.std(-1, keepdim=True),
        lambda x: x.var(0, correction=0),
        lambda x: x.logsumexp(1),
        lambda x: x.softmax(dim=-1),
        lambda x: x.log_softmax(0),
        lambda x: x.masked_fill(x > 0, -1e9),
        lambda x: x.where(x > 0, x * 2),
        lambda x: x.clamp(-0.5, 0.5),
        lambda x: x.clamp(max=0.5),
        lambda x: x.maximum(-x),
        lambda x: x.minimum(-x),
        lambda x: x.pow(2),
        lambda x: x.matmul(x.t()),
        lambda x: x.abs().sqrt() + x.exp() - x.sin() * x.cos() + x.tanh() + x.sigmoid() + x.relu(),
        lambda x: x.gather(1, (x > 0).long()),
        lambda x: x.scatter(1, (x > 0).long(), x),
        lambda x: x.clone().detach().cpu(),
        lambda x: x[:, None, ::2],
        lambda x: x[[-1]][..., [0, 2]],
        lambda x: x[x > 0],
    ],
)
def test_methods_are_those_of_torch(call, rng):
    torch = oracle.torch()
    data = rng.standard_normal((2, 3)).astype(f32)
    ours, theirs = call(mg.tensor(data)), call(torch.tensor(data))
    if isinstance(ours, mg.Tensor):
        assert_same_as_torch(ours, theirs)
    else:
        assert tuple(ours) == tuple(theirs)


def test_split_says_what_does_not_add_up():
    with pytest.raises(ShapeError, match=r"split\(\): a has shape \(2, 3\); the sizes \[1, 1\] must add up to 3"):
        mg.zeros(2, 3).split([1, 1], dim=1)


def test_attributes():
    x = mg.zeros(2, 3)
    assert (x.shape, x.dtype, x.device, x.cpu() is x, x.contiguous() is x) == ((2, 3), f32, "cpu", True, True)


def test_a_tensor_cannot_be_pickled_with_its_graph():
    with pytest.raises(TypeError, match=r"pickle: only leaves can be pickled; .* Use .detach\(\)"):
        pickle.dumps(leaf(1.0) * 2)
