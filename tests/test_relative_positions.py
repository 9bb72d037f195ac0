"""Schemes that act inside attention: each is its paper's formula, written out number by number."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.testing import gradcheck
from minitransformer import POSITIONS, ALiBi, MultiHeadAttention, Positions, Relative, Rotary, T5Bias, TransformerXL
from minitransformer.positions.relative import all_distances, by_distance, by_place
from tests.by_hand import attention
from tests.models import small_config
from tests.oracle import sinusoids

B, H, K, D = 2, 3, 4, 12
Q_POS, K_POS = np.arange(2, 6), np.arange(6)  # as in decoding with a cache: the first query stands at 2

SCHEMES = {
    "relative": lambda: Relative(K, max_distance=2),
    "transformer_xl": lambda: TransformerXL(D, H, K),
    "rotary": lambda: Rotary(K),
    "alibi": lambda: ALiBi(H),
    "t5": lambda: T5Bias(D, H, buckets=8, max_distance=10),
    "t5, one direction": lambda: T5Bias(D, H, buckets=8, max_distance=10, bidirectional=False),
    "none": Positions,
}


@pytest.fixture(params=SCHEMES)
def scheme(request):
    scheme = SCHEMES[request.param]().double()
    rng = np.random.default_rng(5)
    for parameter in scheme.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape)
    return scheme


def bucket(distance, buckets, max_distance, bidirectional):
    """T5's rule for one distance, key minus query."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if distance > 0 else 0
        far = abs(distance)
    else:
        far = -distance if distance < 0 else 0
    alone = buckets // 2
    if far < alone:
        return first + far
    return first + min(
        buckets - 1, alone + math.floor(math.log(far / alone) / math.log(max_distance / alone) * (buckets - alone))
    )


def turned(x, pos):
    """Each pair as a complex number, times e^(i pos theta)."""
    pairs = x[0::2] + 1j * x[1::2]
    theta = np.array([10000 ** (-2 * i / len(x)) for i in range(len(pairs))])
    pairs = pairs * np.exp(1j * pos * theta)
    return np.array([part for pair in pairs for part in (pair.real, pair.imag)])


def score(scheme, h, q, k, i, j):
    """The score of query q at place i and key k at place j, by the formula of the scheme's paper."""
    if isinstance(scheme, Relative):
        a = scheme.keys.data[max(-2, min(2, j - i)) + 2]
        return q @ (k + a) / math.sqrt(K)
    if isinstance(scheme, TransformerXL):
        table, sign = sinusoids(10, D)[abs(i - j)], np.tile([1 if i >= j else -1, 1], D // 2)  # sines are odd
        r = scheme.proj.weight.data[h * K : (h + 1) * K] @ (table * sign)
        u, v = scheme.u.data[h, 0], scheme.v.data[h, 0]
        return (q @ k + q @ r + u @ k + v @ r) / math.sqrt(K)
    if isinstance(scheme, Rotary):
        return turned(q, i) @ turned(k, j) / math.sqrt(K)
    if isinstance(scheme, ALiBi):
        return q @ k / math.sqrt(K) - [2**-4, 2**-8, 2**-2][h] * abs(i - j)
    if isinstance(scheme, T5Bias):
        return q @ k / math.sqrt(K) + scheme.weight.data[bucket(j - i, 8, 10, scheme.bidirectional), h]
    return q @ k / math.sqrt(K)


def heads(x, linear):
    """x W^T + b, cut into heads: (B, H, T, K)."""
    y = x @ linear.weight.data.T + linear.bias.data
    return np.stack([y[..., h * K : (h + 1) * K] for h in range(H)], axis=1)


class Cached:
    """Keys and values of six tokens, while the queries are those of the last four."""

    def __init__(self, x):
        self.x = mg.tensor(x)

    def __call__(self, project, key, value):
        return project(self.x, self.x, 0)


def test_attention_is_the_formula(scheme, rng):
    ours = MultiHeadAttention(D, H).double()
    x = rng.standard_normal((B, 6, D))
    mask = rng.random((B, 1, 4, 6)) < 0.7
    last = mg.tensor(x[:, 2:])
    out = ours(last, last, last, mg.tensor(mask), positions=scheme, offset=2, cache=Cached(x)).detach().numpy()

    q, k, v = (heads(x, linear) for linear in (ours.q_proj, ours.k_proj, ours.v_proj))
    q = q[:, :, 2:]

    def value(b, h, t, s):
        if isinstance(scheme, Relative):
            return v[b, h, s] + scheme.values.data[max(-2, min(2, K_POS[s] - Q_POS[t])) + 2]
        return v[b, h, s]

    z = attention(lambda b, h, t, s: score(scheme, h, q[b, h, t], k[b, h, s], Q_POS[t], K_POS[s]), v, mask, value)
    expected = np.concatenate(list(z.swapaxes(0, 1)), axis=-1) @ ours.out_proj.weight.data.T + ours.out_proj.bias.data
    np.testing.assert_allclose(out, expected, rtol=1e-11, atol=1e-11)


def test_gradients_are_those_of_the_formula(scheme, rng):
    q, k = (mg.tensor(rng.standard_normal((B, H, n, K)), requires_grad=True) for n in (4, 6))
    weights = mg.tensor(rng.random((B, H, 4, 6)), requires_grad=True)

    def function(q, k, weights, *parameters):
        bias = scheme.bias(q, Q_POS, K_POS)
        q, k = scheme.rotate(q, Q_POS), scheme.rotate_keys(k, K_POS)
        scores = q @ k.mT if bias is None else q @ k.mT + bias
        return scheme.mix(weights @ k, weights, Q_POS, K_POS).sum(-1, keepdim=True) * scores

    gradcheck(function, (q, k, weights, *scheme.parameters()))


def test_only_distances_count(scheme, rng):
    q, k = (mg.tensor(rng.standard_normal((B, H, n, K))) for n in (4, 6))

    def scores(shift):
        turned_q, turned_k = scheme.rotate(q, Q_POS + shift), scheme.rotate_keys(k, K_POS + shift)
        bias = scheme.bias(q, Q_POS + shift, K_POS + shift)
        product = turned_q @ turned_k.mT
        return (product if bias is None else product + bias).detach().numpy()

    np.testing.assert_allclose(scores(100), scores(0), rtol=1e-9, atol=1e-9)


def test_any_position_can_be_stored(scheme, rng):
    assert scheme.max_len is None
    far = np.array([10**6])
    q = mg.tensor(rng.standard_normal((1, H, 1, K)))
    assert np.isfinite(scheme.rotate(q, far).detach().numpy()).all()
    bias = scheme.bias(q, far, np.array([0]))
    assert bias is None or np.isfinite(bias.detach().numpy()).all()


def test_relative_knows_no_distance_beyond_the_largest(rng):
    scheme = Relative(K, max_distance=2).double()
    q = mg.tensor(rng.standard_normal((1, 1, 1, K)))
    bias = scheme.bias(q, np.array([5]), np.arange(11)).detach().numpy().ravel()
    assert len(set(bias[:4])) == 1  # 5, 4, 3 and 2 before
    assert len(set(bias[3:8])) == 5
    assert len(set(bias[7:])) == 1


@pytest.mark.parametrize(("nhead", "slopes"), [(1, [8]), (4, [2, 4, 6, 8]), (6, [2, 4, 6, 8, 1, 3]), (8, range(1, 9))])
def test_the_slopes_of_alibi_are_those_of_the_paper(nhead, slopes):
    assert ALiBi(nhead).slopes.tolist() == [2.0**-m for m in slopes]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(4, 3), (8, 10), (32, 128)])
def test_the_buckets_of_t5_are_those_of_the_rule(buckets, max_distance, bidirectional):
    scheme = T5Bias(D, H, buckets, max_distance, bidirectional)
    distances = np.arange(-200, 201)
    expected = [bucket(d, buckets, max_distance, bidirectional) for d in distances.tolist()]
    assert scheme.bucket(distances).tolist() == expected
    assert set(expected) <= set(range(buckets))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rotary(3), r"Rotary\(\): head_dim is 3; pairs of numbers are turned, it must be even"),
        (lambda: TransformerXL(3, 1, 3), "d_model is 3; sines and cosines come in pairs"),
        (lambda: T5Bias(4, 2, buckets=7), r"T5Bias\(\): buckets is 7; it must be even, and at least 4"),
        (lambda: T5Bias(4, 2, buckets=1, bidirectional=False), "buckets is 1; it must be at least 2"),
        (lambda: Relative(0), r"Relative\(\): head_dim is 0; it must be an integer of at least 1"),
        (lambda: Relative(4, -1), "max_distance is -1; it must be"),
        (lambda: ALiBi(2.5), r"ALiBi\(\): nhead is 2.5; it must be an integer"),
        (lambda: Rotary(0), "head_dim is 0; it must be an integer"),
        (lambda: TransformerXL(4, 0, 4), "nhead is 0; it must be an integer"),
        (lambda: T5Bias(4, 2, buckets=32, max_distance=8), r"max_distance is 8; it must be above 8, the distances"),
    ],
)
def test_sizes_that_do_not_fit_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_layer_has_its_own_where_distances_are_vectors():
    own = {
        name for name in POSITIONS if (p := POSITIONS[name](small_config(), 3, True)).of_layer(0) is not p.of_layer(2)
    }
    assert own == {"relative", "transformer_xl"}


@pytest.mark.parametrize(("T", "S"), [(1, 1), (1, 4), (4, 1), (3, 5), (5, 5), (0, 3), (2, 0), (0, 0)])
def test_from_distances_to_places_and_back(T, S, rng):
    """by_place[t, s] is what stands at the distance of s from t; by_distance is its transpose."""
    q_pos, k_pos = np.arange(7, 7 + T), np.arange(3, 3 + S)
    distances = all_distances(q_pos, k_pos)
    x, y = rng.standard_normal((2, 3, T, len(distances))), rng.standard_normal((2, 3, T, S))
    placed, spread = by_place(mg.tensor(x), S).numpy(), by_distance(mg.tensor(y)).numpy()
    assert (placed.shape, spread.shape) == (y.shape, x.shape)
    for t, s in np.ndindex(T, S):
        assert np.array_equal(placed[..., t, s], x[..., t, list(distances).index(k_pos[s] - q_pos[t])])
    assert np.vdot(placed, y) == pytest.approx(np.vdot(x, spread))


def test_in_the_value_table_it_is_the_dropped_weights_that_count(rng):
    """With all values 0 and all vectors 1, z is the sum of the weights that dropout has left."""
    scheme, attention = Relative(K, max_distance=2).double(), MultiHeadAttention(D, H, dropout=0.5).double()
    x = mg.tensor(rng.standard_normal((1, 6, D)))
    scheme.values.data[:] = 1
    attention.v_proj.weight.data[:] = attention.v_proj.bias.data[:] = 0
    mg.manual_seed(0)
    with nn.capture(attention, "z", "pattern") as seen:
        attention(x, x, x, positions=scheme)
    left = seen["z"].detach().numpy()[..., 0]
    assert np.abs(left - 1).max() > 0.1
    mg.manual_seed(0)
    weights = mg.ops.dropout(seen["pattern"].detach(), p=0.5, seed=mg.random.next_seed())
    np.testing.assert_allclose(left, weights.sum(-1).numpy(), rtol=1e-12)
