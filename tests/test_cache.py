"""What is kept while decoding can be taken back, and follows the sentences where they go."""

import numpy as np
import pytest

from minitransformer import evaluating
from minitransformer.cache import KeysAndValues
from tests.models import sentences, small_model


def test_what_was_only_tried_can_be_taken_back(rng):
    model = small_model()
    src, tgt = sentences(rng, [5, 3]), sentences(rng, [6, 6], bos=True)
    with evaluating(model):
        memory, mask, cache = model.encode(src), model.padding_mask(src), model.new_cache()
        model.decode(tgt[:, :3], memory, mask, cache)
        tried = np.concatenate([tgt[:, :3], tgt[:, :2]], axis=1)
        model.decode(tried, memory, mask, cache)
        assert cache.length == 5
        cache.truncate(3)
        assert cache.length == 3
        after = model.decode(tgt, memory, mask, cache)
        np.testing.assert_allclose(after.numpy(), model.decode(tgt, memory, mask)[:, 3:].numpy(), atol=1e-12)


def test_sentences_may_end_split_and_swap_places(rng):
    model = small_model()
    src, tgt = sentences(rng, [5, 3, 4]), sentences(rng, [6, 6, 6], bos=True)
    rows = np.array([2, 0, 0, 2])
    with evaluating(model):
        cache = model.new_cache()
        model.decode(tgt[:, :4], model.encode(src), model.padding_mask(src), cache)
        cache.select(rows)
        after = model.decode(tgt[rows], model.encode(src[rows]), model.padding_mask(src[rows]), cache)
        expected = model(src[rows], tgt[rows])[:, 4:]
    np.testing.assert_allclose(after.numpy(), expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("length", [-1, 1])
def test_an_empty_cache_has_nothing_to_take_back(length):
    cache = small_model().new_cache()
    cache.truncate(0)
    cache.select(np.array([0]))
    with pytest.raises(ValueError, match=rf"truncate\(\): length is {length}; it must be 0 to 0"):
        cache.truncate(length)


def test_a_kind_of_memory_must_say_what_it_keeps():
    with pytest.raises(NotImplementedError, match="KeysAndValues does not say what is kept"):
        KeysAndValues()(None, None, None)
