"""Multi-head attention against loops over its equations, and what can be seen of it and changed in it."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core import observe
from minitransformer import MultiHeadAttention, Positions, ScaledDotProduct, causal_mask
from minitransformer.cache import Fixed, Growing
from tests.graphs import Recorder
from tests.models import small_model


def attention(rng, **settings) -> MultiHeadAttention:
    """Size 6, three heads unless said otherwise, in float64, with biases that are not 0."""
    module = MultiHeadAttention(6, **{"nhead": 3} | settings).double()
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.data += rng.standard_normal(parameter.shape)
    return module


def inputs(rng, *shapes):
    return [mg.tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]


def by_loops(module, query, key, value, mask):
    """Section 3.2.2 of the paper, one query of one head at a time. Returns outputs and patterns."""
    H, K = module.nhead, module.head_dim
    (B, T), S = query.shape[:2], key.shape[1]

    def projected(projection, x, h):
        weight, bias = (p.detach().numpy().reshape(H, K, -1)[h] for p in (projection.weight, projection.bias))
        return x @ weight.T + bias[:, 0]

    patterns = np.zeros((B, H, T, S))
    z = np.zeros((B, T, H, K))
    for b in range(B):
        for h in range(H):
            q, k = projected(module.q_proj, query[b], h), projected(module.k_proj, key[b], h)
            v = projected(module.v_proj, value[b], h)
            for t in range(T):
                legal = np.flatnonzero(mask[b, 0, t])
                if len(legal):
                    weights = np.exp([q[t] @ k[s] / np.sqrt(K) for s in legal])
                    patterns[b, h, t, legal] = weights / weights.sum()
                z[b, t, h] = patterns[b, h, t] @ v
    out = module.out_proj
    return z.reshape(B, T, H * K) @ out.weight.detach().numpy().T + out.bias.detach().numpy(), patterns


@pytest.mark.parametrize("settings", [{}, {"nhead": 1}, {"nhead": 2, "head_dim": 5}, {"nhead": 6}, {"share_qk": True}])
def test_equals_loops_over_the_equations(settings, rng):
    module = attention(rng, **settings)
    q, k, v = inputs(rng, (2, 4, 6), (2, 5, 6), (2, 5, 6))
    mask = rng.random((2, 1, 4, 5)) < 0.6
    mask[1, 0, 2] = False  # a query that may attend to nothing
    with nn.capture(module, "pattern") as seen:
        out = module(q, k, v, mask)
    expected, patterns = by_loops(module, q.data, k.data, v.data, mask)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(seen["pattern"].detach().numpy(), patterns, rtol=1e-12, atol=1e-12)


def test_a_query_without_keys_gets_the_bias_of_the_output_and_sends_no_gradient_back(rng):
    module = attention(rng)
    q, k, v = inputs(rng, (1, 2, 6), (1, 3, 6), (1, 3, 6))
    mask = np.array([[True, False, True], [False, False, False]])[None, None]
    out = module(q, k, v, mask)
    assert np.array_equal(out.detach().numpy()[0, 1], module.out_proj.bias.detach().numpy())
    out.backward(rng.standard_normal(out.shape))
    assert np.array_equal(q.grad.numpy()[0, 1], np.zeros(6))
    assert np.abs(q.grad.numpy()[0, 0]).min() > 0
    assert np.array_equal(k.grad.numpy()[0, 1], np.zeros(6))
    assert np.array_equal(v.grad.numpy()[0, 1], np.zeros(6))


def test_sharing_the_projection_makes_scores_symmetric_and_positive_semidefinite(rng):
    module = attention(rng, share_qk=True)
    (x,) = inputs(rng, (1, 5, 6))
    with nn.capture(module, "scores") as seen:
        module(x, x, x)
    scores = seen["scores"].detach().numpy()[0]
    np.testing.assert_allclose(scores, scores.swapaxes(-1, -2), rtol=1e-12)
    assert np.linalg.eigvalsh(scores).min() > -1e-12
    assert "k_proj.weight" not in dict(module.named_parameters())
    assert sum(p.numel() for p in module.parameters()) == 3 * (36 + 6)


def test_scores_are_divided_by_the_root_of_the_head_size(rng):
    module = attention(rng, nhead=2, head_dim=4)
    assert module.score.scale == 0.5
    (x,) = inputs(rng, (1, 5, 6))
    with nn.capture(module, "q", "k", "scores") as seen:
        module(x, x, x)
    q, k, scores = (seen[name].detach().numpy() for name in ("q", "k", "scores"))
    np.testing.assert_allclose(scores, q @ k.swapaxes(-1, -2) / 2, rtol=1e-12)


def test_another_scale_can_be_set(rng):
    module, other = attention(rng), attention(rng)
    other.load_state_dict(module.state_dict())
    (x,) = inputs(rng, (1, 5, 6))
    other.score.scale = 3 * module.score.scale
    module.q_proj.weight.data *= 3
    module.q_proj.bias.data *= 3
    np.testing.assert_allclose(other(x, x, x).detach().numpy(), module(x, x, x).detach().numpy(), rtol=1e-12)


def test_taps_have_their_shapes_in_the_order_of_the_computation(rng):
    module = attention(rng, nhead=2, head_dim=4)
    q, k = inputs(rng, (2, 3, 6), (2, 5, 6))
    with nn.capture(module, *module.taps) as seen:
        module(q, k, k)
    assert {name: value.shape for name, value in seen.items()} == {
        "q": (2, 2, 3, 4),
        "k": (2, 2, 5, 4),
        "v": (2, 2, 5, 4),
        "scores": (2, 2, 3, 5),
        "pattern": (2, 2, 3, 5),
        "z": (2, 2, 3, 4),
        "out": (2, 3, 6),
    }
    assert tuple(seen) == module.taps


def gradients_of(module, x, cotangent, watch):
    """Output and all gradients of self-attention; the dropout bits are those of seed 3."""
    mg.manual_seed(3)
    module.zero_grad()
    x.grad = None
    if watch:
        with nn.capture(module, "pattern"):
            out = module(x, x, x, causal_mask(x.shape[1]))
    else:
        out = module(x, x, x, causal_mask(x.shape[1]))
    out.backward(cotangent)
    return [out.detach().numpy(), x.grad.numpy(), *[p.grad.numpy() for p in module.parameters()]]


def test_watching_changes_nothing_not_even_dropout(rng):
    module = attention(rng, dropout=0.3)
    (x,) = inputs(rng, (2, 4, 6))
    cotangent = rng.standard_normal((2, 4, 6))
    alone, watched = (gradients_of(module, x, cotangent, watch) for watch in (False, True))
    for a, b in zip(alone, watched, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_scores_exist_only_while_somebody_watches(rng):
    module = attention(rng)
    (x,) = inputs(rng, (1, 3, 6))
    for pattern, fused in (("out", True), ("scores", False), ("pattern", False)):
        with nn.capture(module, pattern), observe(Recorder()) as recorder:
            module(x, x, x)
        names = [node.op.name for node, *_ in recorder.nodes]
        assert ("scaled_dot_product_attention" in names, "softmax" in names) == (fused, not fused)


def test_a_head_can_be_switched_off_by_a_patch(rng):
    module = attention(rng)
    (x,) = inputs(rng, (1, 4, 6))
    keep = np.array([1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    with nn.patch(module, {"pattern": lambda pattern: pattern * keep}):
        out = module(x, x, x).detach().numpy()
    for p in (module.v_proj.weight, module.v_proj.bias):
        p.data[2:4] = 0  # the same by hand: head 1 has no values
    np.testing.assert_allclose(out, module(x, x, x).detach().numpy(), rtol=1e-12, atol=1e-12)


def test_dropout_is_on_the_pattern_and_off_in_evaluation(rng):
    module = attention(rng, dropout=0.5)
    (x,) = inputs(rng, (4, 8, 6))
    before = module.eval()(x, x, x).detach().numpy()
    assert np.array_equal(before, module(x, x, x).detach().numpy())
    v = nn.init.ones_(mg.empty(1, 1, 64, 1, dtype=np.float64))
    scores = mg.zeros(1, 1, 1000, 64, dtype=np.float64)
    q, k = scores[..., :1], mg.zeros(1, 1, 64, 1, dtype=np.float64)
    z = ScaledDotProduct(1)(q, k, v, dropout_p=0.5).numpy()  # how much of each row of the pattern is left
    assert z.mean() == pytest.approx(1, abs=0.02)
    assert np.isclose(z * 32, np.round(z * 32)).all()  # each weight 1/64 is dropped, or doubled
    assert z.std() == pytest.approx(1 / 8, rel=0.1)
    assert not np.array_equal(module.train()(x, x, x).detach().numpy(), before)


class Spy(Positions):
    """Turns queries by -1, adds a number to the scores, and remembers where it was told that they are."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def rotate(self, q, pos):
        self.rotated = pos.tolist()
        return -q

    def rotate_keys(self, k, pos):
        self.rotated_keys = pos.tolist()
        return 2 * k

    def bias(self, q, q_pos, k_pos):
        self.biased = q_pos.tolist(), k_pos.tolist()
        return self.number


def test_positions_plug_in_at_rotate_and_bias(rng):
    module = attention(rng)
    q, k = inputs(rng, (1, 2, 6), (1, 5, 6))
    number = mg.tensor(rng.standard_normal((1, 3, 2, 5)))
    spy = Spy(number)
    with nn.capture(module, "q", "k", "scores") as seen:
        module(q, k, k, positions=spy, offset=3)
    assert (spy.rotated, spy.rotated_keys) == spy.biased == ([3, 4], [0, 1, 2, 3, 4])
    products = (-2 * seen["q"] @ seen["k"].mT).detach().numpy() * module.score.scale
    np.testing.assert_allclose(seen["scores"].detach().numpy(), products + number.numpy(), rtol=1e-12)


def test_with_a_growing_cache_the_pieces_are_the_whole(rng):
    module = attention(rng)
    (x,) = inputs(rng, (2, 7, 6))
    whole = module(x, x, x, causal_mask(7)).detach().numpy()
    cache, spy = Growing(), Spy(None)
    pieces = []
    for start, stop in ((0, 3), (3, 4), (4, 7)):
        piece = x[:, start:stop]
        mask = causal_mask(stop - start, offset=start)
        pieces.append(module(piece, piece, piece, mask, cache=cache).detach().numpy())
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=1e-12, atol=1e-12)
    module(piece, piece, piece, positions=spy, offset=7, cache=cache)
    assert (spy.rotated, spy.rotated_keys) == ([7, 8, 9], [7, 8, 9])  # the other keys have been turned before
    assert spy.biased == ([7, 8, 9], list(range(10)))


def test_with_a_fixed_cache_the_source_is_projected_once(rng):
    module = attention(rng)
    q, memory = inputs(rng, (2, 3, 6), (2, 5, 6))
    without = module(q, memory, memory).detach().numpy()
    cache = Fixed()
    with nn.capture(module, "k", "v", "z") as seen:
        outs = [module(q, memory, memory, cache=cache).detach().numpy() for _ in range(3)]
    assert {name: len(values) for name, values in seen.all.items()} == {"k": 1, "v": 1, "z": 3}
    for out in outs:
        assert np.array_equal(out, without)


@pytest.mark.parametrize("part", ["score.attend", "score.asked", "_split", "keys_and_values"])
def test_a_method_that_one_attention_has_of_its_own_is_what_runs(part, rng):
    module, (x,) = attention(rng), inputs(rng, (2, 3, 6))
    before, asked = module(x, x, x).detach().numpy(), []
    owner = module.score if part.startswith("score") else module
    own = getattr(owner, name := part.split(".")[-1])
    setattr(owner, name, lambda *args, **settings: asked.append(name) or own(*args, **settings))
    np.testing.assert_allclose(module(x, x, x).detach().numpy(), before, rtol=1e-12)
    assert asked


def test_heads_that_do_not_fit_are_an_error():
    with pytest.raises(
        ValueError, match=r"MultiHeadAttention\(\): nhead is 4; it must divide d_model = 6, unless head_dim"
    ):
        MultiHeadAttention(6, 4)


def test_a_sentence_without_a_batch_is_an_error(rng):
    module = attention(rng)
    x, batch = inputs(rng, (4, 6), (1, 4, 6))
    with pytest.raises(mg.ShapeError, match=r"query has shape \(4, 6\); it must be .* try query\.unsqueeze\(0\)"):
        module(x, x, x)
    with pytest.raises(mg.ShapeError, match=r"value has shape \(4, 6\)"):
        module(batch, batch, x)


def test_the_printed_module_shows_its_settings():
    text = repr(small_model(head_dim=3).decoder.layers[1].cross_attn)
    assert "nhead=2, head_dim=3, dropout=0.0" in text
    assert "scale=0.5774" in text


def test_one_memory_serves_all_sentences_of_a_batch(rng):
    attention = MultiHeadAttention(8, 2).double()
    x, memory = (mg.tensor(rng.standard_normal(shape)) for shape in ((3, 5, 8), (1, 6, 8)))
    y = attention(x, memory, memory)
    with nn.capture(attention):
        np.testing.assert_allclose(y.detach().numpy(), attention(x, memory, memory).detach().numpy(), rtol=1e-12)
