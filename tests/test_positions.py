"""Positions: the paper's formula, its geometry, and the protocol by which a scheme plugs in."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minitransformer import POSITIONS, Axial, Learned, Positions, Sinusoidal, SinusoidalInit
from minitransformer.positions import Added
from tests.models import small_config
from tests.oracle import sinusoids


@pytest.mark.parametrize("d_model", [2, 6, 64])
def test_sinusoidal_is_the_formula(d_model):
    encoding = Sinusoidal(d_model).encoding(np.arange(200)).numpy()
    assert encoding.dtype == np.float64
    np.testing.assert_allclose(encoding, sinusoids(200, d_model), rtol=1e-12, atol=1e-12)


def test_sines_and_cosines_alternate():
    assert Sinusoidal(6).encoding(np.array([0])).tolist() == [[0, 1, 0, 1, 0, 1]]
    assert Sinusoidal(6).encoding(np.array([1])).numpy()[0, :2] == pytest.approx([np.sin(1), np.cos(1)])


def test_a_shift_is_a_rotation_that_does_not_depend_on_the_place():
    """PE(p + k) = R_k PE(p), the reason that the paper gives for the formula."""
    d_model, k = 8, 5
    encoding = Sinusoidal(d_model).encoding(np.arange(100)).numpy()
    rotation = np.zeros((d_model, d_model))
    for i in range(d_model // 2):
        angle = k / 10000 ** (2 * i / d_model)
        sin, cos = np.sin(angle), np.cos(angle)
        rotation[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[cos, sin], [-sin, cos]]
    np.testing.assert_allclose(encoding[k:], encoding[:-k] @ rotation.T, atol=1e-12)


def test_sinusoidal_has_every_position_and_nothing_to_learn():
    scheme = Sinusoidal(4)
    assert scheme.max_len is None
    assert list(scheme.parameters()) == []
    assert scheme.state_dict() == {}
    np.testing.assert_allclose(scheme.encoding(np.array([10**6])).numpy()[0, 0], np.sin(10**6))


def test_odd_d_model_is_an_error():
    with pytest.raises(ValueError, match=r"Sinusoidal\(\): d_model is 7; .* it must be even"):
        Sinusoidal(7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sinusoidal", "learned", "sinusoidal_init", "axial"])
def test_the_same_vectors_are_added_to_every_sentence(name, dtype, rng):
    scheme = POSITIONS[name](small_config(d_model=6), 1, True).to(dtype)
    x = mg.tensor(rng.standard_normal((3, 4, 6)).astype(dtype))
    pos = np.array([7, 8, 9, 10])
    with nn.capture(scheme, "pos") as seen:
        y = scheme.embed(x, pos)
    assert y.dtype == dtype
    vectors = scheme.encoding(pos).detach().numpy()
    np.testing.assert_allclose(seen["pos"].detach().numpy(), vectors.astype(dtype))
    for before, after in zip(x.numpy(), y.detach().numpy(), strict=True):
        np.testing.assert_allclose(after, before + vectors, rtol=1e-6, atol=1e-6)


def test_learned_gives_the_rows_of_its_table_and_their_gradient(rng):
    scheme = Learned(max_len=5, d_model=3).double()
    encoding = scheme.encoding(np.array([1, 4]))
    assert np.array_equal(encoding.detach().numpy(), scheme.weight.detach().numpy()[[1, 4]])
    g = rng.standard_normal((2, 3))
    encoding.backward(g)
    expected = np.zeros((5, 3))
    expected[[1, 4]] = g
    assert np.array_equal(scheme.weight.grad.numpy(), expected)


def test_learned_starts_with_variance_1_over_d_model(rng):
    weight = Learned(500, 100).weight.detach().numpy()
    assert weight.std() == pytest.approx(0.1, rel=0.02)
    assert weight.mean() == pytest.approx(0, abs=0.002)


def test_learned_has_no_position_beyond_its_table():
    scheme = Learned(max_len=4, d_model=2)
    assert scheme.encoding(np.arange(4)).shape == (4, 2)
    with pytest.raises(
        IndexError, match=r"Learned\(\): the text has 5 tokens, the table 4 positions\. Use shorter texts"
    ):
        scheme.encoding(np.arange(5))


def test_without_a_scheme_nothing_happens(rng):
    scheme = Positions()
    x, q, k = (mg.tensor(rng.standard_normal(shape)) for shape in ((1, 3, 4), (1, 2, 3, 2), (1, 2, 5, 2)))
    assert scheme.embed(x, np.arange(3)) is x
    assert scheme.rotate(q, np.arange(3)) is q
    assert scheme.rotate_keys(k, np.arange(5)) is k
    assert scheme.bias(q, np.arange(3), np.arange(5)) is None
    assert scheme.mix(q, k, np.arange(3), np.arange(5)) is q
    assert scheme.of_layer(3) is scheme


@pytest.mark.parametrize(
    ("name", "kind", "max_len"),
    [
        ("sinusoidal", Sinusoidal, None),
        ("learned", Learned, 40),
        ("sinusoidal_init", SinusoidalInit, 40),
        ("axial", Axial, 42),  # 7 rows of 6
        ("none", Positions, None),
    ],
)
def test_the_registry_makes_what_the_configuration_says(name, kind, max_len):
    scheme = POSITIONS[name](small_config(positions=name), 2, True)
    assert type(scheme) is kind
    assert scheme.max_len == max_len


def test_an_added_scheme_must_say_what_it_adds():
    with pytest.raises(NotImplementedError, match="Added does not say what it adds"):
        Added().embed(mg.zeros(1, 2, 4), np.arange(2))


def test_the_vectors_that_are_kept_are_nobody_elses():
    scheme, pos = Sinusoidal(4), np.arange(3)
    expected = scheme.encoding(pos).numpy().copy()
    scheme.encoding(pos).zero_()
    np.testing.assert_array_equal(scheme.encoding(pos).numpy(), expected)
    pos += 5
    np.testing.assert_array_equal(scheme.encoding(pos).numpy(), Sinusoidal(4).encoding(np.arange(5, 8)).numpy())


def test_sinusoidal_init_starts_as_the_formula_and_is_learnt(rng):
    scheme = SinusoidalInit(max_len=30, d_model=8).double()
    np.testing.assert_allclose(scheme.encoding(np.arange(30)).detach().numpy(), sinusoids(30, 8), atol=1e-6)
    scheme.encoding(np.array([3])).backward(rng.standard_normal((1, 8)))
    assert np.flatnonzero(scheme.weight.grad.numpy().any(axis=1)).tolist() == [3]


@pytest.mark.parametrize(("max_len", "rows", "columns"), [(1, 1, 1), (2, 2, 1), (9, 3, 3), (10, 4, 3), (13, 4, 4)])
def test_axial_says_row_and_column(max_len, rows, columns):
    scheme = Axial(max_len, d_model=7).double()
    assert (scheme.row.shape, scheme.column.shape) == ((rows, 3), (columns, 4))
    assert max_len <= scheme.max_len == rows * columns
    encoding = scheme.encoding(np.arange(scheme.max_len)).detach().numpy()
    for p in range(scheme.max_len):
        expected = np.concatenate([scheme.row.data[p // columns], scheme.column.data[p % columns]])
        assert np.array_equal(encoding[p], expected)
    with pytest.raises(IndexError, match=rf"Axial\(\): the text has {rows * columns + 1} tokens, the table"):
        scheme.encoding(np.array([scheme.max_len]))
