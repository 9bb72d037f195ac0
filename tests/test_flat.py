"""Parameters, gradients and the optimiser's state side by side, without anybody noticing."""

import copy
import gc
import pickle
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.core import writes
from minigrad.flat import ALIGNMENT, Flat, _views, joined


def tensors(rng, *shapes, dtype=np.float32):
    return [mg.tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in shapes]


SHAPES = [(3, 4), (), (5,), (2, 0), (17, 3), (1,)]


# ---------------------------------------------------------------------------------------------------------- the memory
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_data_keep_their_values_and_share_one_memory(dtype, rng):
    xs = tensors(rng, *SHAPES, dtype=dtype)
    before = [x.data.copy() for x in xs]
    flat = Flat(xs)
    for x, value, start in zip(xs, before, flat.starts, strict=False):
        np.testing.assert_array_equal(x.data, value)
        assert x.data.shape == value.shape
        assert x.data.flags.writeable
        if x.data.size:
            assert x.data.ctypes.data == flat.data.ctypes.data + start * x.data.itemsize
            assert x.data.ctypes.data % ALIGNMENT == 0
    flat.data[:] = 7
    assert all((x.data == 7).all() for x in xs)


def test_writing_to_one_is_not_writing_to_its_neighbour(rng):
    a, b = tensors(rng, (4,), (4,))
    Flat([a, b])
    y = a * a
    with mg.no_grad():
        b += 1
    y.backward(mg.ones(4))  # needs a as it was
    y = a * a
    with mg.no_grad():
        a += 1
    with pytest.raises(mg.GradError, match="modified in place"):
        y.backward(mg.ones(4))


def test_gradients_arrive_in_the_flat_memory(rng):
    xs = tensors(rng, (3, 4), (5,))
    flat, gs = Flat(xs), [rng.standard_normal((3, 4)).astype("f4"), rng.standard_normal(5).astype("f4")]
    for x, g in zip(xs, gs, strict=True):
        (x * 2).backward(g)
    for i, g in enumerate(gs):
        np.testing.assert_array_equal(flat.view(flat.grad, i), 2 * g)
        assert np.shares_memory(xs[i].grad.data, flat.grad)


def test_a_gradient_that_somebody_kept_is_not_overwritten(rng):
    (x,) = tensors(rng, (6,))
    Flat([x])
    first, second = rng.standard_normal((2, 6)).astype("f4")
    for keep in (lambda: x.grad, lambda: x.grad.data, lambda: x.grad.data[1:], lambda: x.grad.numpy().reshape(2, 3)):
        x.grad = None
        (x * 1).backward(first)
        kept = keep()
        value = np.array(kept.data if isinstance(kept, mg.Tensor) else kept)
        x.grad = None
        (x * 1).backward(second)
        np.testing.assert_array_equal(kept.data if isinstance(kept, mg.Tensor) else kept, value)
        np.testing.assert_array_equal(x.grad.data, second)
        del kept


def test_gradients_add_up_over_several_backward_passes(rng):
    (x,) = tensors(rng, (6,))
    Flat([x])
    gs = rng.standard_normal((3, 6)).astype("f4")
    for g in gs:
        (x * 1).backward(g)
    np.testing.assert_allclose(x.grad.data, gs.sum(0), rtol=1e-6)


def test_what_was_put_elsewhere_is_taken_in_again(rng):
    a, b = tensors(rng, (3,), (4,))
    flat = Flat([a, b])
    data, grad = rng.standard_normal((2, 4)).astype("f4")
    b.data, b.grad = data, mg.tensor(grad)
    flat.gather()
    np.testing.assert_array_equal(flat.view(flat.data, 1), data)
    np.testing.assert_array_equal(flat.view(flat.grad, 1), grad)
    assert np.shares_memory(b.data, flat.data)
    np.testing.assert_array_equal(b.data, data)


def test_a_single_tensor_stays_where_it_is(rng):
    (x,) = tensors(rng, (3, 4))
    memory = x.data
    flat = Flat([x])
    assert x.data is memory
    assert np.shares_memory(flat.data, memory)


def test_stretches_are_runs_of_equal_keys(rng):
    flat = Flat(tensors(rng, (3,), (20,), (4,), (5,), (6,)))
    runs = list(flat.stretches([1, 1, None, 2, 1]))
    assert [run for run, _ in runs] == [slice(0, 2), slice(3, 4), slice(4, 5)]
    assert [(part.start, part.stop) for _, part in runs] == [(0, 48), (64, 80), (80, 96)]


def test_neighbours_are_joined_and_others_are_not(rng):
    xs, (alone,) = tensors(rng, (3,), (20,), (4, 5)), tensors(rng, (7,))
    flat = Flat(xs)
    arrays = [flat.view(flat.grad, i) for i in (0, 1)] + [alone.data] + [flat.view(flat.grad, 2)]
    flat.grad[:] = np.arange(flat.grad.size)
    first, other, last = joined(arrays)
    assert (first.size, last.size) == (16 + 20, 20)
    assert other is alone.data
    np.testing.assert_array_equal(first[16:], arrays[1])
    np.testing.assert_array_equal(last, arrays[3].ravel())
    last[:] = -1
    assert (arrays[3] == -1).all()
    backwards = joined(arrays[1::-1])  # neighbours, but in another order
    assert [x.size for x in backwards] == [20, 3]
    np.testing.assert_array_equal(backwards[1], arrays[0])


def test_what_is_known_of_a_view_goes_with_it(rng):
    gc.collect()
    before = len(_views)
    p = tensors(rng, (3,), (4,))
    optimizer = optim.Adam(p)
    for x in p:
        (x * 2).backward(mg.ones_like(x))
    optimizer.step()
    assert len(_views) == before + 2 * 4  # data, gradient and two averages of each
    del p, x, optimizer
    gc.collect()
    assert len(_views) == before


def test_a_part_or_a_copy_of_a_gradient_is_not_taken_for_all_of_it(rng):
    xs = tensors(rng, (3, 4), (5,))
    Flat(xs)
    for x in xs:
        (x * 2).backward(mg.ones_like(x))
    arrays = [xs[0].grad.data[1:], xs[1].grad.data.copy(), xs[1].grad.data]
    for array, piece in zip(arrays, joined(arrays), strict=True):
        assert np.shares_memory(array, piece)
        np.testing.assert_array_equal(array.ravel(), piece.ravel())


# ------------------------------------------------------------------------------------------------------- the optimiser
def test_the_optimiser_moves_what_nobody_else_looks_into(rng):
    model = nn.Linear(3, 2)
    watched = model.bias.data
    optim.Adam(model.parameters())
    assert model.bias.data is watched
    model.weight.grad = mg.tensor(rng.standard_normal((2, 3)).astype("f4"))
    model.bias.grad = mg.tensor(rng.standard_normal(2).astype("f4"))
    before = watched.copy()
    optim.Adam(model.parameters(), lr=0.5).step()
    assert not np.array_equal(watched, before)  # it is still the parameter


def test_parameters_without_gradient_split_the_run(rng):
    one_by_one = [nn.Parameter(mg.tensor(rng.standard_normal(5).astype("f4"))) for _ in range(4)]
    together = [nn.Parameter(p.detach().clone()) for p in one_by_one]
    joint, alone = optim.Adam(together, lr=0.1), [optim.Adam([p], lr=0.1) for p in one_by_one]
    for step in range(4):
        for i in range(4):
            g = mg.tensor(rng.standard_normal(5).astype("f4"))
            together[i].grad, one_by_one[i].grad = (g, g.clone()) if (step + i) % 3 else (None, None)
        joint.step()
        for optimizer in alone:
            optimizer.step()
    for p, q in zip(together, one_by_one, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    assert [joint.state[p]["step"] for p in together] == [alone[i].state[one_by_one[i]]["step"] for i in range(4)]


def test_two_optimisers_of_the_same_parameters_do_not_lose_anything(rng):
    p = [nn.Parameter(mg.zeros(3)), nn.Parameter(mg.zeros(4))]
    first, second = optim.SGD(p, lr=1.0), optim.SGD(p, lr=10.0)
    for optimizer in (first, second, first):
        for x in p:
            x.grad = mg.ones_like(x)
        optimizer.step()
    assert all((x.data == -12).all() for x in p)


def test_a_model_is_freed_with_its_optimiser(rng):
    import weakref

    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters())
    (model(mg.ones(1, 3))).backward(mg.ones(1, 2))
    optimizer.step()
    memory = weakref.ref(optimizer.flats[0][0])
    del model, optimizer
    gc.collect()
    assert memory() is None
    assert len(writes.stamps) < 100_000


# --------------------------------------------------------------------------------------------------------- freed memory
CODE = """
import os
if {opt_out}: os.environ["MINIGRAD_KEEP_MEMORY"] = "0"
import numpy as np, resource
import minigrad
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step(): xs = [np.ones(1 << 18, np.float32) for _ in range(20)]
step(); step()
before = faults()
for _ in range(5): step()
print(faults() - before)
"""


def page_faults(opt_out):
    code = CODE.format(opt_out=opt_out)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_kept_unless_told_otherwise():
    from minigrad.memory import keep_freed_memory

    if not keep_freed_memory():
        pytest.skip("not glibc, or MINIGRAD_KEEP_MEMORY=0")
    assert page_faults(opt_out=False) < 100  # of 4 KiB; the arrays have 25,600 pages
    assert page_faults(opt_out=True) > 10_000


# ------------------------------------------------------------------------------------------- what a review found wrong
def test_two_adams_each_move_the_parameter_with_gradients_of_a_backward_pass():
    p = nn.Parameter(mg.zeros(3))
    first, second = optim.Adam([p], lr=0.1), optim.Adam([p], lr=0.0)
    (p * 2).backward(mg.ones(3))
    first.step()
    np.testing.assert_allclose(p.data, -0.1, rtol=1e-5)
    second.step()
    assert (second.state[p]["exp_avg"] != 0).all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_of_an_optimiser_moves_the_copies_of_its_parameters(copied, rng):
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    x, g = mg.tensor(rng.standard_normal((4, 3)).astype("f4")), rng.standard_normal((4, 2)).astype("f4")

    def step(model, optimizer):
        optimizer.zero_grad()
        model(x).backward(g)
        optimizer.step()

    step(model, optimizer)
    model2, optimizer2 = copied((model, optimizer))
    for _ in range(3):
        step(model, optimizer)
        step(model2, optimizer2)
    np.testing.assert_array_equal(model.weight.data, model2.weight.data)
    assert not np.shares_memory(model.weight.data, model2.weight.data)


def test_a_gradient_of_nan_is_not_left_behind_between_the_others():
    ps = [nn.Parameter(mg.ones(3)), nn.Parameter(mg.ones(5))]
    optimizer = optim.SGD(ps, lr=0.0)
    for factor in (np.nan, 1.0):
        optimizer.zero_grad()
        for p in ps:
            (p * factor).backward(mg.ones_like(p))
        norm = nn.utils.clip_grad_norm_(ps, 1.0).item()
    assert norm == pytest.approx(np.sqrt(8))


def test_steps_leave_the_gradients_alone_that_somebody_keeps():
    p = nn.Parameter(mg.zeros(2))
    for optimizer in (optim.SGD([p], lr=0.1), optim.Adam([p])):
        kept = []
        for i in range(5):
            optimizer.zero_grad()
            (p * float(i)).backward(mg.ones(2))
            kept.append(p.grad)
            optimizer.step()
        assert [g.tolist() for g in kept] == [[i, i] for i in range(5)]


def test_parameters_may_change_their_dtype_and_groups_their_parameters():
    p, q = nn.Parameter(mg.zeros(3)), nn.Parameter(mg.zeros(3))
    optimizer = optim.SGD([p, q], lr=1.0)

    def step():
        optimizer.zero_grad()
        for x in (p, q):
            (x * 1).backward(mg.ones_like(x))
        optimizer.step()

    p.data = p.data.astype(np.float64)
    p.requires_grad_(False).requires_grad_()
    step()
    assert p.dtype == np.float64
    assert p.tolist() == q.tolist() == [-1, -1, -1]
    optimizer.param_groups[0]["params"] = [p]
    step()
    assert (p.tolist(), q.tolist()) == ([-2, -2, -2], [-1, -1, -1])


def test_a_group_may_be_taken_away():
    p, q = nn.Parameter(mg.zeros(3)), nn.Parameter(mg.zeros(3))
    optimizer = optim.SGD([{"params": [p]}, {"params": [q]}], lr=1.0)
    del optimizer.param_groups[0]
    p.grad, q.grad = mg.ones(3), mg.ones(3)
    optimizer.step()
    assert (p.tolist(), q.tolist()) == ([0, 0, 0], [-1, -1, -1])


# -------------------------------------------------------------------------------------------------- memory of others
def two_parameters(lr=0.0):
    a, b = nn.Parameter(mg.tensor([1.0, 1.0])), nn.Parameter(mg.tensor([2.0, 2.0]))
    return a, b, optim.SGD([a, b], lr=lr)


def test_parameters_that_exchange_their_arrays_keep_them():
    a, b, optimizer = two_parameters()
    a.data, b.data = b.data, a.data
    a.grad = mg.tensor([0.0, 0.0])
    optimizer.step()
    assert (a.tolist(), b.tolist()) == ([2, 2], [1, 1])


def test_weights_that_somebody_has_set_aside_are_not_written():
    a, _, optimizer = two_parameters(lr=1.0)
    aside, view, detached = a.data, a.data[:1], a.detach()
    a.data = a.data * 5
    a.grad = mg.tensor([1.0, 1.0])
    optimizer.step()
    assert a.tolist() == [4, 4]
    assert (aside.tolist(), view.tolist(), detached.tolist()) == ([1, 1], [1], [1, 1])


def test_weights_that_a_graph_has_saved_are_not_written():
    a, b, optimizer = two_parameters()
    y = (a * a).sum()
    a.data = np.full(2, 5, np.float32)
    b.grad = mg.tensor([0.0, 0.0])
    optimizer.step()
    y.backward()
    assert a.grad.tolist() == [2, 2]  # as a was in the forward pass


def test_weights_come_back_to_a_place_that_nobody_holds():
    a, _, optimizer = two_parameters(lr=1.0)
    memory = optimizer.flats[0][0].data
    for _ in range(2):
        a.data = np.full(2, 5, np.float32)
        a.grad = mg.tensor([1.0, 1.0])
        optimizer.step()
        assert a.tolist() == [4, 4]
        assert optimizer.flats[0][0].data is memory
        assert np.shares_memory(a.data, memory)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_of_an_optimiser_takes_further_groups(copied):
    a, b, _ = two_parameters()
    optimizer = copied(optim.Adam([{"params": [a]}, {"params": [b]}], lr=0.5))
    optimizer.add_param_group({"params": [nn.Parameter(mg.tensor([3.0]))]})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for p in parameters:
        p.grad = mg.ones(*p.shape)
    optimizer.step()
    assert [np.round(p.data, 4).tolist() for p in parameters] == [[0.5, 0.5], [1.5, 1.5], [2.5]]


def test_the_state_of_another_shape_is_an_error():
    p = nn.Parameter(mg.tensor([1.0, 2.0]))
    optimizer = optim.Adam([p])
    p.grad = mg.ones(2)
    optimizer.step()
    p.data, p.grad = np.zeros((3, 2), np.float32), mg.ones(3, 2)
    with pytest.raises(mg.ShapeError, match=r"Adam\.step\(\): a parameter has shape \(3, 2\), its exp_avg \(2,\)"):
        optimizer.step()
