"""A language model goes on with prompts: in a batch of different lengths as alone, by every way of decoding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minitransformer import Continue, LanguageModel, beam_search, evaluating, greedy, jacobi, sample
from tests.models import small_config, unpadded

EOS = 2


def language_model(seed, **changes):
    mg.manual_seed(seed)
    model = LanguageModel(small_config(**changes)).double()
    model.generator.bias.data[EOS] += 1.0
    return model


def by_hand(model, prompt, max_len):
    """Nothing kept, one prompt alone."""
    text = list(prompt)
    with evaluating(model):
        while len(text) < len(prompt) + max_len and text[-1] != EOS:
            logits = model([text]).numpy()[0, -1].copy()
            logits[[0, 1]] = -np.inf
            text.append(int(logits.argmax()))
    return text


PROMPTS = st.lists(st.lists(st.integers(3, 12), max_size=5).map(lambda row: [1, *row]), min_size=1, max_size=4)


@settings(max_examples=20)
@given(PROMPTS, st.booleans(), st.sampled_from(["sinusoidal", "rotary", "alibi"]), st.integers(0, 2**32 - 1))
def test_texts_are_continued_as_each_alone(prompts, use_cache, positions, seed):
    model = language_model(seed, positions=positions)
    shortest = min(map(len, prompts))
    expected = [by_hand(model, prompt, 8)[shortest:] for prompt in prompts]
    settings = {"max_len": 8, "use_cache": use_cache, "step": Continue}
    assert [unpadded(row) for row in greedy(model, prompts, **settings)] == expected
    assert [unpadded(row) for row in jacobi(model, prompts, window=3, **settings).tokens] == expected
    assert [unpadded(row) for row in sample(model, prompts, top_k=1, **settings)] == expected
    assert [y[0].tokens.tolist() for y in beam_search(model, prompts, beam_size=1, **settings)] == expected


def test_the_rest_of_a_prompt_does_not_count(rng):
    model, prompts = language_model(0), [[1, 5], [1, 6, 7, 8]]
    together = beam_search(model, prompts, length_penalty=0.0, max_len=5, step=Continue)
    for prompt, rest, found in zip(prompts, ([], [7, 8]), together, strict=True):
        (alone,) = beam_search(model, [prompt], length_penalty=0.0, max_len=5, step=Continue)
        assert found[0].tokens.tolist() == [*rest, *alone[0].tokens]
        assert found[0].log_prob == pytest.approx(alone[0].log_prob)


def test_prompts_may_be_padded_and_lengths_are_limited():
    model = language_model(0, positions="learned", max_len=6)
    model.generator.bias.data[EOS] = -100
    assert greedy(model, [[1, 3, 4, 5, 6, 7]], step=Continue).shape == (1, 1)
    padded = np.array([[1, 5, 0], [1, 6, 7]])
    assert np.array_equal(
        greedy(model, padded, max_len=3, step=Continue), greedy(model, [[1, 5], [1, 6, 7]], max_len=3, step=Continue)
    )
    assert greedy(model, padded, max_len=50, step=Continue).shape == (
        2,
        5,
    )  # the sixth token is read, and the last told
    assert greedy(language_model(0), [[1]], step=Continue).shape[1] <= 12


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], r"decoding: there are no prompts; there is nothing to go on with\."),
        ([[1, 5], [0, 0]], r"decoding: prompt 1 is empty; give at least a begin of sentence\. Nothing can be written"),
        ([[1, 5, 2]], r"decoding: prompt 0 holds the end of sentence\. Nothing can be written after it\."),
    ],
)
def test_what_cannot_be_continued_is_an_error(prompts, message):
    with pytest.raises(ValueError, match=message):
        greedy(language_model(0), prompts, step=Continue)


@pytest.mark.parametrize("prompts", [[[1, 3, 4, 5, 6, 7, 8]], [[1], [1, 3, 4, 5, 6, 7, 8]]])
def test_a_prompt_that_the_model_cannot_read_is_an_error(prompts):
    model = language_model(0, positions="learned", max_len=6)
    with pytest.raises(
        ValueError, match=rf"decoding: prompt {len(prompts) - 1} has 7 tokens; the model reads at most 6\. Give its end"
    ):
        greedy(model, prompts, step=Continue)


def test_logits_that_are_no_numbers_are_an_error():
    model = language_model(0)
    model.generator.bias.data[5] = np.nan
    with pytest.raises(FloatingPointError, match=r"decoding: the model's logits are nan"):
        greedy(model, [[1, 4]], step=Continue)


def test_without_the_step_for_prompts_there_is_a_hint():
    with pytest.raises(TypeError, match=r"a LanguageModel reads no source, it has no encode\(\)\. .* step=Continue\."):
        greedy(language_model(0), [[1, 4], [1]])
