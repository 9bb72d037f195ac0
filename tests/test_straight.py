"""Decoding straight on arrays: the logits of the model, to the bit; and the model itself where that cannot be."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, nn, optim
from minigrad.core import definitions
from minitransformer import MultiHeadAttention, Step, evaluating, greedy
from minitransformer.positions import Rotary, Sinusoidal
from minitransformer.straight import Kept, Straight, straight
from tests.models import Fickle, sentences, small_model, will_end

KNOWN = [
    {},
    {"norm_first": True, "activation": "gelu", "bias": False},
    {"positions": "learned", "tie_weights": True, "final_norm": True},
    {"positions": "none", "head_dim": 3, "share_qk": True, "attention_scale": "d_k"},
    {"num_decoder_layers": 3, "nhead": 1, "embedding_norm": True},
    {"layer_norm_eps": 0.1, "final_norm": True},
]
OTHERS = [
    {"norm": "none"},
    {"norm": "batch"},
    {"norm": "rms"},
    {"residual": False},
    {"positions": "rotary"},
    {"positions": "relative"},
    {"attention": "additive"},
    {"activation": "swiglu"},
    {"activation": "none"},
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("changes", KNOWN)
def test_its_logits_are_those_of_the_model(changes, dtype, either, rng):
    check_logits(small_model(**changes).to(dtype).eval(), dtype, either, rng)


def check_logits(model, dtype, either, rng):
    src, tgt = sentences(rng, [5, 3, 6]), sentences(rng, [39, 39, 39], bos=True)
    tgt[1, 7] = 0  # padding in between, as in a guess
    with mg.no_grad():
        memory, mask = model.encode(src), model.padding_mask(src)
        rows = np.array([2, 0, 0])
        fast = straight(model)
        assert type(fast) is Straight
        kept, cache = fast.new_cache(), model.new_cache()
        for stop in (1, 2, 6, 9, 39):
            given = tgt[:, :stop]
            ours, theirs = fast.decode(given, memory, mask, kept), model.decode(given, memory, mask, cache)
            assert ours.dtype == theirs.dtype
            if either == "numba":
                assert np.array_equal(ours.numpy(), theirs.numpy())
            np.testing.assert_allclose(
                ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-5 if dtype is np.float32 else 1e-12
            )
            assert kept.length == cache.length == stop
            if stop == 9:  # three tokens are taken back, and the sentences change places
                for held in (kept, cache):
                    held.truncate(6)
                    held.select(rows)
                tgt, memory, mask = tgt[rows], memory[rows], mask[rows]


def another_scale(model):
    model.decoder.layers[1].cross_attn.score.scale *= 3


def other_heads_across(model):
    model.decoder.layers[0].cross_attn = MultiHeadAttention(8, 4, head_dim=3)


def queries_without_bias_across(model):
    model.decoder.layers[0].cross_attn.q_proj = nn.Linear(8, 8, bias=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exchange", [another_scale, other_heads_across, queries_without_bias_across])
def test_its_logits_are_those_of_the_model_with_other_parts(exchange, dtype, either, rng):
    model = small_model()
    exchange(model)
    check_logits(model.to(dtype).eval(), dtype, either, rng)


@pytest.mark.parametrize("changes", OTHERS)
def test_what_it_does_not_know_decodes_by_itself(changes):
    model = small_model(**changes).eval()
    assert straight(model) is model


class Loud(nn.Linear):
    def forward(self, input):
        return 3 * super().forward(input)


class Triple(nn.Module):
    def forward(self, input):
        return 3 * input


class FirstLayerOnly(Sinusoidal):
    """Says that it is the same for all layers, if asked for the first only."""

    def of_layer(self, number):
        return Rotary(4) if number else self


def replace(path, make):
    """Assign `make(part)` to an attribute of a part of the model."""

    def exchange(model):
        owner, _, name = path.rpartition(".")
        part = dict(model.named_modules())[owner]
        setattr(part, name, make(part))

    return pytest.param(exchange, id=path)


def tripled(method):
    """A method that gives three times what the part's own gives."""

    def make(part):
        own = getattr(part, method)
        return lambda *args, **kwargs: 3 * own(*args, **kwargs)

    return make


@pytest.mark.parametrize(
    "exchange",
    [
        replace("generator", lambda _: Loud(8, 11)),
        replace("decoder.layers.1.ffn.linear1", lambda _: Loud(8, 12)),
        replace("decoder.layers.0.self_attn.q_proj", lambda _: Loud(8, 8)),
        replace("decoder.layers.0.self_attn.q_proj", lambda _: nn.Linear(8, 8, bias=False)),
        replace("decoder.layers.0.self_attn.v_proj", lambda _: nn.Linear(8, 8, bias=False)),
        replace("decoder.layers.0.cross_attn.k_proj", lambda _: nn.Linear(8, 8, bias=False)),
        replace("decoder.layers.0.add_norm2.forward", lambda _: lambda x, sublayer, real=None: x),
        replace("decoder.layers.0.forward", lambda _: lambda x, *_: x),
        replace("decode", tripled("decode")),
        replace("decoder.dropout", lambda _: Triple()),
        replace("decoder.layers.0.add_norm1.dropout", lambda _: Triple()),
        replace("decoder.layers.1.add_norm3.dropout", lambda _: Triple()),
        replace("decoder.layers.1.ffn.dropout", lambda _: Triple()),
        replace("decoder.layers.0.add_norm1._add", tripled("_add")),
        replace("decoder.layers.0.self_attn.score.attend", tripled("attend")),
        replace("decoder.layers.1.cross_attn.score.asked", tripled("asked")),
        replace("decoder.layers.1.cross_attn._split", tripled("_split")),
        replace("decoder.embed", tripled("embed")),
        replace("decoder.positions.embed", tripled("embed")),
        replace("decoder.positions.rotate", tripled("rotate")),
        replace("tgt_embed.forward", tripled("forward")),
        replace("decoder.positions", lambda _: FirstLayerOnly(8)),
    ],
)
def test_what_has_been_exchanged_decodes_by_itself(exchange, rng):
    model, src = will_end(small_model()).eval(), sentences(rng, [4, 2])
    exchange(model)
    model = model.double().eval()
    assert straight(model) is model
    with evaluating(model):
        found, expected = (Step(model, src, use_cache)(np.empty((2, 0), int)) for use_cache in (True, False))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("part", ["self_attn", "cross_attn"])
def test_values_of_another_size_decode_by_themselves(part):
    """Side by side, queries, keys and values would be cut in the wrong places."""
    model = small_model()
    attention = getattr(model.decoder.layers[1], part)
    attention.v_proj, attention.out_proj = nn.Linear(8, 20), nn.Linear(20, 8)
    assert straight(model.double().eval()) is model


def test_a_model_that_is_watched_or_trains_decodes_by_itself(rng):
    model, src = small_model(), sentences(rng, [3])
    assert straight(model) is model  # it is in training mode
    with evaluating(model):
        with nn.capture(model, "decoder.layers.0.self_attn.pattern") as seen:
            Step(model, src)(np.empty((1, 0), int))
        assert len(seen) == 1
        assert type(Step(model, src).decoder) is Straight
        assert Step(model, src, use_cache=False).decoder is model
    assert straight(Fickle().eval()).__class__ is Fickle
    model.eval().decoder.layers[1].add_norm2.train()
    assert straight(model) is model
    model.eval().decoder.layers[1].cross_attn.k_proj.float()  # the rest is float64
    assert straight(model) is model


def test_a_step_does_not_leave_out_what_is_looked_for_later(rng):
    model, written = small_model().eval(), np.empty((1, 0), int)
    step = Step(model, sentences(rng, [3]))
    for look in (nn.capture(model), nn.patch(model, {"logits": lambda x: x}), definitions()):
        with look, pytest.raises(RuntimeError, match=r"the step was made before .* Make the step inside, or with use_"):
            step(written)
    assert step(written).shape == (1, 1, 11)  # nothing was kept


def test_it_decodes_by_itself_and_with_batch_norm_as_in_evaluation(rng):
    """In training a mean over all places knows what comes later; in evaluation it is a constant, and can be kept."""
    model, src, tgt = small_model(norm="batch"), sentences(rng, [5, 2, 4]), sentences(rng, [6, 3, 5], bos=True)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(src, tgt[:, :-1]).flatten(0, 1), mg.tensor(tgt[:, 1:].ravel()))
        loss.backward()
        optimizer.step()
    will_end(model)
    assert np.array_equal(greedy(model, src), greedy(model, src, use_cache=False))


def test_what_is_kept_outgrows_its_room(rng):
    kept, pieces = Kept(1), []
    for count in (1, 30, 1, 1, 70):
        pieces.append(rng.standard_normal((2, count, 2, 3, 4)))
        everything = kept.grow(0, pieces[-1])
        kept.length += count
        np.testing.assert_array_equal(everything, np.concatenate(pieces, axis=1).transpose(0, 2, 3, 1, 4))


def test_only_what_is_there_can_be_taken_back():
    with pytest.raises(ValueError, match=r"Kept\.truncate\(\): length is 1; it must be 0 to 0, what is there\."):
        Kept(1).truncate(1)


def test_kernels_may_change_between_two_searches(rng):
    model, src = will_end(small_model()), sentences(rng, [4, 2])
    with kernels.use("numpy"):
        first = greedy(model, src)
    with kernels.use("numba"):
        assert np.array_equal(first, greedy(model, src))
