"""A decoder alone and an encoder alone: made of the parts of the whole, and able to learn."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.testing import gradcheck
from minitransformer import POSITIONS, Cache, Classifier, LanguageModel, evaluating
from minitransformer.cache import Segment, Segments
from tests.models import sentences, small_config


def make(kind, *more, **changes):
    mg.manual_seed(1)
    return kind(small_config(**changes), *more).double()


def learn(model, batches, target, lr=1e-2):
    """Train until the loss of a batch is below the target; return whether that happened."""
    optimizer = mg.optim.Adam(model.parameters(), lr=lr)
    for inputs, expected in batches:
        optimizer.zero_grad()
        logits = model(inputs)
        loss = mg.ops.cross_entropy(logits, expected, ignore_index=0 if logits.ndim == 3 else -1)
        loss.backward()
        optimizer.step()
        if loss.item() < target:
            return True
    return False


# ------------------------------------------------------------------------------------------------------ language model
@pytest.mark.parametrize("positions", POSITIONS)
def test_a_language_model_looks_back_only(positions, rng):
    model = make(LanguageModel, positions=positions)
    ids = sentences(rng, [6, 4])
    before = model(ids).detach().numpy()
    ids[0, 3:] = 5
    after = model(ids).detach().numpy()
    assert np.array_equal(after[0, :3], before[0, :3])
    assert np.array_equal(after[1, :4], before[1, :4])
    assert not np.array_equal(after[0, 3:], before[0, 3:])


@pytest.mark.parametrize("positions", POSITIONS)
def test_with_the_cache_the_pieces_are_the_whole(positions, rng):
    model = make(LanguageModel, positions=positions)
    ids = sentences(rng, [6, 6])
    with evaluating(model):
        cache = model.new_cache()
        assert isinstance(cache, Cache)
        pieces = [model(ids[:, a:b], cache).numpy() for a, b in ((0, 2), (2, 3), (3, 6))]
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), model(ids).numpy(), rtol=0, atol=1e-12)


def test_it_consists_of_the_parts_of_a_transformer():
    model = make(LanguageModel, num_decoder_layers=3, tie_weights=True)
    assert model.generator.weight is model.embed.weight
    assert len(model.decoder.layers) == 3
    assert model.max_len is None
    assert make(LanguageModel, positions="learned").max_len == 40
    assert not any("cross" in name for name, _ in model.named_parameters())


def copying(rng, batch=32, length=4):
    """Texts such as  a b c d | a b c d, with 2 for the bar; what can be foretold is the second half."""
    half = rng.integers(3, 13, (batch, length))
    ids = np.concatenate([half, np.full((batch, 1), 2), half], axis=1)
    target = ids[:, 1:].copy()
    target[:, :length] = 0  # not asked for
    return ids[:, :-1], target


def test_a_language_model_learns_to_copy(rng):
    mg.manual_seed(0)
    sizes = {"d_model": 32, "nhead": 4, "dim_feedforward": 64}
    model = LanguageModel(small_config(**sizes, positions="relative"))
    assert learn(model, (copying(rng) for _ in range(600)), target=0.02, lr=3e-3)
    ids, target = copying(rng, batch=50)
    with evaluating(model):
        prompt, cache = ids[:, :5], model.new_cache()
        new = prompt
        for _ in range(4):  # write the copy, word by word
            new = model(new, cache).numpy()[:, -1:].argmax(axis=-1)
            prompt = np.concatenate([prompt, new], axis=1)
    assert (prompt[:, 5:] == target[:, 4:]).all(axis=1).mean() > 0.95


# --------------------------------------------------------------------------------------------------- segments of a text
def xl(**changes):
    return make(LanguageModel, positions="transformer_xl", **changes)


def test_with_a_memory_as_long_as_the_text_segments_are_the_whole_text(rng):
    model, ids = xl(), sentences(rng, [9, 9])
    memory = model.new_memory(9)
    pieces = [model(ids[:, a:b], memory).detach().numpy() for a, b in ((0, 4), (4, 6), (6, 9))]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), model(ids).detach().numpy(), rtol=0, atol=1e-12)


def test_context_reaches_one_memory_per_layer_and_no_farther(rng):
    """With segments of 2, a memory of 2 and 2 layers, a token sees 2 segments before its own, and nothing before."""
    model, ids = xl(), sentences(rng, [10])

    def last(ids):
        memory = model.new_memory(2)
        return [model(ids[:, i : i + 2], memory).detach().numpy() for i in range(0, 10, 2)][-1][0, 0]

    before = last(ids)
    seen = []
    for place in range(9):
        other = ids.copy()
        other[0, place] = 3 + (other[0, place] - 2) % 8
        seen.append(not np.array_equal(last(other), before))
    assert seen == [False] * 4 + [True] * 5


def test_no_gradient_goes_into_the_memory(rng):
    model, memory = xl(), None
    ids = sentences(rng, [6])
    memory = model.new_memory(3)
    with nn.capture(model, "decoder.layers.0.resid_pre", grad=True) as seen:
        model(ids[:, :3], memory)
        logits = model(ids[:, 3:], memory)
        logits.backward(rng.standard_normal(logits.shape))
    first, second = seen.all["decoder.layers.0.resid_pre"]
    assert first.grad is None
    assert second.grad.numpy().all()
    kept = memory.layers[0].self_attn.memory
    assert kept.shape == (1, 3, 8)
    assert not kept.requires_grad


@pytest.mark.parametrize(("memory_len", "learns"), [(4, True), (0, False)])
def test_what_stands_in_the_segment_before_can_be_learnt_with_a_memory_only(memory_len, learns, rng):
    """The second segment repeats the first, and the model sees one at a time."""
    mg.manual_seed(0)
    sizes = {"d_model": 32, "nhead": 4, "dim_feedforward": 64}
    model = LanguageModel(small_config(**sizes, positions="transformer_xl"))
    optimizer = mg.optim.Adam(model.parameters(), lr=3e-3)
    right = 0.0
    for _ in range(400 if learns else 100):
        first = rng.integers(3, 13, (32, 4))
        second = np.concatenate([np.full((32, 1), 2), first[:, :-1]], axis=1)  # after a bar
        memory = model.new_memory(memory_len)
        model(first, memory)
        logits = model(second, memory)
        optimizer.zero_grad()
        mg.ops.cross_entropy(logits, first).backward()
        optimizer.step()
        right = (logits.detach().numpy().argmax(axis=-1) == first).mean()
        if right > 0.98:
            break
    assert bool(right > 0.98) is learns


def test_a_memory_of_nothing_forgets_everything(rng):
    model, ids = xl(), sentences(rng, [3])
    memory = model.new_memory(0)
    model(sentences(rng, [4]), memory)
    np.testing.assert_allclose(model(ids, memory).detach().numpy(), model(ids).detach().numpy(), atol=1e-12)
    assert memory.length == 0


def test_a_memory_follows_its_texts(rng):
    model, ids = xl(), sentences(rng, [6, 6, 6])
    rows = np.array([2, 0])
    memory, expected = model.new_memory(3), model.new_memory(3)
    model(ids[:, :3], memory)
    memory.select(rows)
    model(ids[rows][:, :3], expected)
    after, wanted = (model(ids[rows][:, 3:], m).detach().numpy() for m in (memory, expected))
    np.testing.assert_allclose(after, wanted, rtol=0, atol=1e-12)


def test_what_a_memory_cannot_do_is_an_error():
    with pytest.raises(ValueError, match=r"Segments\(\): memory_len is -1; it must be an integer of at least 0"):
        Segments(1, -1)
    with pytest.raises(ValueError, match=r"Segment\.truncate\(\): what came before the memory is gone"):
        Segment(3).truncate(1)


# ---------------------------------------------------------------------------------------------------------- classifier
@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_changes_nothing_for_a_classifier(positions, rng):
    model = make(Classifier, 4, positions=positions)
    ids = sentences(rng, [3, 6])
    np.testing.assert_allclose(
        model(ids).detach().numpy()[0], model(ids[:1, :3]).detach().numpy()[0], rtol=0, atol=1e-12
    )


def test_a_classifier_takes_the_mean_over_the_tokens(rng):
    model = make(Classifier, 4)
    ids = sentences(rng, [3, 6])
    with nn.capture(model, "encoder", "logits") as seen:
        model(ids)
    mean = seen["encoder"].detach().numpy()[0, :3].mean(axis=0)
    expected = mean @ model.head.weight.data.T + model.head.bias.data
    np.testing.assert_allclose(seen["logits"].detach().numpy()[0], expected, rtol=1e-12)


def test_a_text_of_padding_only_is_judged_by_the_bias():
    model = make(Classifier, 3)
    model.head.bias.data[:] = [1, 2, 3]
    np.testing.assert_allclose(model(np.zeros((1, 4), int)).detach().numpy(), [[1, 2, 3]])


def sorted_or_not(rng, batch=64, length=5):
    """Whether the numbers go up."""
    ids = rng.integers(3, 13, (batch, length))
    ids[::2] = np.sort(ids[::2], axis=1)
    return ids, (np.diff(ids, axis=1) >= 0).all(axis=1).astype(int)


def same_set_or_not(rng, batch=64, length=3):
    """A pair of sentences with 2 between them: whether the second is the first in another order."""
    first = np.array([rng.permutation(np.arange(3, 13))[:length] for _ in range(batch)])
    second = rng.permuted(first, axis=1)
    second[1::2, 0] = rng.integers(3, 13, len(second[1::2]))
    same = (np.sort(first, axis=1) == np.sort(second, axis=1)).all(axis=1)
    return np.concatenate([first, np.full((batch, 1), 2), second], axis=1), same.astype(int)


@pytest.mark.parametrize("task", [sorted_or_not, same_set_or_not])
def test_a_classifier_learns(task, rng):
    mg.manual_seed(0)
    model = Classifier(small_config(d_model=32, nhead=4, dim_feedforward=64), num_classes=2)
    assert learn(model, (task(rng) for _ in range(800)), target=0.05, lr=3e-3)
    ids, expected = task(rng, batch=500)
    with evaluating(model):
        assert (model(ids).numpy().argmax(axis=-1) == expected).mean() > 0.93


def test_gradients_go_through_both_kinds_of_model(rng):
    ids = sentences(rng, [4, 2])
    for model in (make(Classifier, 3), xl(num_decoder_layers=1)):
        parameters = list(model.parameters())[1:4]  # the embedding's padding has no gradient
        gradcheck(lambda *_, model=model: model(ids), parameters)
