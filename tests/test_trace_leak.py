"""Trails: what was done, where in the source, what an operation sends back, and the shortest way of a change."""

import linecache

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.trace.leak import Trail, changes, differ, following, number_of


class Halves(nn.Module):
    def forward(self, x):
        return (x * 0.5).exp()


def test_an_operation_knows_op_module_source_and_value():
    x, halves = mg.tensor([1.0, 2.0], requires_grad=True), Halves()
    with following() as trail:
        y = halves(x)
    assert [operation.op for operation in trail.operations.values()] == ["mul", "exp"]
    assert list(trail.operations)[-1] == number_of(y)
    operation = trail.operations[number_of(y)]
    assert operation.module is halves
    np.testing.assert_array_equal(operation.value, y.data)
    (line,) = operation.lines  # only what is inside the outermost call of minigrad
    assert (line.function, line.package) == ("forward", "tests")
    assert "(x * 0.5).exp()" in linecache.getline(line.file, line.line)


def test_outside_of_modules_the_line_is_that_of_the_caller():
    x = mg.tensor([1.0], requires_grad=True)
    with following() as trail:
        x.exp()
    (operation,) = trail.operations.values()
    assert [line.function for line in operation.lines] == ["test_outside_of_modules_the_line_is_that_of_the_caller"]
    assert operation.module is None


def test_arrays_outside_of_the_graph_are_kept_by_name():
    scores, mask = mg.tensor([[1.0, 2.0]], requires_grad=True), np.array([[True, False]])
    with following() as trail:
        mg.ops.masked_softmax(scores, mg.from_numpy(mask))
    (operation,) = trail.operations.values()
    assert list(operation.constants) == ["mask"]
    np.testing.assert_array_equal(operation.constants["mask"], mask)


def test_nothing_is_written_outside_and_numbers_do_not_change(rng):
    def run():
        x = mg.tensor(start, requires_grad=True)
        y = (x @ x.T).softmax(-1)
        y.backward(cotangent)
        return x.grad.data

    start, cotangent = rng.standard_normal((2, 3, 3))
    plain = run()
    with following() as trail:
        followed = run()
    np.testing.assert_array_equal(plain, followed)
    count = len(trail.operations)
    run()
    assert len(trail.operations) == count > 0


def test_what_an_operation_sends_back():
    a, b = (mg.tensor(np.ones((2, 3)), requires_grad=True) for _ in "ab")
    with following() as trail:
        y = a @ b.T  # y[i, j] needs row i of a and row j of b
    one = np.zeros((2, 2))
    one[0, 1] = 1.0
    arrived = trail.back(number_of(y), one)
    transposed = trail.parents(number_of(y))[1]
    assert trail.parents(number_of(y)) == (number_of(a), transposed)
    np.testing.assert_array_equal(arrived[number_of(a)], [[True] * 3, [False] * 3])
    np.testing.assert_array_equal(arrived[transposed], [[False, True]] * 3)
    assert trail.back(number_of(a), np.ones((2, 3))) == {}
    assert trail.parents(number_of(a)) == ()


def test_an_input_used_twice_gets_both():
    a = mg.tensor(np.ones((2, 2)), requires_grad=True)
    with following() as trail:
        y = a @ a
    arrived = trail.back(number_of(y), np.array([[0.0, 1.0], [0.0, 0.0]]))  # row 0, and column 1
    np.testing.assert_array_equal(arrived[number_of(a)], [[True, True], [False, True]])


@pytest.mark.parametrize("turned", [False, True])
def test_the_way_is_the_shortest_and_only_where_something_travels(turned):
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with following() as trail:
        long, short = (-x.exp()).sin(), x.abs()
        y = short + long if turned else long + short
        y.backward(np.array([1.0, 0.0]), retain_graph=True)
    knows = {number: {"knows": np.array([True, False])} for number in (number_of(x), *trail.operations)}
    way = trail.way(number_of(x), number_of(y), knows)
    assert [trail.operations[number].op for number, _ in way[1:]] == ["abs", "add"]
    del knows[number_of(short)]
    way = trail.way(number_of(x), number_of(y), knows)
    assert [trail.operations[number].op for number, _ in way[1:]] == ["exp", "neg", "sin", "add"]
    del knows[number_of(long)]
    assert trail.way(number_of(x), number_of(y), knows) == []


def test_a_way_stays_with_its_elements():
    """Element 0 of the result comes from element 1 through the flip, not through the addition."""
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with following() as trail:
        turned = x.exp().flip(0)
        y = x + turned
        y.backward(np.array([1.0, 0.0]), retain_graph=True)
    first, second = np.array([True, False]), np.array([False, True])
    groups = {number: {0: first, 1: second} for number in trail.operations} | {number_of(x): {1: second}}
    way = trail.way(number_of(x), number_of(y), groups)
    assert [(trail.operations[number].op, label) for number, label in way[1:]] == [("exp", 1), ("flip", 0), ("add", 0)]


def test_changes_are_bit_for_bit_and_steps_must_be_the_same():
    def run(*numbers, op="exp"):
        with following() as trail:
            getattr(mg.tensor(numbers, requires_grad=True), op)()
        return trail

    ((_, changed),) = changes(run(1.0, 2.0), run(1.0, np.nextafter(2.0, 3.0))).items()
    np.testing.assert_array_equal(changed[:1], [False])
    for other in (run(1.0), run(1.0, 2.0, op="sin"), Trail()):
        with pytest.raises(ValueError, match="did not take the same steps"):
            changes(run(1.0, 2.0), other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_differences_of_single_bits(dtype):
    one = np.array(1, dtype)
    assert differ(one, np.nextafter(one, dtype(2)))
    assert not differ(one, one.copy())
    a = np.array([[0.0, np.nan, np.inf]], dtype).T
    np.testing.assert_array_equal(differ(a, a.copy()), [[False]] * 3)
    assert differ(a, -a)[0, 0]


def test_a_tensor_outside_of_every_graph_has_no_number():
    assert number_of(mg.tensor([1.0])) == -1
