"""The film strip: it shows what the oscilloscope showed, survives a file, and changes no bit of a training."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minitransformer import MultiHeadAttention, TransformerConfig
from minitransformer.lens import Film, saturation
from minitransformer.runs import Recipe
from minitransformer.tasks import make_task
from minitransformer.train import TrainConfig

MODEL = TransformerConfig(
    src_vocab_size=4, d_model=16, nhead=2, num_encoder_layers=1, num_decoder_layers=2, dim_feedforward=32, dropout=0.1
)
TASK = make_task("copy", symbols=4, max_length=4, train_size=250)
RECIPE = Recipe(TASK, MODEL, TrainConfig(steps=8, batch_size=32, warmup=4, eval_every=5))


def train(film=None):
    """The trainer at the end of its steps; every second step is filmed."""
    trainer = RECIPE.begin(TASK.splits)
    batch = next(trainer.batches.in_order())
    while not trainer.finished:
        trainer.step()
        if film is not None and trainer.steps_taken % 2 == 0:
            film.add(trainer.steps_taken, saturation(trainer.translator.model, batch))
    return trainer


@pytest.fixture
def film(rng):
    """Three frames of an attention whose scores grow."""
    film, attention, x = Film(), MultiHeadAttention(8, 2), mg.randn(3, 5, 8)
    for step in (0, 10, 30):
        film.add(step, saturation(attention, x, x, x))
        attention.q_proj.weight.data *= 30
    return film


def test_training_is_the_same_bit_for_bit_with_a_film_and_without(either):
    film = Film()
    filmed, plain = train(film), train()
    assert film.steps == [2, 4, 6, 8]
    assert filmed.history == plain.history
    states = [trainer.state() for trainer in (filmed, plain)]
    assert states[0][1]["random"] == states[1][1]["random"]
    tensors = [{name: np.asarray(x).tobytes() for name, x in state[0].items()} for state in states]
    assert tensors[0] == tensors[1]


def test_a_film_of_a_training_is_steps_by_attentions_by_heads():
    film = Film(["dead", "entropy.median", "row_gradient.q95"])
    trainer = train(film)
    batch = next(trainer.batches.in_order())
    last = saturation(trainer.translator.model, batch)
    assert film.attentions == tuple(last)
    for column in film.columns:
        assert film[column].shape == (4, 5, 2)
        assert film[column].dtype == np.float32
        np.testing.assert_array_equal(film[column][-1], last.per_head(column).astype(np.float32))
    assert not np.array_equal(film["entropy.median"][0], film["entropy.median"][-1])


def test_it_shows_rows_that_die(film):
    assert (np.diff(film["normalised_entropy.median"], axis=0) < 0).all()
    assert film["dead"][0].max() == 0
    assert film["dead"][-1].min() > 0.5
    assert [frame["step"] for frame in film.frames] == [0, 10, 30]
    np.testing.assert_array_equal(film.frames[1]["dead"], film["dead"][1])


def test_it_survives_a_file_and_goes_on(film, tmp_path, rng):
    path = tmp_path / "film.npz"
    film.save(path)
    read = Film.load(path)
    assert (read.steps, read.attentions, read.columns) == (film.steps, film.attentions, film.columns)
    for column in film.columns:
        np.testing.assert_array_equal(read[column], film[column])
    assert repr(read) == repr(film)
    assert [path.name for path in tmp_path.iterdir()] == ["film.npz"]
    x = mg.randn(3, 5, 8)
    read.add(31, saturation(MultiHeadAttention(8, 2), x, x, x))
    assert read["dead"].shape == (4, 1, 2)
    assert len(film) == 3


def test_a_frame_takes_a_few_kilobytes(tmp_path):
    """Of six layers and eight heads in each of two stacks."""
    heads = nn.ModuleList([MultiHeadAttention(16, 8) for _ in range(18)])
    heads.forward = lambda x: sum((attention(x, x, x) for attention in heads), start=x)
    seen, film, path = saturation(heads, mg.randn(2, 6, 16)), Film(), tmp_path / "film"
    for step in range(20):
        film.add(step, seen)
    film.save(path)
    assert sum(array.nbytes for array in film.frames[0].values() if isinstance(array, np.ndarray)) == 4 * 6 * 18 * 8
    assert path.stat().st_size < 20 * 4096


def test_an_empty_film(tmp_path):
    film = Film(["dead"])
    film.save(tmp_path / "film.npz")
    read = Film.load(tmp_path / "film.npz")
    assert len(read) == 0
    assert read["dead"].shape == (0, 0, 0)
    assert repr(read) == repr(film) == "Film of 0 steps: dead"


def test_steps_grow(film):
    x = mg.randn(3, 5, 8)
    for step in (30, 7):
        with pytest.raises(ValueError, match=rf"Film\.add\(\): step is {step}, and step 30 is there; steps must grow"):
            film.add(step, saturation(MultiHeadAttention(8, 2), x, x, x))
    assert film.steps == [0, 10, 30]


@pytest.mark.parametrize("model", [MultiHeadAttention(8, 4), nn.Sequential(MultiHeadAttention(8, 2))])
def test_one_film_is_of_one_model(film, model):
    if isinstance(model, nn.Sequential):
        model.forward = lambda *x: model[0](*x)
    x = mg.randn(3, 5, 8)
    with pytest.raises(ValueError, match=r"Film\.add\(\): step 40 is of other attentions than step 0\. Use a film for"):
        film.add(40, saturation(model, x, x, x))
    assert len(film) == 3


def test_a_column_that_is_not_there_is_an_error(film):
    with pytest.raises(ValueError, match=r"there is no column 'entropy\.men'\. Near: entropy\.me"):
        Film(["entropy.men"])
    with pytest.raises(ValueError, match=r"Film: there is no column 'gain\.mean'; there are dead, "):
        film["gain.mean"]


def other_files(folder):
    np.savez(folder / "weights.npz", weight=np.ones(3))
    np.savez(folder / "columns.npz", steps=np.arange(2), attentions=np.array(["a"]), weight=np.ones((2, 1, 1)))
    np.savez(folder / "short.npz", steps=np.arange(2), attentions=np.array(["a"]), dead=np.ones((1, 1, 1)))
    np.save(folder / "array.npy", np.ones(3))
    np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    (folder / "empty").write_bytes(b"")
    (folder / "text").write_text("no film")
    (folder / "zip").write_bytes(b"PK\x03\x04 and no more")


def test_a_file_that_is_no_film_is_an_error(film, tmp_path):
    other_files(tmp_path)
    film.save(tmp_path / "film.npz")
    (tmp_path / "half.npz").write_bytes((tmp_path / "film.npz").read_bytes()[:700])
    (tmp_path / "film.npz").unlink()
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=r"Film\.load\(\): .* holds no film .*Give a file that save\(\) wrote"):
            Film.load(path)
    with pytest.raises(FileNotFoundError):
        Film.load(tmp_path / "nowhere.npz")
