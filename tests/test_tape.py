"""Recordings of graphs that were not watched while they were made."""

import pytest

import minigrad as mg
from minigrad.core import GradError
from minigrad.trace import of_tape
from tests.networks import Net


def names_of_edges(recording):
    return [(recording.name(e.child), e.argument, e.position, recording.name(e.parent)) for e in recording.edges]


def test_it_is_what_a_recorder_sees_of_the_same_run(rng):
    """Ops, names, shapes, arguments and edges; in any order, because a recorder meets leaves when they are used."""
    net, x = Net(), mg.randn(5, 3)
    with mg.record(net) as watched:
        loss = (net(x) ** 2).mean()
    tape = of_tape(loss, net)
    assert sorted(names_of_edges(tape)) == sorted(names_of_edges(watched))
    described = [sorted((rec.name(s), s.kind, s.shape, s.serial) for s in rec.steps) for rec in (tape, watched)]
    assert described[0] == described[1]
    assert {tape.path(s.module) for s in tape.steps if not s.is_leaf} == {"", "a", "b.0", "b.1"}


def test_both_arguments_of_a_plus_a_are_there():
    a = mg.ones(2, requires_grad=True)
    tape = of_tape(a + a)
    assert [(e.argument, e.position) for e in tape.edges] == [("a", 0), ("b", 1)]
    assert len({e.parent for e in tape.edges}) == 1


def test_a_shared_node_is_visited_once():
    """Walked without a set of visited nodes, this graph has 2^60 paths."""
    x = mg.ones(1, requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y
    tape = of_tape(y)
    assert (len(tape.steps), len(tape.edges)) == (61, 120)


def test_a_deep_graph_is_no_problem():
    x = mg.ones(1, requires_grad=True)
    y = x
    for _ in range(30_000):
        y = y * 1.0
    tape = of_tape(y)
    assert len(tape.steps) == 30_001
    assert all(e.parent.serial < e.child.serial for e in tape.edges)


def test_values_are_known_of_leaves_only():
    a = mg.tensor([3.0, 4.0], requires_grad=True)
    leaf, product = of_tape(a * 2).steps
    assert leaf.value is not None
    assert leaf.value.norm == 5
    assert product.value is None


def test_gradients_are_not_computed_before_backward_and_not_recorded_after():
    a = mg.ones(2, requires_grad=True)
    loss = (a * 2).sum()
    before = of_tape(loss)
    assert {before.status(step) for step in before.steps} == {"not computed"}
    loss.backward(retain_graph=True)
    after = of_tape(loss)
    assert {after.status(step) for step in after.steps} == {"not recorded"}
    assert all(step.gradient is None for step in after.steps)


def test_a_freed_graph_is_an_error():
    loss = (mg.ones(2, requires_grad=True) * 2).sum()
    loss.backward()
    with pytest.raises(GradError, match=r"was freed by backward\(\): draw before it, or use mg.record"):
        of_tape(loss)


def test_no_graph_is_an_error():
    with pytest.raises(GradError, match="there is no graph: no leaf has requires_grad=True"):
        of_tape(mg.ones(2) * 2)
