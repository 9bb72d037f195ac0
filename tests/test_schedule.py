"""The paper's learning rate, equation 3."""

import pytest

import minigrad as mg
from minigrad import optim
from minitransformer import noam


@pytest.mark.parametrize(("d_model", "warmup", "factor"), [(512, 4000, 1.0), (64, 400, 2.0), (8, 1, 0.5)])
def test_noam_is_the_formula(d_model, warmup, factor):
    rate = noam(d_model, warmup, factor)
    for step in (1, 2, warmup - 1, warmup, warmup + 1, 10 * warmup):
        if step >= 1:
            expected = factor * d_model ** (-0.5) * min(step ** (-0.5), step * warmup ** (-1.5))
            assert rate(step - 1) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("warmup", [1, 2, 7, 400])
def test_the_peak_is_at_step_warmup(warmup):
    rate = noam(64, warmup)
    rates = {taken + 1: rate(taken) for taken in range(3 * warmup)}
    assert max(rates, key=rates.__getitem__) == warmup
    assert rates[warmup] == pytest.approx((64 * warmup) ** -0.5)


def test_it_rises_by_equal_amounts_and_falls_as_a_square_root():
    rate = noam(16, warmup=10)
    rises = [rate(n + 1) - rate(n) for n in range(9)]
    assert rises == pytest.approx([rate(0)] * 9)
    assert rate(39) / rate(159) == pytest.approx(2)


def test_the_first_step_of_an_optimiser_has_the_rate_of_step_1():
    weight = mg.zeros(1, requires_grad=True)
    optimizer = optim.SGD([weight], lr=1.0)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, noam(d_model=4, warmup=2))
    used = []
    for _ in range(4):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert used == pytest.approx([0.5 * min(step**-0.5, step * 2**-1.5) for step in (1, 2, 3, 4)])


@pytest.mark.parametrize(("d_model", "warmup", "message"), [(0, 4, "d_model is 0"), (4, 0, "warmup is 0")])
def test_sizes_below_1_are_an_error(d_model, warmup, message):
    with pytest.raises(ValueError, match=rf"noam\(\): {message}; it must be at least 1\."):
        noam(d_model, warmup)
