"""The residual ledger: what of the gradient came past the branches, and what through them."""

import itertools
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.trace import crossing_shares, crossings
from minitransformer import Transformer
from tests.graphs import leaf
from tests.models import sentences, small_config


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


class Curve(nn.Module):
    """Something that is not linear, and uses x twice."""

    def __init__(self, size):
        super().__init__()
        self.linear = nn.Linear(size, size).double()

    def forward(self, x):
        return self.linear(x).tanh() * x


def transformer(rng, **changes):
    model = Transformer(small_config(**changes)).double()
    src, tgt = sentences(rng, [6, 4]), sentences(rng, [5, 3], bos=True)

    def loss():
        logits = model(src, tgt)
        return (logits * mg.from_numpy(np.random.default_rng(3).standard_normal(logits.shape))).sum()

    return model, loss


# ------------------------------------------------------------------------------------------------------------- ledger
def test_the_two_parts_of_a_gradient_are_those_of_the_formula(rng):
    f = Curve(4)
    x = leaf(rng.standard_normal((3, 4)))
    h = x * 1.0
    g = rng.standard_normal((3, 4))
    with mg.record() as rec:
        nn.Residual(f)(h).backward(g)
    y = leaf(h.data)
    f(y).backward(g)  # J_f^T g alone
    through = y.grad.data
    [row] = rec.residuals()
    whole = g + through
    assert row.identity == pytest.approx(np.linalg.norm(g))
    assert row.branch == pytest.approx(np.linalg.norm(through))
    assert row.ratio == pytest.approx(row.branch / row.identity)
    assert row.cosine == pytest.approx((g * through).sum() / np.linalg.norm(g) / np.linalg.norm(through))
    assert row.identity_share == pytest.approx((g * whole).sum() / (whole**2).sum())
    assert row.branch_share == pytest.approx((through * whole).sum() / (whole**2).sum())
    assert row.other_share == 0


def test_other_uses_of_x_are_told_apart_from_the_branch(rng):
    x = leaf(rng.standard_normal(5))
    h = x * 1.0
    with mg.record() as rec:
        y = nn.Residual(Times(2.0))(h) + 4.0 * h
        y.backward(np.ones(5))
    [row] = rec.residuals()
    assert (row.identity_share, row.branch_share, row.other_share) == pytest.approx((1 / 7, 2 / 7, 4 / 7))


def test_a_branch_that_is_x_itself_is_a_branch():
    h = leaf([1.0, 2.0]) * 1.0
    with mg.record() as rec:
        nn.Residual(nn.Identity())(h).backward([1.0, 1.0])
    [row] = rec.residuals()
    assert (row.identity_share, row.branch_share, row.cosine) == pytest.approx((0.5, 0.5, 1.0))


def test_a_branch_that_sends_nothing_back_has_a_row():
    class Still(nn.Module):
        def forward(self, x):
            return x.detach() * 2.0

    with mg.record() as rec:
        nn.Residual(Still())(leaf([3.0, 4.0]) * 1.0).backward([3.0, 4.0])
    [row] = rec.residuals()
    assert row[:4] == ("Residual.add", 5.0, 0.0, 0.0)
    assert math.isnan(row.cosine)
    assert row[5:] == (1.0, 0.0, 0.0)


def test_a_backward_pass_that_failed_leaves_nothing_behind():
    handles = []

    class Fork(nn.Module):
        def forward(self, x):
            first, second = x * 2.0, x * 3.0
            handles.append(first.register_hook(lambda g: 1 / 0))
            return first + second

    with mg.record() as rec:
        y = nn.Residual(Fork())(leaf([1.0, 2.0]) * 1.0)
        with pytest.raises(ZeroDivisionError):  # by now, part of the gradient has come through the branch
            y.backward([5.0, 5.0], retain_graph=True)
        handles[0].remove()
        y.backward([1.0, 0.0])
    [row] = rec.residuals()
    assert (rec.runs, row.identity, row.branch) == (2, 1.0, 5.0)
    assert (row.identity_share, row.branch_share) == pytest.approx((1 / 6, 5 / 6))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("detail", ["op", "definition"])
def test_every_residual_connection_of_a_transformer_is_in_the_ledger(norm_first, detail, rng):
    model, loss = transformer(rng, norm_first=norm_first)
    with mg.record(model, detail=detail) as rec:
        loss().backward()
    ledger = rec.residuals()
    expected = [
        f"{side}.layers.{layer}.add_norm{number}"
        for side, numbers in (("encoder", 2), ("decoder", 3))
        for layer, number in itertools.product(range(2), range(1, numbers + 1))
    ]
    assert [row.step.rpartition(".")[0] for row in ledger] == expected
    for row in ledger:
        assert row.identity_share + row.branch_share + row.other_share == pytest.approx(1, abs=1e-12)
        assert row.other_share == 0


class Curved(nn.Module):
    """x + f(x) with an f of its own, whose definition adds, too; "fused" lets an op add."""

    is_residual = True

    def __init__(self, fused):
        super().__init__()
        self.fused = fused

    def forward(self, x):
        branch = F.gelu(x * 0.5, approximate="tanh")
        return F.add_layer_norm(x, branch, x.shape[-1:]) if self.fused else x + F.layer_norm(branch, x.shape[-1:])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("detail", ["op", "definition"])
def test_additions_within_the_definitions_of_ops_are_no_residual_connections(fused, detail, rng):
    """The ledger, the paths, the exact parts and a graph from before the recording agree about what one is."""
    model, x = nn.Sequential(Curved(fused), Curved(fused)), leaf(rng.standard_normal((3, 4)))
    g = rng.standard_normal((3, 4))
    with mg.record(model, detail=detail) as rec:
        y = model(x * 1.0)
        assert list(crossings(y, x, g)) == [0, 1, 2]
        y.backward(g, retain_graph=True)
    assert len(rec.residuals()) == 2
    assert list(rec.paths("leaf")) == [0, 1, 2]
    with mg.record(model) as later:
        y.backward(g)
    assert len(later.residuals()) == 2
    assert later.paths("leaf") == pytest.approx(rec.paths("leaf"))


def test_both_details_give_the_same_ledger(rng):
    model, loss = transformer(rng)
    tables = []
    for detail in ("op", "definition"):
        with mg.record(model, detail=detail) as rec:
            loss().backward()
        tables.append(rec.residuals())
    np.testing.assert_allclose([row[1:] for row in tables[0]], [row[1:] for row in tables[1]], rtol=1e-7, atol=1e-9)


def test_without_residual_connections_or_gradients_the_ledger_is_empty(rng):
    model, loss = transformer(rng, residual=False)
    with mg.record(model) as rec:
        loss().backward()
    assert len(rec.residuals()) == 0
    model, loss = transformer(rng)
    with mg.record(model) as rec:
        loss()
    assert len(rec.residuals()) == 0
    assert rec.paths("src_embed.weight") == {}


# --------------------------------------------------------------------------------------------------------------- paths
FACTORS = [0.5, -0.25, 2.0, 1.5]


def symmetric_sums(factors):
    """Of all products of k factors the sum: what expanding (1 + f1) (1 + f2) ... gives."""
    return {k: sum(map(math.prod, itertools.combinations(factors, k))) for k in range(len(factors) + 1)}


def test_paths_through_linear_branches_are_the_terms_of_the_product():
    x = leaf([1.0, -2.0, 3.0])
    model = nn.Sequential(*[nn.Residual(Times(f)) for f in FACTORS])
    with mg.record(model) as rec:
        y = model(x)
        parts = crossings(y, x, [1.0, 1.0, 1.0])
        y.backward([1.0, 1.0, 1.0])
    terms = symmetric_sums(FACTORS)
    assert {k: part.tolist() for k, part in parts.items()} == {k: pytest.approx([t] * 3) for k, t in terms.items()}
    total = math.prod(1 + f for f in FACTORS)
    assert rec.paths("leaf") == pytest.approx({k: t / total for k, t in terms.items()})


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_parts_of_the_gradient_sum_to_it(norm_first, rng):
    model, loss = transformer(rng, norm_first=norm_first)
    with mg.record(model) as rec:
        out = loss()
        wanted = {n: p for n, p in model.named_parameters() if "layers.0" in n or "embed" in n}
        parts = {name: crossings(out, parameter) for name, parameter in wanted.items()}
        out.backward()
    for name, by_count in parts.items():
        np.testing.assert_allclose(sum(by_count.values()), wanted[name].grad.data, rtol=1e-9, atol=1e-12)
        shares = rec.paths(name)
        assert set(shares) == set(by_count)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("norm_first", [False, True])
def test_shares_of_paths_are_those_of_the_parts(norm_first, rng):
    model, loss = transformer(rng, norm_first=norm_first)
    out = loss()
    parts, shares = (function(out, model.src_embed.weight) for function in (crossings, crossing_shares))
    with mg.record(model) as rec:
        out.backward()
    g = model.src_embed.weight.grad.data
    assert shares == pytest.approx({k: (part * g).sum() / (g * g).sum() for k, part in parts.items()}, abs=1e-12)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
    estimates = rec.paths("src_embed.weight")  # what the recording alone can say: the same counts, not the same shares
    assert set(estimates) == set(shares)
    assert estimates != pytest.approx(shares, abs=1e-3)


def test_of_a_gradient_that_is_zero_there_are_no_shares_of_paths():
    x = leaf([1.0, 2.0])
    assert all(map(math.isnan, crossing_shares(nn.Residual(Times(-1.0))(x), x, [1.0, 1.0]).values()))


def test_what_crossed_no_branch_is_the_gradient_with_all_branches_cut(rng):
    f, g = Curve(3), Curve(3)
    x = leaf(rng.standard_normal((2, 3)))
    y = nn.Sequential(nn.Residual(f), nn.Residual(g))(x)
    cotangent = rng.standard_normal((2, 3))
    parts = crossings(y, x, cotangent)
    assert list(parts) == [0, 1, 2]
    np.testing.assert_array_equal(parts[0], cotangent)
    first = x + f(x)
    cut = leaf(first.data)
    g(cut).backward(cotangent)
    one = leaf(x.data)
    f(one).backward(cotangent)  # through f only
    np.testing.assert_allclose(parts[1], one.grad.data + cut.grad.data, rtol=1e-12)
    assert x.grad is None  # nothing is added to any .grad
    y.backward(cotangent)  # and the graph is still there


def test_crossings_say_what_is_wrong(rng):
    x = leaf([1.0, 2.0])
    y = x * 2.0
    with pytest.raises(mg.GradError, match=r"crossings\(\): the root has shape \(2,\); give `gradient`"):
        crossings(y, x)
    with pytest.raises(mg.GradError, match="x is not in the graph of the root"):
        crossings(y, leaf([1.0]), [1.0, 1.0])
    with pytest.raises(mg.GradError, match="a tensor without a graph"):
        crossings(y, mg.ones(2), [1.0, 1.0])
    y.backward([1.0, 1.0])
    with pytest.raises(mg.GradError, match="has been freed; call it before backward"):
        crossings(y, x, [1.0, 1.0])


def test_the_residual_layer_is_that_of_its_formula(rng):
    x = mg.from_numpy(rng.standard_normal((2, 3)))
    layer = nn.Residual(nn.Linear(3, 3).double())
    np.testing.assert_array_equal(layer(x).data, (x + F.linear(x, layer.f.weight, layer.f.bias)).data)
    assert nn.Residual.is_residual
    assert not nn.Linear.is_residual
