"""Writing in place: the right gradient or an error, never a wrong gradient."""

import functools
import operator
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad.core import DTypeError, GradError, ShapeError, writes
from minigrad.op import Op
from tests.graphs import leaf

inf = np.inf


# ---------------------------------------------------------------------------------------------------------- on leaves
@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1.0),
        lambda x: x.mul_(2.0),
        lambda x: x.fill_(0.0),
        lambda x: x.zero_(),
        lambda x: x.copy_(mg.ones(3)),
        lambda x: x.clamp_(min=1.5),
        lambda x: x.masked_fill_(mg.tensor([True, False, False]), 7.0),
        lambda x: x.scatter_(0, mg.tensor([0]), 7.0),
        lambda x: operator.iadd(x, 1.0),
        lambda x: operator.setitem(x, 0, 5.0),
        lambda x: operator.setitem(x, x < 5, 5.0),
    ],
)
def test_a_leaf_that_wants_a_gradient_is_not_written(write):
    x = leaf([1.0, 2.0, 3.0])
    with pytest.raises(GradError, match=r"in place: a leaf that requires a gradient; do it within no_grad\(\)"):
        write(x)
    assert x.tolist() == [1, 2, 3]
    with mg.no_grad():
        write(x)
    assert x.tolist() != [1, 2, 3]
    assert x.is_leaf
    assert x.requires_grad
    g = np.array([1.0, -2.0, 0.5])
    (x * x).backward(g)
    np.testing.assert_array_equal(x.grad.data, 2 * x.data * g)


def test_a_step_of_gradient_descent():
    x = leaf([1.0, 2.0])
    for _ in range(3):
        x.grad = None
        (x * x).backward(np.array([1.0, 0.5]))  # the gradient of x_0^2 + x_1^2 / 2
        with mg.no_grad():
            x -= 0.25 * x.grad
    assert x.tolist() == [0.125, 0.84375]
    assert x.is_leaf
    assert x.requires_grad


def test_the_array_itself_can_be_written_but_not_with_a_tensor():
    """`x.data -= lr * x.grad` would put a Tensor where the array was; NumPy is told to refuse."""
    x = leaf([1.0, 2.0])
    (x * x).backward(np.array([1.0, -3.0]))
    with pytest.raises(TypeError, match="operand 'Tensor' does not support ufuncs"):
        x.data -= 0.25 * x.grad
    x.data -= 0.25 * x.grad.data
    assert x.tolist() == [0.5, 5]
    assert x.is_leaf


def test_a_leaf_without_gradient_becomes_part_of_the_graph():
    """Rows filled one by one, as in out = zeros(...); out[i] = f(x)."""
    x, out = leaf([1.0, 2.0]), mg.zeros(2, 2, dtype=np.float64)
    for i in range(2):
        out[i] = x * float(i + 1)
    out.backward(np.array([[1.0, 1.0], [10.0, 100.0]]))
    assert (out.tolist(), x.grad.tolist()) == ([[1, 2], [2, 4]], [21, 201])


# --------------------------------------------------------------------------------------------------------- on results
def test_writing_is_part_of_the_graph():
    x = leaf(5.0)
    y = x * 2
    y.mul_(3)
    y.add_(x)
    y.backward()
    assert (y.item(), x.grad.item()) == (35, 7)


def test_augmented_assignment_is_part_of_the_graph():
    x = leaf(5.0)
    y = x * 2
    same = y
    y += x
    assert same is y
    y.backward()
    assert x.grad.item() == 3


@pytest.mark.parametrize(
    ("write", "slope"),
    [
        (lambda y, w: y.add_(w), lambda x, w: (2, 1)),
        (lambda y, w: y.sub_(w), lambda x, w: (2, -1)),
        (lambda y, w: y.mul_(w), lambda x, w: (2 * w, 2 * x)),
        (lambda y, w: y.div_(w), lambda x, w: (2 / w, -2 * x / w**2)),
        (lambda y, w: y.pow_(2.0), lambda x, w: (8 * x, None)),
        (lambda y, w: y.clamp_(max=5.0), lambda x, w: (2 * (2 * x <= 5), None)),
        (lambda y, w: y.masked_fill_(mg.tensor([True, False]), 0.0), lambda x, w: ([0, 2], None)),
        (lambda y, w: y.copy_(w), lambda x, w: (0, 1)),
        (lambda y, w: y.fill_(3.0), lambda x, w: (0, None)),
        (lambda y, w: operator.setitem(y, 1, w[1]), lambda x, w: ([2, 0], [0, 1])),
        (lambda y, w: y.scatter_(0, mg.tensor([1]), w[:1]), lambda x, w: ([2, 0], [10, 0])),
    ],
)
def test_in_place_methods_on_a_result(write, slope):
    x, w = leaf([1.0, 3.0]), leaf([4.0, 7.0])
    y = x * 2
    c = y * 1.0
    write(y, w)
    g = np.array([1.0, 10.0])
    y.backward(g, retain_graph=True)
    for tensor, expected in zip((x, w), slope(x.data, w.data), strict=True):
        if expected is None:
            assert tensor.grad is None
        else:
            np.testing.assert_allclose(tensor.grad.data, g * expected)
    x.grad = None
    c.backward(g)  # what was made before the write knows nothing of it
    np.testing.assert_allclose(x.grad.data, 2 * g)


def test_setitem_forms():
    x, v = leaf(np.arange(12.0).reshape(3, 4)), leaf([10.0, 20.0])
    y = x.clone()
    y[1] = 0.0
    y[..., 3] = -inf
    y[0, :2] = v
    y[y < 5] = 5.0
    y[[2, 2], [0, 1]] = v
    y[mg.tensor([0, 2])] = y[mg.tensor([2, 0])]
    y[2:, None, 1:2] = 7
    before = [[10, 20, 10, 5], [5, 5, 5, 5], [10, 7, 5, 5]]
    assert y.tolist() == before
    g = np.arange(1.0, 13.0).reshape(3, 4)
    y.backward(g)
    assert v.grad.tolist() == [1 + 9, 2]
    assert x.grad.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 3, 0]]


def test_minus_infinity_in_place_leaves_finite_gradients_elsewhere():
    x = leaf([1.0, 7.0, 9.0])
    y = x.clone()
    y[y < 5] = -inf
    y.softmax(-1).backward(np.array([1.0, 2.0, 3.0]))
    assert x.grad[0].item() == 0
    assert np.isfinite(x.grad.data).all()


def test_fill_keeps_all_digits():
    x = mg.zeros(2, dtype=np.float64)
    x.fill_(0.1)
    assert x.tolist() == [0.1, 0.1]
    x[0] = 0.3
    assert x[0].item() == 0.3
    assert x.fill_(mg.tensor(2)).tolist() == [2, 2]


def test_writing_needs_the_right_shape_and_dtype():
    y, i = mg.zeros(3), mg.tensor([1, 2, 3])
    with pytest.raises(ShapeError, match=r"in place: the tensor has shape \(3,\), the result \(2, 3\)"):
        y.add_(mg.ones(2, 3))
    with pytest.raises(ShapeError, match=r"index_put\(\): a has shape \(3,\), value has shape \(2,\)"):
        y.copy_(mg.ones(2))
    with pytest.raises(DTypeError, match="in place: a result of dtype float32 does not fit into int64"):
        i.div_(2)
    with pytest.raises(DTypeError, match="in place: a result of dtype float32 does not fit into int64"):
        i += 0.5
    assert (y.tolist(), i.tolist()) == ([0, 0, 0], [1, 2, 3])
    y += mg.ones(3, dtype=np.float64)
    assert y.dtype == np.float32


def test_what_is_expanded_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        mg.zeros(3, 1).expand(3, 4).add_(1.0)


def test_retain_grad_means_the_value_as_it_is_now():
    x = leaf(2.0)
    y = x * 3
    y.retain_grad()
    y.mul_(5.0)
    (y * 7).backward()
    assert (y.grad.item(), x.grad.item()) == (7, 105)


# ------------------------------------------------------------------------------------------------- saved, then written
def const(data):
    return mg.tensor(data, dtype=np.float64)


def saved_output():
    x = leaf([1.0, 2.0])
    y = x.exp()
    z = y.sum()
    y.add_(1)
    return z


def saved_input():
    w, c = leaf([1.0, 2.0]), const([3.0, 4.0])
    z = w * c
    c.mul_(2)
    return z


def saved_leaf_written_without_grad():
    w, x = leaf([[1.0]]), leaf([[2.0]])
    z = x @ w
    with mg.no_grad():
        w.fill_(0.0)
    return z


def saved_view_of_what_is_written():
    x, c = leaf([1.0, 2.0]), const([[3.0, 4.0], [5.0, 6.0]])
    z = x * c[1]
    c[1, 0] = 0.0
    return z


def saved_base_of_what_is_written():
    x, c = leaf([1.0, 2.0, 3.0, 4.0]), const([[3.0, 4.0], [5.0, 6.0]])
    z = x * c.view(-1)
    c.T[0].fill_(0.0)
    return z


def saved_index():
    x, i = leaf([1.0, 2.0]), mg.tensor([0, 0])
    z = x[i]
    i[0] = 1
    return z


def saved_in_a_fused_op():
    x = leaf(np.ones((1, 1, 2, 2)))
    k = mg.ones(1, 1, 2, 2, dtype=np.float64)
    z = mg.ops.scaled_dot_product_attention(x, k, k)
    k.zero_()
    return z


def saved_by_a_one_dimensional_matmul():
    x, c = leaf([1.0, 2.0]), const([3.0, 4.0])
    z = x @ c
    c.zero_()
    return z


def multiplied_by_itself():
    y = leaf([1.0, 2.0]) * 1.0
    y.mul_(y)
    return y


def stamped_by_hand():
    x, c = leaf([1.0, 2.0]), const([3.0, 4.0])
    z = x * c
    c.data[0] = 7.0  # NumPy does not tell us; an optimizer does
    writes.stamp(c.data)
    return z


@pytest.mark.parametrize(
    "program",
    [
        saved_output,
        saved_input,
        saved_leaf_written_without_grad,
        saved_view_of_what_is_written,
        saved_base_of_what_is_written,
        saved_index,
        saved_in_a_fused_op,
        saved_by_a_one_dimensional_matmul,
        multiplied_by_itself,
        stamped_by_hand,
    ],
)
def test_what_backward_needs_must_not_have_been_written(program):
    z = program()
    with pytest.raises(GradError, match=r"\(\) needs an array of shape .* modified in place since. .*clone\(\)"):
        z.backward(np.ones(z.shape))


def test_writing_what_nobody_needs_is_fine():
    x, c = leaf([1.0, 2.0]), const([3.0, 4.0])
    y = x + c  # a sum needs neither
    c.zero_()
    z = y * 2.0
    y.zero_()  # a multiple does not need what it multiplied
    scaled = const([5.0, 5.0]) * x
    with mg.no_grad():
        x.fill_(9.0)  # nobody wants the gradient of the constant, for which x would be needed
    (z + scaled).backward(np.ones(2))
    assert x.grad.tolist() == [7, 7]


def test_an_error_in_backward_comes_before_any_wrong_number():
    x, c = leaf([1.0]), const([3.0])
    y = (x * c).exp()
    c.zero_()
    with pytest.raises(GradError, match=r"mul\(\) needs an array"):
        y.backward(np.ones(1))
    assert x.grad is None


def test_memory_that_is_gone_is_forgotten():
    before = len(writes.stamps)
    tensors = [mg.zeros(3).add_(1.0) for _ in range(10)]
    assert len(writes.stamps) >= before + 10
    del tensors
    assert len(writes.stamps) <= before


# ----------------------------------------------------------------------------------------------- views and their bases
def test_views_share_memory():
    x = mg.zeros(2, 3)
    x.view(-1)[0] = 9.0
    x[:, 2].add_(1.0)
    x.T[1].fill_(5.0)
    assert x.tolist() == [[9, 5, 1], [0, 5, 1]]


def test_a_view_taken_before_the_write_is_stale():
    x = leaf([1.0, 2.0])
    y = x * 2
    view = y[0]
    y.mul_(3)
    for use in (lambda: view * 2, lambda: view.backward(), lambda: view.sum()):
        with pytest.raises(
            GradError, match=r"index\(\): its result, of shape \(\), was modified in place through another"
        ):
            use()
    assert view.item() == 6
    y[0].backward()
    assert x.grad.tolist() == [6, 0]


def test_a_view_of_a_result_is_not_written():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    y = x * 2
    for view in (y[0], y.view(-1), y.T, y.reshape(4), y[:, 1], y.unsqueeze(0), y.transpose(0, 1)):
        with pytest.raises(GradError, match="in place: the memory is that of another tensor, too"):
            view.mul_(10)
    assert y.tolist() == [[2, 4], [6, 8]]


def test_a_view_whose_base_is_gone_is_written():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    y = (x * 2).view(-1)
    y[0] = 0.0
    y.mul_(3.0)
    chosen = x[[0, 0]]  # a copy, although indexing can be a view
    chosen.add_(1.0)
    (y.sum() + chosen.sum()).backward()
    assert x.grad.tolist() == [[2, 8], [6, 6]]


def test_a_gradient_does_not_enter_memory_that_is_shared():
    """The base, which has no node, would not know that its elements depend on x."""
    x, base = leaf([1.0, 2.0]), mg.zeros(2, 2, dtype=np.float64)
    row = base[0]
    for write in (lambda: row.copy_(x), lambda: operator.setitem(base, 1, x), lambda: base.detach().add_(x)):
        with pytest.raises(GradError, match="in place: the memory is that of another tensor, too"):
            write()
    assert base.tolist() == [[0, 0], [0, 0]]
    alone = mg.zeros(2).view(2)  # a view, but of memory that nobody else holds
    twin = alone.detach()
    with pytest.raises(GradError, match="in place: the memory is that of another"):
        alone.add_(x)
    del twin
    assert alone.add_(x).tolist() == [1, 2]
    array = np.zeros(2)
    with pytest.raises(GradError, match="in place: the memory is that of another"):
        mg.from_numpy(array).add_(x)
    with mg.no_grad():
        row.copy_(x)
    assert base.tolist() == [[1, 2], [0, 0]]


def test_writing_through_detach_is_noticed():
    x = leaf([1.0, 2.0])
    y = x * 2
    y.detach().mul_(3)
    assert y.tolist() == [6, 12]
    with pytest.raises(GradError, match="was modified in place through another tensor"):
        y.sum()


def test_copying_from_itself():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    y = x * 1.0
    y.copy_(y[0])
    y[1] = y[0] * 2.0
    y.backward(np.array([[1.0, 1.0], [10.0, 10.0]]))
    assert (y.tolist(), x.grad.tolist()) == ([[1, 2], [2, 4]], [[21, 21], [0, 0]])


@pytest.mark.parametrize("keep", ["default", "keyword default", "partial", "method"])
def test_a_product_may_keep_its_arrays_in_any_way(keep, monkeypatch):
    monkeypatch.setattr("minigrad.op.registry", {})

    def product(g, x):
        return 2 * g * x

    def square(x):
        kept = {
            "default": lambda g, x=x: product(g, x),
            "keyword default": lambda g, *, x=x: product(g, x),
            "partial": functools.partial(product, x=x),
            "method": x.__rmul__,
        }
        return x * x, kept[keep]

    h = mg.tensor([3.0], requires_grad=True) * 1
    y = Op(square)(h)
    h.add_(10)
    with pytest.raises(GradError, match="modified in place"):
        y.backward()


def test_a_later_write_of_another_thread_is_not_taken_back(monkeypatch):
    x, y = np.zeros(1), np.zeros(1)
    other = threading.Thread(target=lambda: writes.stamp(y))

    class Clock:
        """Lets the other thread run at the worst moment: after the time was read, before it is noted."""

        def __init__(self):
            self.times = iter(range(10**9, 10**9 + 9))

        def __next__(self):
            now = next(self.times)
            if now == 10**9:
                other.start()
                other.join(0.2)
            return now

    monkeypatch.setattr("minigrad.writes.clock", Clock())
    before = writes.latest
    try:
        writes.stamp(x)
        other.join()
        assert writes.latest == 10**9 + 1
        assert writes.since(y, 10**9)
        assert not writes.since(x, 10**9)
    finally:
        writes.latest = before
