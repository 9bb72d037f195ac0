"""Masks: True = may attend, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minitransformer import causal_mask, padding_mask


@given(st.integers(0, 5), st.integers(0, 6), st.integers(-1, 2), st.integers(0, 2**32 - 1))
def test_padding_mask_is_true_at_tokens(B, S, pad_id, seed):
    ids = np.random.default_rng(seed).integers(-2, 4, (B, S))
    mask = padding_mask(ids, pad_id)
    assert (mask.shape, mask.dtype) == ((B, 1, 1, S), np.bool_)
    assert all(mask.numpy()[b, 0, 0, s] == (ids[b, s] != pad_id) for b in range(B) for s in range(S))
    assert np.array_equal(padding_mask(mg.tensor(ids), pad_id).numpy(), mask.numpy())


@given(st.integers(0, 5), st.none() | st.integers(0, 9), st.integers(0, 4))
def test_causal_mask_is_true_at_the_past_and_the_present(T, S, offset):
    mask = causal_mask(T, S, offset)
    keys = T + offset if S is None else S
    assert (mask.shape, mask.dtype) == ((1, 1, T, keys), np.bool_)
    assert all(mask.numpy()[0, 0, t, s] == (s <= t + offset) for t in range(T) for s in range(keys))


def test_a_causal_mask_with_offset_is_the_end_of_a_longer_one():
    assert np.array_equal(causal_mask(2, offset=3).numpy(), causal_mask(5).numpy()[:, :, 3:])


def test_masks_are_combined_with_and():
    both = causal_mask(3) & padding_mask([[4, 4, 0], [4, 0, 0]], pad_id=0)
    assert both.shape == (2, 1, 3, 3)
    assert both.numpy()[1, 0].tolist() == [[True, False, False]] * 3


def test_padding_mask_wants_a_batch():
    with pytest.raises(
        mg.ShapeError, match=r"padding_mask\(\): ids has shape \(3,\); it must be \(B, S\)\. Add a batch"
    ):
        padding_mask(np.array([1, 2, 0]), 0)
