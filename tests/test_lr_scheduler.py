"""Schedules: which learning rate each step sees, counted as in torch, and going on from a saved state."""

import json

import pytest

import minigrad as mg
from minigrad import optim
from minigrad.nn import Parameter
from minigrad.optim import SGD
from minigrad.optim.lr_scheduler import LambdaLR, LRScheduler
from tests import oracle


def rates(m, factors, steps=5):
    """The learning rates that the steps of the optimiser see, by one of the two libraries."""
    groups = [{"params": [m.nn.Parameter(m.zeros(1))], "lr": lr} for lr in (1.0, 0.25)]
    optimizer = m.optim.SGD(groups)
    schedule = m.optim.lr_scheduler.LambdaLR(optimizer, factors)
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        assert schedule.get_last_lr() == seen[-1]
        optimizer.step()
        schedule.step()
    return seen, schedule.last_epoch, schedule.base_lrs


def test_first_step_has_the_rate_of_0():
    seen, last_epoch, base_lrs = rates(mg, lambda n: 1 / (n + 1))
    assert seen == [[1 / n, 0.25 / n] for n in range(1, 6)]
    assert (last_epoch, base_lrs) == (5, [1.0, 0.25])


@pytest.mark.parametrize("factors", [lambda n: min((n + 1) ** -0.5, (n + 1) / 3), [lambda n: n, lambda n: 2.0**-n]])
def test_counting_is_that_of_torch(factors):
    assert rates(mg, factors) == rates(oracle.torch(), factors)


def make(lr=0.5):
    optimizer = SGD([Parameter(mg.zeros(3))], lr=lr)
    return optimizer, lambda: LambdaLR(optimizer, lambda n: 1 / (n + 1))


@pytest.mark.parametrize(
    "order", ["schedule, optimiser", "optimiser, schedule", "optimiser before there is a schedule"]
)
def test_schedule_continues_from_json(order):
    optimizer, schedule_of = make()
    schedule = schedule_of()
    for _ in range(3):
        schedule.step()
    of_optimizer, of_schedule = json.loads(json.dumps([optimizer.state_dict(), schedule.state_dict()]))

    successor, schedule_of = make(lr=99.0)
    if order == "optimiser before there is a schedule":
        successor.load_state_dict(of_optimizer)
    continued = schedule_of()
    if order == "optimiser, schedule":
        successor.load_state_dict(of_optimizer)
    continued.load_state_dict(of_schedule)
    if order == "schedule, optimiser":
        successor.load_state_dict(of_optimizer)

    assert successor.param_groups[0]["lr"] == 0.5 / 4
    continued.step()
    schedule.step()
    assert successor.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == 0.5 / 5
    assert continued.state_dict() == schedule.state_dict()


def test_schedule_may_start_late():
    optimizer = SGD([{"params": [Parameter(mg.zeros(1))], "initial_lr": 8.0}], lr=1.0)
    LambdaLR(optimizer, lambda n: n, last_epoch=4)
    assert optimizer.param_groups[0]["lr"] == 40
    with pytest.raises(KeyError, match="initial_lr"):
        LambdaLR(SGD([Parameter(mg.zeros(1))]), lambda n: n, last_epoch=4)


def test_one_function_for_each_group():
    with pytest.raises(ValueError, match=r"LambdaLR\(\): 2 functions for 1 groups"):
        LambdaLR(SGD([Parameter(mg.zeros(1))]), [abs, abs])


def test_schedule_without_a_rule():
    with pytest.raises(NotImplementedError, match=r"LRScheduler has no get_lr\(\)"):
        LRScheduler(SGD([Parameter(mg.zeros(1))]))


def test_name_is_where_torch_has_it():
    assert optim.lr_scheduler.LambdaLR is LambdaLR
