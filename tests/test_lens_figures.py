"""Figures of lens: what is drawn are the numbers of the instruments, and every label is there."""

import numpy as np
import pytest

from minigrad import nn
from minitransformer import Classifier, LanguageModel, lens
from minitransformer.lens import (
    attention_grid,
    attention_head,
    dependency_matrices,
    loss_curves,
    row_gradients,
    saturation_strip,
)
from minitransformer.lens.curves import running_mean
from tests.models import sentences, small_config, small_model

SOURCE, TARGET = ["s0", "s1", "s2", "s3", "s4"], ["t0", "t1", "t2", "t3"]


@pytest.fixture
def data(rng):
    """Two sentences of 5 and 3 tokens, and their targets of 4 and 6."""
    return sentences(rng, [5, 3]), sentences(rng, [4, 6], bos=True)


def maps(figure):
    return [axes for axes in figure.axes if axes.images and axes.get_visible()]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def texts(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


def title(axes):
    return axes.get_title(loc="left")


def distributions(rng, heads=2, shape=(1, 3, 4)):
    p = np.exp(rng.standard_normal((heads, *shape)))
    return {f"layer 0.{head}": x for head, x in enumerate(p / p.sum(-1, keepdims=True))}


# ---------------------------------------------------------------------------------------------------------- attention
@pytest.mark.parametrize("kind", ["encoder", "decoder", "cross", None])
def test_a_grid_has_a_map_of_every_head(kind, data):
    model = small_model(norm_first=True)
    seen = lens.patterns(model, *data)
    endings = {
        "encoder": ("encoder", "self_attn"),
        "decoder": ("decoder", "self_attn"),
        "cross": ("decoder", "cross_attn"),
    }
    first, last = endings.get(kind, ("", ""))
    names = [name for name in seen if name.startswith(first) and name[:-2].endswith(last)]
    plot = attention_grid(model, *data, kind=kind, sentence=1)
    assert list(plot.numbers) == names
    assert len(maps(plot.figure)) == len(names) == (4 if kind else 12)
    for axes, (name, weights) in zip(maps(plot.figure), plot.numbers.items(), strict=True):
        np.testing.assert_array_equal(weights.data, seen[name][1])
        np.testing.assert_array_equal(axes.images[0].get_array(), weights)
        assert title(axes).splitlines() == ([name[:-2], "head 0"] if name.endswith("0") else ["head 1"])


def test_masked_cells_are_told_from_small_weights(data):
    model = small_model()
    with lens.sharpen(model, 1e6):  # every row is one-hot, so that most legal weights are exactly 0
        plot = attention_grid(model, *data, sentence=1)
        by_hand = attention_grid(lens.patterns(model, *data), sentence=1)
    real, causal = np.arange(5) >= 3, ~np.tri(6, dtype=bool)
    for name, weights in plot.numbers.items():
        T, S = weights.shape
        masked = causal if name.startswith("decoder") and "self" in name else np.broadcast_to(real, (T, S))
        np.testing.assert_array_equal(weights.mask, masked)
        assert (weights.data[~masked] == 0).any()
        np.testing.assert_array_equal(by_hand.numbers[name].mask, weights.data == 0)
    assert all(axes.patch.get_hatch() for axes in maps(plot.figure))
    assert "hatched: masked" in plot.figure.get_suptitle()
    assert "hatched: exactly 0" in by_hand.figure.get_suptitle().replace("\n", " ")


def test_without_masked_cells_nothing_is_said_of_them(rng):
    assert "hatched" not in attention_grid(distributions(rng)).figure.get_suptitle()


def test_tokens_stand_beside_rows_and_columns_and_padding_is_cut_off(data):
    plot = attention_grid(small_model(), *data, source=SOURCE, target=TARGET)
    for axes, name in zip(maps(plot.figure), plot.numbers, strict=True):
        queries = SOURCE if name.startswith("encoder") else TARGET
        keys = TARGET if name.startswith("decoder") and "self" in name else SOURCE
        assert plot.numbers[name].shape == (len(queries), len(keys))
        assert labels(axes.yaxis) == (queries if name.endswith(".0") else [])
        is_last = name[:-2] in ("encoder.layers.1.self_attn", "decoder.layers.1.cross_attn") or "decoder" in name
        assert labels(axes.xaxis) == (keys if is_last else [])


def test_models_with_one_text_have_maps(rng):
    ids = sentences(rng, [4])
    plot = attention_grid(LanguageModel(small_config()), ids, kind="decoder", target=TARGET)
    assert labels(maps(plot.figure)[0].yaxis) == labels(maps(plot.figure)[-1].xaxis) == TARGET
    plot = attention_grid(Classifier(small_config(), 3), ids, kind="encoder", source=TARGET)
    assert labels(maps(plot.figure)[0].yaxis) == TARGET


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_the_title_of_the_maps_is_not_cut_off(heads, rng):
    figure = attention_grid(distributions(rng, heads)).figure
    text = figure.texts[0].get_window_extent()
    assert 0 <= text.x0 < text.x1 <= figure.bbox.width


def test_heads_may_differ_in_number_and_maps_in_size(rng):
    found = distributions(rng, 3) | {"layer 1.0": np.full((1, 1, 1), 1.0)}
    plot = attention_grid(found)
    assert [axes.images[0].get_array().shape for axes in maps(plot.figure)] == [(3, 4)] * 3 + [(1, 1)]


def test_a_large_grid_is_no_larger_than_a_desk(rng):
    found = {
        f"l{layer}.{head}": x[None] for layer in range(6) for head, x in enumerate(rng.dirichlet([1] * 40, (8, 40)))
    }
    width, height = attention_grid(found, source=[f"s{i}" for i in range(40)]).figure.get_size_inches()
    assert max(width, height) < 22


def test_one_head_is_large_and_has_numbers(data):
    model, name = small_model(), "decoder.layers.1.self_attn.1"
    plot = attention_head(model, name, *data, target=TARGET)
    (axes,) = maps(plot.figure)
    expected = lens.patterns(model, *data)[name][0][:4, :4]
    np.testing.assert_array_equal(plot.numbers[name].data, expected)
    np.testing.assert_array_equal(axes.images[0].get_array(), plot.numbers[name])
    legal = np.argwhere(np.tri(4)).tolist()
    assert [text.get_position() for text in axes.texts] == [(key, query) for query, key in legal]
    assert texts(axes) == [f"{expected[query, key]:.2f}" for query, key in legal]
    assert labels(axes.xaxis) == labels(axes.yaxis) == TARGET
    assert title(axes) == name


def test_a_long_sentence_has_no_numbers(rng):
    (axes,) = maps(attention_head(distributions(rng, 1, (1, 30, 2)), "layer 0.0").figure)
    assert texts(axes) == []
    assert labels(axes.yaxis) == [str(i) for i in range(30)]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda p: attention_grid(p, kind="self"),
            r"kind is 'self'; it must be 'encoder', 'decoder', 'cross', or None",
        ),
        (lambda p: attention_grid(p, kind="cross"), r"there is no head of the kind 'cross'\. Give a model, or"),
        (lambda p: attention_grid({}), r"attention_grid\(\): there is no head\. Give a model"),
        (lambda p: attention_grid(p, sentence=1), r"sentence is 1; the batch has 1, counted from 0"),
        (
            lambda p: attention_grid(p, source=["a"] * 5),
            r"5 tokens for 4 places of 'layer 0\.0'\. Give at most as many",
        ),
        (lambda p: attention_grid({"x.0": p["layer 0.0"][0]}), r"'x\.0' has shape \(3, 4\); it must be \(B, T, S\)"),
        (lambda p: attention_grid({"x.0": p["layer 0.0"] * np.nan}), r"'x\.0' holds NaN\. Where it comes from"),
        (lambda p: attention_grid({"x.0": p["layer 0.0"][:, :0]}), r"shape \(1, 0, 4\); there is nothing to draw"),
        (lambda p: attention_head(p, "layer 0.2"), r"there is no head 'layer 0\.2'\. Near: layer 0"),
        (lambda p: attention_grid(nn.Linear(2, 2), 1), r"there is no MultiHeadAttention in this Linear"),
    ],
)
def test_what_is_no_attention_is_an_error(function, message, rng):
    with pytest.raises(ValueError, match=message):
        function(distributions(rng))


# --------------------------------------------------------------------------------------------------------- saturation
@pytest.fixture
def film(data):
    model, film = small_model(), lens.Film(("dead", "normalised_entropy.median", "row_gradient.mean", "measured"))
    for step in range(0, 60, 5):
        with lens.sharpen(model, 1.0 + step):
            film.add(step, lens.saturation(model, *data))
    return film


def test_a_strip_is_the_film(film):
    columns = film.columns
    plot = saturation_strip(film, columns)
    grid = np.array(maps(plot.figure)[: 6 * 4]).reshape(6, 4)
    for number, column in enumerate(columns):
        np.testing.assert_array_equal(plot.numbers[column], film[column])
        for attention in range(6):
            image = grid[attention, number].images[0].get_array()
            np.testing.assert_array_equal(image, film[column][:, attention].T)  # (heads, steps)
        assert labels(grid[-1, number].xaxis) == ["0", "10", "20", "30", "40", "50"]
    assert [axes.get_ylabel() for axes in grid[:, 0]] == list(film.attentions)
    titles = ["share of dead rows", "normalised entropy, median", "row gradient, mean", "measured"]
    assert [title(axes) for axes in grid[0]] == titles
    shares = {axes.images[0].get_clim() for axes in grid[:, :2].flat}
    assert shares == {(0.0, 1.0)}


def test_of_one_moment_every_head_has_its_number(data):
    found = lens.saturation(small_model(), *data)
    plot = saturation_strip(found)
    for axes, column in zip(maps(plot.figure), ("dead", "normalised_entropy.median"), strict=True):
        np.testing.assert_array_equal(plot.numbers[column], found.per_head(column))
        np.testing.assert_array_equal(axes.images[0].get_array(), found.per_head(column))
        assert len(axes.texts) == 6 * 2
        assert labels(axes.xaxis) == ["0", "1"]
    assert labels(maps(plot.figure)[0].yaxis) == list(found)


def test_where_no_row_was_measured_there_is_no_number_and_no_colour(rng):
    """A sentence of one token: every row has one key only."""
    found = lens.saturation(small_model(), sentences(rng, [1]), sentences(rng, [1], bos=True))
    for axes in maps(saturation_strip(found, ["dead", "row_gradient.mean"]).figure):
        assert axes.images[0].get_array().mask.all()
        assert texts(axes) == []
        assert axes.patch.get_hatch()
    plot = row_gradients(found)
    assert {text for axes in plot.figure.axes for text in texts(axes)} == {"no row measured"}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda film: saturation_strip(lens.Film()), r"there are no steps to draw\. See lens\.saturation\(\) and Film"),
        (lambda film: saturation_strip(lens.Saturation({}, 1e-3)), r"there are no attentions to draw"),
        (lambda film: saturation_strip(film, "dead"), r"columns is 'dead'; give a tuple of names"),
        (lambda film: saturation_strip(film, ()), r"columns is \(\); give a tuple of names"),
        (lambda film: saturation_strip(film, ["alive"]), r"Film: there is no column 'alive'; there are dead"),
        (lambda film: row_gradients(lens.Saturation({}, 1e-3)), r"row_gradients\(\): there are no attentions to draw"),
    ],
)
def test_what_was_not_measured_is_an_error(function, message, film):
    with pytest.raises(ValueError, match=message):
        function(film)


def test_curves_of_rows_are_their_distributions(data):
    found = lens.saturation(small_model(), *data)
    plot = row_gradients(found)
    assert [title(axes) for axes in plot.figure.axes] == list(found) == list(plot.numbers)
    for axes, path in zip(plot.figure.axes, found, strict=True):
        ecdf = found.ecdf(path)
        curve, mean, median = axes.lines
        np.testing.assert_array_equal(curve.get_xydata(), np.stack([ecdf.values, ecdf.fractions], axis=1))
        assert set(mean.get_xdata()) == {ecdf.mean}
        assert set(median.get_xdata()) == {ecdf.median}
        assert mean.get_ydata()[1] == np.mean(ecdf.values <= ecdf.mean)
        assert median.get_ydata()[1] == np.mean(ecdf.values <= ecdf.median)
        assert mean.get_marker() != median.get_marker()
    legend = [text.get_text() for text in plot.figure.legends[0].get_texts()]
    assert legend == ["mean", "median"]


def test_rows_of_exactly_0_are_counted(data):
    model = small_model()
    with lens.sharpen(model, 1e6):
        found = lens.saturation(model, *data)
    for axes, ecdf in zip(row_gradients(found).figure.axes, row_gradients(found).numbers.values(), strict=True):
        zeros = np.count_nonzero(ecdf.values == 0)
        assert texts(axes) == ([f"{zeros} of {ecdf.values.size} rows exactly 0"] if zeros else [])
        assert zeros > 0
        assert len(axes.lines[0].get_xdata()) == ecdf.values.size - zeros


def test_another_statistic_may_be_drawn(data):
    found = lens.saturation(small_model(), *data)
    plot = row_gradients(found, "normalised_entropy")
    assert plot.figure.get_supxlabel() == "normalised entropy"
    np.testing.assert_array_equal(
        plot.figure.axes[0].lines[0].get_xdata(),
        found.ecdf("encoder.layers.0.self_attn", None, "normalised_entropy").values,
    )


# ---------------------------------------------------------------------------------------------------------- dependency
SRC, TGT = [4, 5, 6, 0], [1, 5, 6]  # the source with padding


def symbols(axes):
    """The cells that carry the symbol of each verdict."""
    lines = {line.get_label(): line for line in axes.lines}
    return {name: set(map(tuple, line.get_xydata()[:, ::-1].astype(int).tolist())) for name, line in lines.items()}


def test_matrices_are_the_verdicts():
    found = lens.dependency(small_model(), SRC, TGT)
    plot = dependency_matrices(found, ["a", "b", "c", "<pad>"], ["<bos>", "x", "y"])
    assert list(plot.numbers) == list(found.matrices)
    assert plot.figure.get_suptitle() == "Transformer: every mask holds"
    for axes, (pair, matrix) in zip(plot.figure.axes, found.matrices.items(), strict=True):
        verdicts = plot.numbers[pair]
        for cell in np.ndindex(verdicts.shape):
            assert verdicts[cell] == matrix.verdict(*cell)
            assert cell in symbols(axes)[matrix.verdict(*cell)]
        assert sum(map(len, symbols(axes).values())) == verdicts.size
        assert title(axes) == f"{pair[0]} x {pair[1]}: holds"
        assert labels(axes.yaxis) == {"encoder": ["a", "b", "c", "<pad>"], "decoder": ["<bos>", "x", "y"]}[pair[0]]
        assert labels(axes.xaxis) == {"source": ["a", "b", "c", "<pad>"], "target": ["<bos>", "x", "y"]}[pair[1]]


def test_a_leak_is_seen_and_named():
    model = small_model()
    with lens.with_mask(model, "decoder.*.self_attn", lambda mask: mask | np.eye(3, k=1, dtype=bool)):
        found = lens.dependency(model, SRC, TGT)
    plot = dependency_matrices(found)
    last = plot.figure.axes[3]
    assert symbols(last)["leak"] == set(found["decoder", "target"].leaks) == {(0, 1), (0, 2), (1, 2)}
    assert title(last) == "decoder x target: 3 LEAKS"
    assert plot.figure.get_suptitle() == "Transformer: off by one"
    assert labels(last.yaxis) == labels(last.xaxis) == ["1", "5", "6"]


def test_what_may_depend_and_does_not_has_its_own_symbol():
    model = small_model(num_encoder_layers=1, num_decoder_layers=1)
    with lens.with_mask(model, "*cross_attn", lambda mask: mask & False):
        found = lens.dependency(model, SRC, TGT)
    axes = dependency_matrices(found).figure.axes[2]
    assert symbols(axes)["missing"] == {(row, column) for row in range(3) for column in range(3)}
    assert symbols(axes)["independent"] == {(row, 3) for row in range(3)}


def test_the_four_verdicts_differ_in_colour_and_in_symbol():
    axes = dependency_matrices(lens.dependency(small_model(), SRC, TGT)).figure.axes[0]
    assert len({line.get_marker() for line in axes.lines}) == 4
    assert len({axes.images[0].cmap(i) for i in range(4)}) == 4


def test_models_with_one_text_have_one_matrix():
    plot = dependency_matrices(lens.dependency(LanguageModel(small_config(tgt_vocab_size=None)), [4, 5]), ["a", "b"])
    assert plot.numbers["decoder", "text"].tolist() == [["depends", "independent"], ["depends", "depends"]]
    assert labels(plot.figure.axes[0].yaxis) == labels(plot.figure.axes[0].xaxis) == ["a", "b"]
    plot = dependency_matrices(lens.dependency(Classifier(small_config(), 3), [4, 5]), ["a", "b"])
    assert (labels(plot.figure.axes[0].yaxis), labels(plot.figure.axes[0].xaxis)) == (["class"], ["a", "b"])


def test_a_label_for_every_token():
    found = lens.dependency(small_model(), SRC, TGT)
    with pytest.raises(ValueError, match=r"matrices\(\): 3 tokens, 4 in encoder x source\. Give one for each, padding"):
        dependency_matrices(found, ["a", "b", "c"])


# --------------------------------------------------------------------------------------------------------- a training
@pytest.fixture
def history(rng):
    history = [
        {"step": i + 1, "loss": 3.0 / (i + 1), "learning_rate": 1e-3 * i, "gradient_norm": rng.lognormal()}
        for i in range(30)
    ]
    for record in history[9::10]:
        record["valid"] = {"loss": 2.0, "exact_match": record["step"] / 40, "token_accuracy": 0.9}
    return history


def test_curves_are_the_history(history):
    plot = loss_curves(history)
    numbers, (loss, accuracy, rate, norm) = plot.numbers, plot.figure.axes
    for name in ("step", "loss", "learning_rate", "gradient_norm"):
        assert numbers[name].tolist() == [record[name] for record in history]
    assert numbers["exact_match"].tolist() == [0.25, 0.5, 0.75]
    assert numbers["valid_step"].tolist() == [10, 20, 30]
    drawn = {
        "loss": loss.lines[0],
        "valid_loss": loss.lines[2],
        "learning_rate": rate.lines[0],
        "gradient_norm": norm.lines[0],
    }
    for name, line in drawn.items():
        np.testing.assert_array_equal(line.get_ydata(), numbers[name])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), 100 * numbers["exact_match"])
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), running_mean(numbers["loss"], 21))
    assert [title(axes) for axes in plot.figure.axes] == [
        "loss per target token (nats)",
        "accuracy (%)",
        "learning rate",
        "norm of the gradient, before clipping",
    ]


def test_a_step_that_is_not_finite_is_counted_and_leaves_a_gap(history):
    history[15] |= {"loss": np.nan, "gradient_norm": np.inf}
    loss, _, _, norm = loss_curves(history).figure.axes
    assert title(loss) == "loss per target token (nats); not finite in 1 of 30 steps"
    assert title(norm).endswith("; not finite in 1 of 30 steps")
    assert np.isnan(loss.lines[1].get_ydata()).nonzero()[0].tolist() == [*range(8, 23)]


def test_without_evaluations_and_steps(history):
    assert loss_curves(history[:1]).numbers["exact_match"].size == 0
    with pytest.raises(ValueError, match=r"loss_curves\(\): the history has no steps\. Draw it after a step"):
        loss_curves([])


def test_the_running_mean_of_a_straight_line_is_that_line():
    line = np.linspace(4.0, 1.0, 30)
    np.testing.assert_allclose(running_mean(line, 7), line)
    assert running_mean(np.array([0.0, 3.0, 0.0, 0.0]), 3) == pytest.approx([0, 1, 1, 0])


# ------------------------------------------------------------------------------------------------------------- always
def test_the_same_figure_is_the_same_file(tmp_path, data, film, history, rng):
    model, p = small_model(), distributions(rng)
    makers = [
        lambda: attention_grid(model, *data),
        lambda: attention_head(p, "layer 0.1"),
        lambda: saturation_strip(film),
        lambda: row_gradients(lens.saturation(model, *data)),
        lambda: loss_curves(history),
        lambda: dependency_matrices(lens.dependency(model, SRC, TGT)),
    ]
    for make in makers:
        first, second = make(), make()
        assert first.save(tmp_path / "1.svg").read_bytes() == second.save(tmp_path / "2.svg").read_bytes()
