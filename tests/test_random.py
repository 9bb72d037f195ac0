"""Seeds, states, and whether the bits of dropout look random."""

import json
import threading
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels
from minigrad.kernels.bits import keys, mix
from minigrad.random import generator, get_state, keep, manual_seed, next_seed, set_state

N = 1 << 18
SEEDS = [0, 1, 2, 3, 1 << 32, 2 << 32, 2**64 - 1, 0x123456789ABCDEF0]


@pytest.fixture(autouse=True)
def _same_state_afterwards():
    state = get_state()
    yield
    set_state(state)


def some():
    """A few random things from both sources."""
    return [next_seed(), next_seed(), *generator().standard_normal(3), next_seed()]


# ----------------------------------------------------------------------------------------------------- seeds and states
def test_the_same_seed_gives_the_same_numbers():
    manual_seed(5)
    first = some()
    manual_seed(5)
    assert some() == first
    manual_seed(6)
    assert set(some()).isdisjoint(first)


def test_creation_follows_the_seed():
    manual_seed(5)
    x = mg.randn(3, 4).numpy()
    manual_seed(5)
    np.testing.assert_array_equal(mg.randn(3, 4).numpy(), x)


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**64 - 1, np.int64(3), True])
def test_any_integer_of_64_bits_is_a_seed(seed):
    manual_seed(seed)
    assert 0 <= get_state()["seed"] < 2**64


@pytest.mark.parametrize("seed", [1.0, "1", None])
def test_a_seed_that_is_no_integer_is_an_error(seed):
    with pytest.raises(TypeError, match=r"manual_seed\(\): the seed is .*; it must be an integer"):
        manual_seed(seed)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_that_is_too_large_is_an_error(seed):
    with pytest.raises(ValueError, match=r"manual_seed\(\): the seed is .*; it must fit into 64 bits"):
        manual_seed(seed)


@given(st.integers(0, 2**64 - 1), st.integers(0, 5))
def test_a_state_that_went_through_json_continues_where_it_was_taken(seed, n):
    manual_seed(seed)
    for _ in range(n):
        some()
        generator().integers(10, dtype=np.uint32)  # leaves half of 64 bits behind, which the state must hold
    state = json.loads(json.dumps(get_state()))
    after = [some(), int(generator().integers(10**6, dtype=np.uint32))]
    manual_seed(0)
    set_state(state)
    assert [some(), int(generator().integers(10**6, dtype=np.uint32))] == after


@pytest.mark.parametrize(
    "change", [{"seed": None}, {"seed": -1}, {"counter": "x"}, {"counter": -1}, {"generator": {}}, {"generator": 3}]
)
def test_what_is_no_state_is_an_error_and_changes_nothing(change):
    before = get_state()
    with pytest.raises(ValueError, match=r"set_state\(\): this is not a state of the random numbers .* Pass what"):
        set_state(before | change)
    with pytest.raises(ValueError, match=r"set_state\(\): this is not a state"):
        set_state({})
    assert get_state() == before


def test_a_state_is_not_changed_by_what_follows():
    state = get_state()
    copy = json.dumps(state)
    some()
    assert json.dumps(state) == copy


def test_seeds_of_calls_are_distinct_in_all_threads():
    seeds = [[] for _ in range(4)]

    def work(mine):
        mine.extend(next_seed() for _ in range(2000))

    workers = [threading.Thread(target=work, args=(mine,)) for mine in seeds]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    together = {seed for mine in seeds for seed in mine}
    assert len(together) == 8000
    assert all(0 <= seed < 2**64 for seed in together)
    assert max(together) > 2**62  # and all bits are used


def test_seeds_of_calls_do_not_depend_on_other_randomness():
    manual_seed(1)
    first = [next_seed(), next_seed()]
    manual_seed(1)
    a = next_seed()
    generator().random(10)
    assert [a, next_seed()] == first


def test_mix_is_splitmix64():
    # SplitMix64 started from 0 gives mix(golden), mix(2 golden), ...; these are the first numbers, as published.
    golden = 0x9E3779B97F4A7C15
    assert [mix(golden), mix(2 * golden)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@pytest.mark.parametrize("bit", range(64))
def test_both_keys_depend_on_every_bit_of_the_seed(bit):
    assert all(a != b for a, b in zip(keys(1234567), keys(1234567 ^ (1 << bit)), strict=True))


# ------------------------------------------------------------------------------------------------------ bits of dropout
def standardised(p, seed):
    """keep as numbers of mean 0 and variance 1, if it is what it should be."""
    return (keep((N,), p, seed) - (1 - p)) / np.sqrt(p * (1 - p))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_the_kernels_keep_the_same_elements(p, name):
    with kernels.use(name):
        y = kernels.dropout(np.ones((7, 1000), np.float32), p, 99)
    np.testing.assert_array_equal(y != 0, keep((7, 1000), p, 99))


def test_position_is_counted_in_c_order():
    flat = keep((60,), 0.5, 3)
    np.testing.assert_array_equal(keep((3, 4, 5), 0.5, 3), flat.reshape(3, 4, 5))
    np.testing.assert_array_equal(keep((20,), 0.5, 3), flat[:20])
    assert keep((), 0.5, 3).shape == ()
    assert keep((3, 0), 0.5, 3).shape == (3, 0)


def test_nothing_and_everything():
    assert keep((N,), 0.0, 3).all()
    assert not keep((N,), 1.0, 3).any()
    assert not keep((N,), 1 - 2**-40, 3).any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_the_share_that_is_kept(p, seed):
    z = standardised(p, seed)
    assert abs(z.mean()) < 4 / np.sqrt(N)
    blocks = z.reshape(-1, 256).mean(1) * 16  # means of 256 have variance 1, if the elements are independent
    assert abs(blocks.var() - 1) < 5 * np.sqrt(2 / len(blocks))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_neighbours_are_uncorrelated(p, seed):
    z = standardised(p, seed)
    for lag in [1, 2, 3, 4, 7, 8, 16, 64, 100, 512, 1024, 4096]:
        correlation = (z[:-lag] * z[lag:]).mean()
        assert abs(correlation) < 4.5 / np.sqrt(N - lag), lag


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_patterns_of_neighbours_are_as_frequent_as_they_should_be(p, seed):
    """Chi-square of the 64 patterns that six neighbours can form."""
    kept = keep((N // 6, 6), p, seed)
    observed = np.bincount(kept @ (1 << np.arange(6)), minlength=64)
    ones = np.array([pattern.bit_count() for pattern in range(64)])
    expected = len(kept) * (1 - p) ** ones * p ** (6 - ones)
    common = expected > 5  # the rare ones are one class together
    classes = [(*observed[common], observed[~common].sum()), (*expected[common], expected[~common].sum())]
    observed, expected = (np.array(x) for x in classes)
    chi_square = ((observed - expected) ** 2 / np.maximum(expected, 5)).sum()
    degrees = common.sum() - 1
    assert abs(chi_square - degrees) < 5 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_seeds_are_uncorrelated(p):
    for a, b in combinations([standardised(p, seed) for seed in SEEDS], 2):
        for shift in [0, 1, 3]:  # also one against the other moved by a little
            assert abs((a * np.roll(b, shift)).mean()) < 4.5 / np.sqrt(N)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_one_bit_of_the_seed_changes_as_much_as_another_seed(p):
    z = standardised(p, 0xABCDEF)
    for bit in range(0, 64, 3):
        other = standardised(p, 0xABCDEF ^ (1 << bit))
        assert abs((z * other).mean()) < 4.5 / np.sqrt(N), bit
