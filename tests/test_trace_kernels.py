"""Kernels against their NumPy twins on the numbers of a run."""

from contextlib import contextmanager

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels
from minigrad.kernels import reference
from minigrad.nn import functional as F
from minigrad.trace import compare_kernels

from .models import sentences, small_model


def training():
    """A function that does a step of training, dropout and everything, and returns the loss."""
    mg.manual_seed(0)
    rng = np.random.default_rng(0)
    model = small_model(dropout=0.1)
    optimizer = mg.optim.Adam(model.parameters(), lr=1e-3)
    src, tgt = sentences(rng, [5, 3]), sentences(rng, [4, 4], bos=True)

    def run():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(src, tgt).flatten(0, -2), mg.tensor(tgt).flatten())
        loss.backward()
        mg.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        return loss.item()

    return run


def test_the_kernels_of_a_step_are_close_to_their_twins():
    with kernels.use("numba"):
        table = compare_kernels(training())
    assert table.title == "numba kernels against their NumPy twins"
    assert {"attention", "attention_vjp", "linear_vjp", "adam", "rescale"} <= set(table.column("name"))
    assert max(table.column("relative")) < 1e-12  # float64
    assert max(table.column("absolute")) > 0  # something was compared


def test_a_twin_is_no_different_from_itself():
    with kernels.use("numpy"):
        assert set(compare_kernels(training()).column("absolute")) == {0}


def test_the_numbers_of_the_run_are_what_they_are_without(either):
    losses = []
    step = training()
    alone = [step() for _ in range(3)]
    step = training()
    for _ in range(3):
        compare_kernels(lambda: losses.append(step()))
    assert losses == alone
    assert len(set(losses)) == 3  # the optimiser has done its work


class Wrong:
    """The NumPy kernels, but for some."""

    def __init__(self, **others):
        self.__dict__.update(others)

    def __getattr__(self, name):
        return getattr(reference, name)


@contextmanager
def wrong(**others):
    with kernels.use("numpy"):  # which brings back what was there before
        kernels._chosen = Wrong(**others)
        yield


def row(table, name):
    return next(row for row in table if row.name == name)


def test_a_kernel_that_is_wrong_is_found():
    x = mg.tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)
    correct = reference.softmax_vjp
    with wrong(softmax_vjp=lambda *a: correct(*a) + 0.25):
        table = compare_kernels(lambda: x.softmax(-1).backward(np.array([[1.0, 0.0], [1.0, 0.0]])))
    assert row(table, "softmax").absolute == 0
    assert row(table, "softmax_vjp")[1:3] == (1, 0.25)
    p = np.exp([1, 2]) / np.exp([1, 2]).sum()
    assert row(table, "softmax_vjp").relative == pytest.approx(0.25 / (p[0] * p[1]))


def test_what_is_written_in_place_is_compared_too():
    def rescale(x, factor):
        x *= factor + 1

    x = np.array([1.0, -2.0])
    with wrong(rescale=rescale):
        table = compare_kernels(lambda: kernels.rescale(x, 3.0))
    assert row(table, "rescale")[1:] == (1, 2.0, 2 / 6)
    assert x.tolist() == [4, -8]  # once, and by the kernel in use


def test_an_argument_that_is_also_the_place_of_the_result_stays_one(either):
    x = np.ones(3)
    table = compare_kernels(lambda: kernels.add(x, x, out=x))
    assert row(table, "add").absolute == 0
    assert x.tolist() == [2, 2, 2]


@pytest.mark.parametrize(("value", "expected"), [(np.nan, np.inf), (np.inf, np.inf), (1.0, 0.0)])
def test_infinity_and_nan_where_the_twin_has_none(monkeypatch, value, expected):
    monkeypatch.setattr(reference, "erf", lambda x: np.array([1.0, np.nan]))
    with wrong(erf=lambda x: np.array([value, np.nan])):
        table = compare_kernels(lambda: kernels.erf(np.zeros(2)))
    assert row(table, "erf").absolute == row(table, "erf").relative == expected


def test_afterwards_nothing_is_compared(either):
    names = []
    with kernels.compare(lambda name, pairs: names.append(name)):
        kernels.erf(np.zeros(2))
    kernels.erf(np.zeros(2))
    assert names == ["erf"]
    with pytest.raises(ZeroDivisionError):
        compare_kernels(lambda: 1 / 0)
    assert kernels.current() == either


def test_a_run_can_be_recorded_while_it_is_compared(either):
    with mg.record() as rec:
        table = compare_kernels(training())
    assert row(table, "attention").calls == row(rec.profile("kernel"), "attention").calls
