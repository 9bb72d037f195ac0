"""Training: what a step computes, when it ends, what the scores mean, and that it learns."""

import math
from dataclasses import replace

import numpy as np
import pytest

import minigrad as mg
from minitransformer.batching import pad
from minitransformer.config import TransformerConfig
from minitransformer.decoding import evaluating
from minitransformer.evaluate import Translator
from minitransformer.runs import Recipe
from minitransformer.session import percent
from minitransformer.tasks import make_task
from minitransformer.train import TrainConfig, Trainer, TrainingError
from minitransformer.vocab import BOS, EOS, PAD

MODEL = TransformerConfig(
    src_vocab_size=4, d_model=16, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=32, dropout=0.1
)
TASK = make_task("copy", symbols=4, max_length=4, train_size=250)
SHORT = TrainConfig(steps=8, batch_size=32, warmup=4, eval_every=100)


def recipe(model: TransformerConfig = MODEL, **training: object) -> Recipe:
    return Recipe(TASK, model, replace(SHORT, **training))


def trained(made: Recipe) -> Trainer:
    trainer = made.begin(made.task.splits)
    while not trainer.finished:
        trainer.step()
    return trainer


def parameters(trainer: Trainer) -> dict[str, bytes]:
    return {name: tensor.data.tobytes() for name, tensor in trainer.translator.model.state_dict().items()}


# ---------------------------------------------------------------------------------------------------------- it learns
def test_copying_is_learnt():
    made = Recipe(
        make_task("copy", symbols=4, min_length=1, max_length=5),
        replace(MODEL, d_model=32, dim_feedforward=64),
        TrainConfig(steps=1500, batch_size=64, warmup=100, lr_factor=0.5, eval_every=50, target_accuracy=0.99),
    )
    trainer = trained(made)
    scores, translations = trainer.translator.evaluate(made.task.splits["random"])
    losses = [record["loss"] for record in trainer.history]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    assert scores.exact_match > 0.95
    assert trainer.reached_target
    assert sum(ours == target for ours, (_, target) in zip(translations, made.task.splits["random"], strict=True)) == (
        scores.exact_match * scores.sentences
    )


# -------------------------------------------------------------------------------------------------- the same run again
def test_one_seed_gives_one_run_bit_for_bit():
    first, second = trained(recipe()), trained(recipe())
    assert first.history == second.history
    assert parameters(first) == parameters(second)


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr_factor": 1.1}, {"label_smoothing": 0.0}, {"max_norm": 0.1}])
def test_other_options_give_another_run(change):
    assert parameters(trained(recipe())) != parameters(trained(recipe(**change)))


def test_the_seed_decides_the_first_parameters():
    assert parameters(recipe().begin(TASK.splits)) != parameters(recipe(seed=1).begin(TASK.splits))


def test_a_model_in_evaluation_mode_is_trained_with_dropout_all_the_same():
    trainer = recipe(steps=1).begin(TASK.splits)
    trainer.translator.model.eval()
    trainer.step()
    assert parameters(trainer) == parameters(trained(recipe(steps=1)))


def test_evaluating_on_the_way_does_not_change_the_run():
    assert parameters(trained(recipe(eval_every=1))) == parameters(trained(recipe(eval_every=100)))


# ------------------------------------------------------------------------------------------------ what a step computes
def test_the_loss_is_the_mean_over_the_tokens_that_are_not_padding():
    made = recipe(replace(MODEL, dropout=0.0))
    trainer = made.begin(TASK.splits)
    batch = next(batch for batch in trainer.coming if batch.tokens < batch.tgt_out.size)  # one with padding
    trainer.coming = iter([batch])
    with evaluating(trainer.translator.model):
        logits = trainer.translator.model(batch.src, batch.tgt_in).numpy().astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    losses = [
        -0.9 * log_p[b, t, token] - 0.1 * log_p[b, t].mean()
        for (b, t), token in np.ndenumerate(batch.tgt_out)
        if token != 0
    ]
    assert len(losses) == batch.tokens
    record, _ = trainer.step()
    assert record["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_learning_rate_is_that_of_the_paper():
    history = trained(recipe(lr_factor=0.5, steps=9)).history
    expected = [0.5 * 16**-0.5 * min(n**-0.5, n * 4**-1.5) for n in range(1, 10)]
    assert [record["learning_rate"] for record in history] == pytest.approx(expected)
    assert [record["step"] for record in history] == list(range(1, 10))


def test_gradients_are_clipped_and_their_norm_before_that_is_recorded():
    trainer = recipe(max_norm=0.01).begin(TASK.splits)
    record, _ = trainer.step()
    gradients = [parameter.grad.data for parameter in trainer.translator.model.parameters()]
    norm = math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients))
    assert record["gradient_norm"] > 0.1
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_not_finite_ends_training_before_the_parameters_are_lost():
    trainer = recipe().begin(TASK.splits)
    bias = next(p for name, p in trainer.translator.model.named_parameters() if name.endswith("bias"))
    bias.data[0] = np.inf
    before = parameters(trainer)
    with pytest.raises(TrainingError, match=r"loss of step 1 is nan.*smaller lr_factor"), np.errstate(all="ignore"):
        trainer.step()
    assert parameters(trainer) == before
    assert trainer.history == []


def test_parameters_that_are_lost_at_the_step_before_an_evaluation_end_training_too():
    trainer = recipe(lr_factor=1e30, eval_every=1).begin(TASK.splits)
    with (
        pytest.raises(
            TrainingError, match=r"after step 1 the model's logits are no numbers\. Train with a smaller lr_f"
        ),
        np.errstate(all="ignore"),
    ):
        trainer.step()


# ----------------------------------------------------------------------------------------------------------- the scores
@pytest.fixture(scope="module")
def learnt() -> Translator:
    """A translator that has learnt enough to end its sentences, and writes a different one for each source."""
    return trained(recipe(steps=300)).translator


def test_scores_do_not_depend_on_batches_and_padding(learnt):
    translator, pairs = learnt, TASK.splits["train"][:40]
    assert len({len(target) for _, target in pairs}) > 1
    loss, right, tokens = 0.0, 0, 0
    for source, target in pairs:
        ids = translator.target.encode(target)
        with evaluating(translator.model):
            logits = translator.model(pad([[*translator.source.encode(source), EOS]]), pad([[BOS, *ids]])).numpy()[0]
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        for row, token in zip(log_p, [*ids, EOS], strict=True):
            loss -= row[token]
            right += int(row.argmax() == token)
            tokens += 1
    scores, translations = translator.evaluate(pairs)
    assert scores.loss == pytest.approx(loss / tokens, rel=1e-4)
    assert scores.token_accuracy == pytest.approx(right / tokens)
    assert scores.sentences == len(pairs)
    assert translations == [translator.translate([source])[0] for source, _ in pairs]
    assert translations == translator.translate([source for source, _ in reversed(pairs)])[::-1]


def test_padding_is_no_token_that_could_be_right():
    translator = recipe().begin(TASK.splits).translator
    translator.model.generator.bias.data[PAD] = 1e3
    assert translator.evaluate(TASK.splits["train"][:40])[0].token_accuracy == 0


def test_attention_is_shown_for_the_tokens_that_the_model_writes(learnt):
    translator = learnt
    patterns, source, target = translator.attention("1 2 3")
    ids = [translator.target.tokens.index(token) for token in target]
    src = pad([[*translator.source.encode("1 2 3"), EOS]])
    assert source == [*translator.source.tokeniser.split("1 2 3"), "<eos>"]
    assert len(set(target)) > 2
    assert list(patterns) == ["layer 0"]
    assert patterns["layer 0"].shape == (2, len(target), len(source))
    for t in range(len(target)):  # each row belongs to the prefix after which its token was written
        prefix = [BOS, *ids[:t]]
        with evaluating(translator.model), mg.nn.capture(translator.model, "*cross_attn.pattern") as seen:
            logits = translator.model(src, pad([prefix])).numpy()[0, -1]
        logits[[PAD, BOS]] = -np.inf
        assert logits.argmax() == ids[t]
        np.testing.assert_allclose(
            patterns["layer 0"][:, t], seen["decoder.layers.0.cross_attn.pattern"].numpy()[0, :, -1], atol=1e-6
        )


def test_evaluation_leaves_the_model_in_the_mode_it_was_in():
    translator = recipe().begin(TASK.splits).translator
    for mode in (True, False):
        translator.model.train(mode)
        translator.evaluate(TASK.splits["valid"][:2])
        assert {module.training for module in translator.model.modules()} == {mode}


def test_an_empty_text_stays_empty():
    assert recipe().begin(TASK.splits).translator.translate(["", ""]) == ["", ""]


# --------------------------------------------------------------------------------------------------------- when it ends
@pytest.mark.parametrize(
    ("accuracies", "reached"),
    [([], False), ([1.0], False), ([0.98, 1.0], False), ([1.0, 0.98], False), ([0.1, 0.99, 1.0], True)],
)
def test_the_target_must_be_reached_twice_in_a_row(accuracies, reached):
    trainer = recipe(target_accuracy=0.99).begin(TASK.splits)
    trainer.history = [
        record
        for n, accuracy in enumerate(accuracies)
        for record in ({"step": 2 * n + 1}, {"step": 2 * n + 2, "valid": {"exact_match": accuracy}})
    ]
    assert trainer.reached_target == reached
    assert trainer.finished == (reached or len(trainer.history) >= SHORT.steps)


def test_it_ends_with_the_last_step():
    trainer = trained(recipe(steps=3))
    assert trainer.steps_taken == 3


# ----------------------------------------------------------------------------------------------------- errors of people
@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("steps", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("warmup", 0, "at least 1"),
        ("eval_every", 0, "at least 1"),
        ("lr_factor", 0.0, "positive and finite"),
        ("lr_factor", math.inf, "positive and finite"),
        ("max_norm", math.nan, "positive and finite"),
        ("target_accuracy", math.inf, "at least 0 and finite"),
        ("max_norm", -1.0, "positive"),
        ("label_smoothing", 1.0, "at least 0 and below 1"),
        ("seed", -1, r"at least 0 and below 2\*\*64"),
        ("seed", 2**64, r"at least 0 and below 2\*\*64"),
    ],
)
def test_settings_out_of_range_are_named(field, value, rule):
    with pytest.raises(ValueError, match=f"{field} is {value}; it must be {rule}"):
        TrainConfig(**{field: value})


# ---------------------------------------------------------------------------------------------------------- the report
def test_only_all_is_a_hundred_percent():
    assert [percent(share) for share in (0.0, 0.99998, 1.0)] == ["0.00%", "99.99%", "100.00%"]
