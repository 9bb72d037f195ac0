"""Decoding straight on arrays: the logits of the model, to the bit; and the model itself where that cannot be."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, nn
from minitransformer import Step, evaluating, greedy
from minitransformer.straight import Kept, Straight, straight
from tests.models import Fickle, sentences, small_model, will_end

KNOWN = [
    {},
    {"norm_first": True, "activation": "gelu", "bias": False},
    {"positions": "learned", "tie_weights": True, "final_norm": True},
    {"positions": "none", "head_dim": 3, "share_qk": True, "attention_scale": "d_k"},
    {"num_decoder_layers": 3, "nhead": 1, "embedding_norm": True},
]
OTHERS = [
    {"norm": "none"},
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
    model = small_model(**changes).to(dtype).eval()
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


@pytest.mark.parametrize("changes", OTHERS)
def test_what_it_does_not_know_decodes_by_itself(changes):
    model = small_model(**changes).eval()
    assert straight(model) is model


def test_what_has_been_exchanged_decodes_by_itself(rng):
    class Loud(nn.Linear):
        def forward(self, input):
            return 3 * super().forward(input)

    src = sentences(rng, [4, 2])
    for exchange in (
        lambda model: setattr(model, "generator", Loud(8, 11)),
        lambda model: setattr(model.decoder.layers[1].ffn, "linear1", Loud(8, 12)),
        lambda model: setattr(model.decoder.layers[0].self_attn, "q_proj", Loud(8, 8)),
        lambda model: setattr(model.decoder.layers[0].add_norm2, "forward", lambda x, sublayer, real=None: x),
        lambda model: setattr(model.decoder.layers[0], "forward", lambda x, *_: x),
        lambda model: setattr(model, "decode", type(model).decode.__get__(model)),
    ):
        model = will_end(small_model()).eval()
        exchange(model)
        model = model.double()
        assert straight(model) is model
        assert np.array_equal(greedy(model, src, max_len=6), greedy(model, src, max_len=6, use_cache=False))


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
