"""The ancestor of the Transformer: Bahdanau's equations, and the interface that it shares with its descendant."""

import dataclasses
import json

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minitransformer import GRUConfig, GRUSeq2Seq, TrainConfig, beam_search, evaluating, greedy, jacobi
from minitransformer.recurrent import AdditiveAttention
from minitransformer.runs import Recipe
from minitransformer.tasks import make_task
from tests import oracle
from tests.models import sentences

SMALL = {"src_vocab_size": 13, "tgt_vocab_size": 11, "d_model": 5, "hidden_size": 4, "attention_size": 3}
variants = pytest.mark.parametrize("changes", [{}, {"num_layers": 3}], ids=["one layer", "three"])


def small_model(**changes) -> GRUSeq2Seq:
    """In float64, and far from where parameters start: with small states everything is nearly linear."""
    model = GRUSeq2Seq(GRUConfig(**SMALL | changes)).double()
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data += 0.5 * rng.standard_normal(parameter.shape)
    return model


def values(x):
    return x.detach().numpy()


def gradients(model):
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters()}


# -------------------------------------------------------------------------------------------------------- the equations
def in_torch(torch, p, src, tgt, config):
    """Logits (T, V) and pattern (T, S) of one sentence, from the paper's equations and the parameters by name."""
    H, layers = config.hidden_size, range(config.num_layers)

    def gru(x, h, w_ih, w_hh, b_ih, b_hh):
        a, u = p[w_ih] @ x + p[b_ih], p[w_hh] @ h + p[b_hh]
        r, z = torch.sigmoid(a[:H] + u[:H]), torch.sigmoid(a[H : 2 * H] + u[H : 2 * H])
        return (1 - z) * torch.tanh(a[2 * H :] + r * u[2 * H :]) + z * h

    def names(prefix, suffix=""):
        return [f"{prefix}{name}{suffix}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    xs = [p["src_embed.weight"][i] for i in src]
    for layer in layers:
        ahead, back = [torch.zeros(H, dtype=torch.float64)], [torch.zeros(H, dtype=torch.float64)]
        for x, y in zip(xs, xs[::-1], strict=True):
            ahead.append(gru(x, ahead[-1], *names("encoder.", f"_l{layer}")))
            back.append(gru(y, back[-1], *names("encoder.", f"_l{layer}_reverse")))
        xs = [torch.cat([f, b]) for f, b in zip(ahead[1:], back[:0:-1], strict=True)]  # h_j
    states = torch.tanh(p["decoder.start.weight"] @ xs[0][H:] + p["decoder.start.bias"]).split(H)
    W, b, U, v = (p[f"decoder.attention.{n}"] for n in ("query.weight", "query.bias", "key.weight", "score.weight"))
    logits, patterns = [], []
    for token in tgt:
        y = p["tgt_embed.weight"][token]
        e = torch.stack([v[0] @ torch.tanh(W @ states[-1] + b + U @ h) for h in xs])
        alpha = torch.exp(e) / torch.exp(e).sum()
        c = sum(a * h for a, h in zip(alpha, xs, strict=True))
        x, states_before, states = torch.cat([y, c]), states, []
        for layer, state in zip(layers, states_before, strict=True):
            x = gru(x, state, *names(f"decoder.cells.{layer}."))
            states.append(x)
        t = p["decoder.readout.weight"] @ torch.cat([y, x, c]) + p["decoder.readout.bias"]
        t = torch.maximum(*t.split(config.d_model))
        logits.append(p["generator.weight"] @ t + p["generator.bias"])
        patterns.append(alpha)
    return torch.stack(logits), torch.stack(patterns)


@variants
def test_values_and_gradients_are_those_of_the_equations(changes, rng):
    torch = oracle.torch()
    model = small_model(**changes)
    src, tgt = sentences(rng, [5, 2]), sentences(rng, [3, 4], bos=True)
    cotangent = rng.standard_normal((2, 4, 11)) * (tgt != 0)[:, :, None]
    with nn.capture(model, "decoder.pattern") as seen:
        logits = model(src, tgt)
    logits.backward(cotangent)
    theirs = {name: torch.tensor(p.data, requires_grad=True) for name, p in model.named_parameters()}
    for i, (s, t) in enumerate(zip(src, tgt, strict=True)):
        expected, pattern = in_torch(torch, theirs, s[s != 0].tolist(), t[t != 0].tolist(), model.config)
        T, S = pattern.shape
        np.testing.assert_allclose(values(logits)[i, :T], expected.detach().numpy(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(values(seen["decoder.pattern"])[i, :T, :S], pattern.detach().numpy(), atol=1e-12)
        assert not values(seen["decoder.pattern"])[i, :, S:].any()
        expected.backward(torch.tensor(cotangent[i, :T]))
    for name, gradient in gradients(model).items():
        expected = theirs[name].grad.numpy().copy()
        if name.endswith("_embed.weight"):
            expected[0] = 0  # padding
        np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-12, err_msg=name)


def test_attention_to_nothing_is_nothing(rng):
    attention, memory = AdditiveAttention(4, 6, 3).double(), mg.tensor(rng.standard_normal((2, 5, 6)))
    mask = np.array([[True] * 5, [False] * 5])
    context, pattern = attention(mg.tensor(rng.standard_normal((2, 4))), attention.key(memory), memory, mask)
    np.testing.assert_allclose(values(pattern).sum(1), [1, 0], atol=1e-12)
    np.testing.assert_allclose(values(context), np.einsum("bs,bsm->bm", values(pattern), values(memory)), atol=1e-12)


# ----------------------------------------------------------------------------------------------------------- dependence
@variants
def test_the_future_changes_nothing_bit_for_bit(changes, rng):
    model = small_model(**changes)
    src, tgt = sentences(rng, [6, 3]), sentences(rng, [7, 7], bos=True)
    before = values(model(src, tgt))
    for t in range(1, 7):
        other = tgt.copy()
        other[:, t:] = (tgt[:, t:] - 3 + rng.integers(1, 7)) % 8 + 3  # other tokens at t and after
        after = values(model(src, other))
        assert np.array_equal(after[:, :t], before[:, :t])
        assert (np.abs(after[:, t:] - before[:, t:]).max(axis=(0, 2)) > 0).all()


@variants
def test_padding_changes_nothing(changes, rng):
    """Alone, in a padded batch, with more padding, or with padding in front of the source: values and gradients."""
    model = small_model(**changes)
    source, target = [6, 2, 4, 1], [3, 5, 1, 4]
    src, tgt = sentences(rng, source), sentences(rng, target, bos=True)
    cotangent = rng.standard_normal((4, 5, 11)) * (tgt != 0)[:, :, None]
    together = model(src, tgt)
    together.backward(cotangent)
    expected = gradients(model)
    for around in [(0, 3), (2, 0)]:
        model.zero_grad()
        padded = model(np.pad(src, [(0, 0), around]), tgt)
        padded.backward(cotangent)
        np.testing.assert_allclose(values(padded), values(together), rtol=0, atol=1e-12)
        for name, gradient in gradients(model).items():
            np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-12, err_msg=name)
    model.zero_grad()
    for i, (s, t) in enumerate(zip(source, target, strict=True)):
        alone = model(src[i : i + 1, :s], tgt[i : i + 1, :t])
        np.testing.assert_allclose(values(alone)[0], values(together)[i, :t], rtol=0, atol=1e-12)
        alone.backward(cotangent[i : i + 1, :t])  # gradients add up over the sentences
    for name, gradient in gradients(model).items():
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-12, err_msg=name)


def test_a_source_of_padding_only_is_harmless(rng):
    model = small_model()
    logits = model(sentences(rng, [4, 0]), sentences(rng, [3, 3], bos=True))
    logits.backward(rng.standard_normal(logits.shape))
    assert np.isfinite(values(logits)).all()
    assert all(np.isfinite(g).all() for g in gradients(model).values())


# ------------------------------------------------------------------------------------------------------------ the cache
@variants
def test_in_pieces_it_computes_the_same_as_in_one_go(changes, rng):
    model = small_model(**changes)
    src, tgt = sentences(rng, [5, 2]), sentences(rng, [6, 6], bos=True)
    memory, mask, cache = model.encode(src), model.padding_mask(src), model.new_cache()
    whole, pieces = values(model.decode(tgt, memory, mask)), []
    for stop in (2, 3, 6):
        with nn.capture(model, "decoder.attention.key") as seen:
            pieces.append(values(model.decode(tgt[:, :stop], memory, mask, cache)))
        assert len(seen) == (stop == 2)  # U h_j once for a sentence
        assert cache.length == stop
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=0, atol=1e-12)


@variants
def test_tokens_may_be_taken_back_and_sentences_choose_their_places(changes, rng):
    model = small_model(**changes)
    src, tgt, rows = sentences(rng, [5, 3, 4]), sentences(rng, [6, 6, 6], bos=True), np.array([2, 0, 0, 2])
    with evaluating(model):
        cache = model.new_cache()
        tried = np.concatenate([tgt[:, :3], tgt[:, :2]], axis=1)
        model.decode(tried, model.encode(src), model.padding_mask(src), cache)
        cache.truncate(3)
        assert cache.length == 3
        cache.select(rows)
        after = model.decode(tgt[rows], model.encode(src[rows]), model.padding_mask(src[rows]), cache)
        np.testing.assert_allclose(after.numpy(), model(src[rows], tgt[rows])[:, 3:].numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [-1, 1])
def test_an_empty_cache_has_nothing_to_take_back(length):
    cache = small_model().new_cache()
    cache.truncate(0)
    cache.select(np.array([0]))
    with pytest.raises(ValueError, match=rf"GRUCache.truncate\(\): length is {length}; it must be 0 to 0"):
        cache.truncate(length)


@variants
def test_with_and_without_cache_and_alone_it_writes_the_same_tokens(changes, rng):
    model = small_model(**changes)
    src = sentences(rng, [6, 2, 4])
    written = greedy(model, src, max_len=8)
    assert np.array_equal(written, greedy(model, src, max_len=8, use_cache=False))
    for row, sentence in zip(written, src, strict=True):
        alone = greedy(model, sentence[None, sentence != 0], max_len=8)[0]
        assert np.array_equal(row[: len(alone)], alone)
        assert not row[len(alone) :].any()


@variants
@pytest.mark.parametrize("use_cache", [True, False])
def test_every_way_of_decoding_takes_it(changes, use_cache, rng):
    model = small_model(**changes)
    src = sentences(rng, [6, 2, 4])
    written = [row[row != 0].tolist() for row in greedy(model, src, max_len=8)]
    beams = beam_search(model, src, beam_size=1, max_len=8, use_cache=use_cache)
    assert [list(best.tokens) for (best,) in beams] == written
    converged = jacobi(model, src, max_len=8, use_cache=use_cache).tokens
    assert [row[row != 0].tolist() for row in converged] == written
    one, other = (
        beam_search(model, src, beam_size=3, max_len=6, use_cache=cached)[0][0] for cached in (True, use_cache)
    )
    assert list(one.tokens) == list(other.tokens)
    np.testing.assert_allclose(one.score, other.score, rtol=1e-12)


# -------------------------------------------------------------------------------------------------------- what it shows
@variants
def test_declared_taps_are_fired_taps(changes, rng):
    model = small_model(**changes)
    declared = {f"{path}.{tap}".lstrip(".") for path, module in model.named_modules() for tap in module.taps}
    assert {"decoder.pattern", "decoder.attention.pattern", "memory", "logits"} <= declared
    with nn.capture(model) as seen:
        model(sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True))
    assert declared <= set(seen)
    shapes = {name: seen[f"decoder.{name}"].shape for name in ("states", "contexts", "pattern")}
    assert shapes == {"states": (2, 3, 4), "contexts": (2, 3, 8), "pattern": (2, 3, 4)}
    steps = seen.all["decoder.attention.pattern"]
    np.testing.assert_array_equal(values(seen["decoder.pattern"]), np.stack([values(step) for step in steps], axis=1))


def test_looking_changes_nothing_and_a_patched_pattern_is_used(rng):
    model = small_model(dropout=0.3)
    src, tgt = sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True)
    mg.manual_seed(5)
    alone = values(model(src, tgt))
    mg.manual_seed(5)
    with nn.capture(model):
        assert np.array_equal(values(model(src, tgt)), alone)
    with nn.patch(model, {"decoder.attention.pattern": lambda x: 0 * x}), nn.capture(model, "decoder.contexts") as seen:
        model(src, tgt)
    assert not values(seen["decoder.contexts"]).any()


def test_parameters_are_counted_by_part():
    counts = small_model().num_parameters()
    assert list(counts) == ["src_embed", "tgt_embed", "encoder", "decoder", "generator", "total"]
    assert counts["generator"] == 11 * 5 + 11
    assert counts["total"] == sum(p.numel() for p in small_model().parameters())


def test_evaluation_is_deterministic_and_training_is_not(rng):
    model = small_model(dropout=0.5)
    src, tgt = sentences(rng, [4]), sentences(rng, [3], bos=True)
    assert not np.array_equal(values(model(src, tgt)), values(model(src, tgt)))
    model.eval()
    assert np.array_equal(values(model(src, tgt)), values(model(src, tgt)))
    assert GRUSeq2Seq(GRUConfig(**SMALL))(src, tgt).dtype == np.float32


def test_dropout_is_on_embeddings_between_layers_and_on_the_readout(rng):
    """Each place alone: with all values 1 there, dropout leaves 0 and 1 / (1 - p)."""
    model = small_model(dropout=0.5, num_layers=2)
    seen = []
    for part in (model.dropout, model.decoder.dropout):
        part.forward = lambda x, forward=part.forward: seen.append((x, forward(x))) or seen[-1][1]
    src, tgt = sentences(rng, [5, 4]), sentences(rng, [4, 3], bos=True)
    model(src, tgt)
    shapes = [before.shape for before, _ in seen]
    D, H, T = model.config.d_model, model.config.hidden_size, tgt.shape[1]
    assert shapes == [(2, 5, D), (2, T, D), *[(2, H)] * T, (2, T, D)]  # source, target, between layers, readout
    for before, after in seen:
        kept = after.detach().numpy() != 0
        assert 0 < kept.mean() < 1
        np.testing.assert_allclose(after.detach().numpy()[kept], 2 * before.detach().numpy()[kept])
    assert model.encoder.dropout == 0.5


# ------------------------------------------------------------------------------------------------------------ it learns
def test_reversing_is_learnt():
    made = Recipe(
        make_task("reverse", symbols=4, min_length=1, max_length=6),
        GRUConfig(src_vocab_size=4, d_model=16, hidden_size=24, attention_size=16),
        TrainConfig(steps=600, batch_size=64, warmup=60, lr_factor=0.3, eval_every=50, target_accuracy=0.99),
    )
    trainer = made.begin(made.task.splits)
    while not trainer.finished:
        trainer.step()
    assert trainer.reached_target
    assert trainer.translator.evaluate(made.task.splits["random"])[0].exact_match > 0.95
    patterns, source, target = trainer.translator.attention("1 2 3 0 1 3")
    (pattern,) = patterns["layer 0"]
    assert pattern.shape == (len(target), len(source))
    np.testing.assert_allclose(pattern.sum(1), 1, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------- the configuration
WRONG = [
    ("src_vocab_size", 0, "src_vocab_size is 0; it must be an integer of at least 1."),
    ("tgt_vocab_size", 0, "tgt_vocab_size is 0; it must be an integer of at least 1, or None."),
    ("d_model", 1.0, "d_model is 1.0; it must be an integer of at least 1."),
    ("hidden_size", True, "hidden_size is True; it must be an integer of at least 1."),
    ("attention_size", -1, "attention_size is -1; it must be an integer of at least 1."),
    ("num_layers", "2", "num_layers is '2'; it must be an integer of at least 1."),
    ("dropout", 1.0, "dropout is 1.0; it must be at least 0 and below 1."),
    ("pad_id", 11, "pad_id is 11; it must be a token, 0 to 10, unlike the other two"),
    ("bos_id", 0, "pad_id is 0; it must be a token, 0 to 10, unlike the other two"),
    ("eos_id", -1, "eos_id is -1; it must be a token, 0 to 10, unlike the other two"),
]


@pytest.mark.parametrize(("field", "value", "message"), WRONG)
def test_an_illegal_value_is_named_with_what_would_be_legal(field, value, message):
    with pytest.raises(ValueError, match="GRUConfig: ") as caught:
        GRUConfig(**SMALL | {field: value})
    assert message in str(caught.value)


def test_every_field_is_checked_and_written_down():
    fields = [field.name for field in dataclasses.fields(GRUConfig)]
    assert [field for field, _, _ in WRONG] == fields
    config = GRUConfig(**SMALL | {"num_layers": 2, "dropout": 0.25})
    assert GRUConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert list(config.to_dict()) == fields
    assert GRUConfig(src_vocab_size=9).target_vocab_size == 9
    with pytest.raises(ValueError, match=r"GRUConfig: there is no field 'nhead'. The fields are src_vocab_size, tgt_"):
        GRUConfig.from_dict({"src_vocab_size": 9, "nhead": 8})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("src_vocab_size", 14),
        ("tgt_vocab_size", None),
        ("d_model", 6),
        ("hidden_size", 5),
        ("attention_size", 4),
        ("num_layers", 2),
    ],
)
def test_every_size_changes_the_parameters(field, value):
    def shapes(**changes):
        return {name: p.shape for name, p in GRUSeq2Seq(GRUConfig(**SMALL | changes)).named_parameters()}

    assert shapes() != shapes(**{field: value})


def test_the_three_special_tokens_are_used(rng):
    model = small_model(pad_id=9, bos_id=8, eos_id=7)
    src = np.array([[3, 4, 5, 9]])
    assert model.padding_mask(src).numpy()[0, 0, 0].tolist() == [True, True, True, False]
    assert not np.isin(greedy(model, src, max_len=20), [8, 9]).any()
    model.generator.bias.data[7] += 1e3
    assert greedy(model, src).tolist() == [[7]]


# --------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("src", "tgt", "message"),
    [
        ([3, 4], [[1]], r"src has shape \(2,\), dtype int64; it must be integers"),
        ([[3, 4]], [[1.0]], r"tgt has shape \(1, 1\), dtype float64; it must be integers"),
        ([[3, 4]], [[1], [1]], r"GRUSeq2Seq\(\): tgt has shape \(2, 1\), the memory .*; give one target per source"),
        ([[3]], np.zeros((1, 0), int), r"tgt has shape \(1, 0\), .* after 0 tokens; .* at least one new token"),
    ],
)
def test_what_is_not_a_batch_of_tokens_is_an_error(src, tgt, message):
    with pytest.raises(mg.ShapeError, match=message):
        small_model()(src, tgt)


def test_a_target_that_has_been_read_already_is_an_error(rng):
    model, src, tgt = small_model(), sentences(rng, [3]), sentences(rng, [2], bos=True)
    memory, cache = model.encode(src), model.new_cache()
    model.decode(tgt, memory, cache=cache)
    with pytest.raises(mg.ShapeError, match=r"the cache the states after 2 tokens; .* at least one new token"):
        model.decode(tgt, memory, cache=cache)
