"""Tasks: right answers, splits that share nothing, and the same again from the same options."""

import json
import unicodedata
from collections import Counter
from itertools import combinations, islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import CONVERTER_CLASSES, num2words

from minitransformer.tasks import TASKS, Copy, Numbers, Sort, make_task, numbers, task_from_dict
from minitransformer.tasks.base import in_turn, shuffled
from minitransformer.vocab import Vocab

SEQUENCES = ["copy", "reverse", "sort"]
SMALL = {"train_size": 400, "valid_size": 30, "random_size": 60, "range_size": 50}


def assert_disjoint(splits: dict[str, list]) -> None:
    for (one, a), (other, b) in combinations(splits.items(), 2):
        assert set(a).isdisjoint(b), f"{one} and {other} share {sorted(set(a) & set(b))[:5]}"


def side(splits: dict, which: int) -> dict[str, list[str]]:
    return {split: [pair[which] for pair in pairs] for split, pairs in splits.items()}


# -------------------------------------------------------------------------------------------------------------- tools
@given(st.integers(-5, 5), st.integers(0, 200), st.integers())
def test_shuffled_gives_each_integer_once(start, size, seed):
    assert sorted(shuffled(Random(seed), start, start + size)) == list(range(start, start + size))


def test_every_order_is_equally_likely():
    rng = Random(0)
    orders = Counter(tuple(shuffled(rng, 0, 4)) for _ in range(24 * 400))
    assert len(orders) == 24
    assert sum((count - 400) ** 2 / 400 for count in orders.values()) < 50  # chi-squared, 23 degrees of freedom


def test_shuffled_needs_no_list_of_all():
    first = list(islice(shuffled(Random(0), 0, 10**30), 1000))
    assert len(set(first)) == 1000
    assert 0.4 < sum(first) / 1000 / 10**30 < 0.6


@given(st.lists(st.lists(st.integers(), max_size=5), max_size=5))
def test_in_turn_goes_round(lists):
    rounds = [[items[i] for items in lists if i < len(items)] for i in range(5)]
    assert list(in_turn(map(iter, lists))) == [item for items in rounds for item in items]


# ----------------------------------------------------------------------------------------------------------- registry
def test_every_task_has_a_name_and_one_line_of_description():
    assert list(TASKS) == ["copy", "reverse", "sort", "numbers"]
    for name, task in TASKS.items():
        assert task.name == name
        assert "\n" not in task.description
        assert len(task.description) <= 100


def test_unknown_tasks_and_options_are_errors_that_name_the_legal_ones():
    with pytest.raises(
        ValueError, match=r"no task 'number'\. Did you mean numbers\? Choose one of: copy, reverse, sort, numbers\."
    ):
        make_task("number")
    with pytest.raises(ValueError, match=r"copy: there is no option 'source'\. Choose from: symbols, min_length, max"):
        make_task("copy", source="en")


@pytest.mark.parametrize("name", TASKS)
def test_sizes_below_one_are_errors(name):
    with pytest.raises(ValueError, match=rf"{name}: train_size is 0\. It must be at least 1\."):
        make_task(name, train_size=0)


@pytest.mark.parametrize(
    "task",
    [
        make_task("copy", symbols=3, max_length=6, train_size=50, seed=4),
        make_task("sort", longer=0, train_size=50),
        make_task("numbers", source="ja", target="ru", low=7, high=9999, ordinals=True, **SMALL),
    ],
    ids=lambda task: task.slug,
)
def test_a_task_comes_back_from_json_with_the_same_splits(task):
    again = task_from_dict(json.loads(json.dumps(task.to_dict())))
    assert again == task
    assert again is not task
    assert again.splits == task.splits
    assert list(again.splits) == list(task.splits)


# ---------------------------------------------------------------------------------------------------------- sequences
@pytest.mark.parametrize("name", SEQUENCES)
def test_the_target_of_a_sequence(name):
    answers = {"copy": list, "reverse": lambda symbols: symbols[::-1], "sort": sorted}
    task = make_task(name, symbols=36, max_length=5, train_size=200)
    for pairs in task.splits.values():
        for source, target in pairs:
            assert target.split(" ") == list(answers[name](source.split(" ")))
    assert (task.source_label, task.target_label, task.slug) == ("sequence", name, name)


@given(
    st.integers(2, 4), st.integers(1, 3), st.integers(0, 4), st.integers(0, 3), st.integers(1, 300), st.integers(0, 99)
)
def test_sequences_are_in_one_split_only(symbols, shortest, more, longer, size, seed):
    options = {"symbols": symbols, "min_length": shortest, "max_length": shortest + more, "longer": longer}
    task = Copy(**options, train_size=size, valid_size=20, random_size=20, longer_size=20, seed=seed)
    try:
        splits = task.splits
    except ValueError:
        assert sum(symbols**n for n in range(shortest, shortest + more + 1)) < 10
        return
    sources = side(splits, 0)
    assert_disjoint(sources)
    assert list(splits) == ["train", "valid", "random"] + ["longer"] * (longer > 0)
    for split, texts in sources.items():
        assert len(set(texts)) == len(texts)
        lengths = {len(text.split()) for text in texts}
        first, last = (
            (task.max_length + 1, task.max_length + longer) if split == "longer" else (shortest, shortest + more)
        )
        assert first <= min(lengths) <= max(lengths) <= last
    assert len(sources["train"]) <= size


def test_sequences_have_all_lengths_equally_often_where_there_are_enough():
    task = make_task("reverse", symbols=10, max_length=6, train_size=6000, valid_size=30, random_size=90)
    lengths = Counter(len(source.split()) for source, _ in task.splits["train"])
    assert lengths[1] == 10
    assert lengths[2] == 100
    assert lengths[3] == 1000
    assert max(lengths[n] for n in (4, 5, 6)) - min(lengths[n] for n in (4, 5, 6)) <= 1
    assert Counter(len(source.split()) for source, _ in task.splits["random"]) == {4: 30, 5: 30, 6: 30}


def test_sequences_of_defaults_have_the_sizes_asked_for():
    sizes = {split: len(pairs) for split, pairs in make_task("sort").splits.items()}
    assert sizes == {"train": 20_000, "valid": 500, "random": 1_000, "longer": 500}


def test_few_sequences_make_small_splits():
    sizes = {split: len(pairs) for split, pairs in make_task("copy", symbols=2, max_length=5).splits.items()}
    assert sizes == {"train": 48, "valid": 6, "random": 6, "longer": 64 + 128}


def test_too_few_sequences_are_an_error():
    with pytest.raises(
        ValueError, match=r"copy: nothing is left for the split 'train'\. Take more symbols or a larger"
    ):
        list(make_task("copy", symbols=2, max_length=2).splits)


def test_sequences_depend_on_their_seed():
    a, b = (make_task("copy", train_size=100, seed=seed).splits["train"] for seed in (0, 1))
    assert a != b


@given(st.text())
def test_normalising_sequences_twice_is_normalising_once(text):
    task = Sort()
    assert task.normalise(task.normalise(text)) == task.normalise(text)


def test_typed_sequences_are_put_into_form():
    assert Sort().normalise(" 7391\n") == Sort().normalise("7, 3 9,1") == "7 3 9 1"
    assert Sort(symbols=36).normalise("A1") == "a 1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"symbols": 1}, r"sort: symbols is 1\. Choose from 2 to 36\."),
        ({"symbols": 37}, r"sort: symbols is 37\. Choose from 2 to 36\."),
        (
            {"min_length": 0},
            r"sort: min_length is 0 and max_length is 10\. Choose 1 <= min_length <= max_length <= 200\.",
        ),
        ({"min_length": 5, "max_length": 4}, r"sort: min_length is 5 and max_length is 4\."),
        ({"max_length": 201}, r"sort: min_length is 1 and max_length is 201\. Choose 1 <= .* <= 200\."),
        ({"longer": -1}, r"sort: longer is -1\. Choose 0 for no longer sequences, or more\."),
    ],
)
def test_illegal_options_of_sequences(options, message):
    with pytest.raises(ValueError, match=message):
        make_task("sort", **options)


# ------------------------------------------------------------------------------------------------------------ numbers
def make_numbers(**options) -> Numbers:
    task = make_task("numbers", **options)
    assert isinstance(task, Numbers)
    return task


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("low", "high"), [(0, 99), (0, 999), (0, 999_999), (37, 5_000), (10**9, 10**12)])
@pytest.mark.parametrize(("source", "target"), [("en", "fr"), ("de", "ja"), ("ru", "ru"), ("az", "en")])
def test_numbers_and_texts_are_in_one_split_only(source, target, low, high, seed):
    task = make_numbers(source=source, target=target, low=low, high=high, seed=seed, **SMALL)
    assert list(task.splits) == list(task.numbers) == ["train", "valid", "random", "range"]
    assert_disjoint(task.numbers)
    assert_disjoint(side(task.splits, 0))
    assert_disjoint(side(task.splits, 1))
    for split, members in task.numbers.items():
        assert len(set(members)) == len(members) == len(task.splits[split])
        assert low <= min(members) <= max(members) <= high
        assert all((n in task.block) == (split == "range") for n in members if n not in task.always)
    assert set(task.always) <= set(task.numbers["train"])


def test_numbers_of_defaults_have_the_sizes_asked_for():
    task = make_numbers()
    assert {split: len(pairs) for split, pairs in task.splits.items()} == {
        "train": 30_000,
        "valid": 500,
        "random": 2_500,
        "range": 2_000,
    }
    assert_disjoint(task.numbers)
    assert_disjoint(side(task.splits, 0))
    assert_disjoint(side(task.splits, 1))
    digits = Counter(len(str(n)) for n in task.numbers["train"])
    assert min(digits[5], digits[6]) > 10_000
    assert abs(digits[5] - digits[6]) <= 10
    assert digits[4] > 8_900
    assert digits[3] > 890
    assert (digits[2], digits[1]) == (90, 10)
    uniform = [n for split in ("valid", "random") for n in task.numbers[split]]
    assert 0.88 < sum(n >= 100_000 for n in uniform) / 3000 < 0.92
    assert 0.47 < sum(uniform) / 3000 / 10**6 < 0.53
    assert task.block == range(420_000, 430_000)


@pytest.mark.parametrize("language", ["en", "fr", "de", "ru", "bn", "it"])
def test_no_word_of_the_tests_is_new(language):
    task = make_numbers(target=language, **{**SMALL, "train_size": 3000})
    known = Vocab.build([target for _, target in task.splits["train"]])
    assert [
        word for split in ("valid", "random", "range") for _, text in task.splits[split] for word in known.unknown(text)
    ] == []


@pytest.mark.parametrize(("source", "target"), [("en", "fr"), ("ru", "ar"), ("th", "ja")])
@pytest.mark.parametrize("ordinals", [False, True])
def test_the_texts_are_those_of_num2words(source, target, ordinals):
    task = make_numbers(source=source, target=target, ordinals=ordinals, **SMALL)
    for split, members in task.numbers.items():
        for n, pair in zip(members, task.splits[split], strict=True):
            written = [num2words(n, lang=code, ordinal=ordinals) for code in (source, target)]
            assert pair == tuple(map(task.normalise, written))


@pytest.mark.parametrize("code", numbers.languages())
def test_writing_fast_changes_no_text(code):
    converter = CONVERTER_CLASSES[code]
    sample = [0, 1, 7, 10, 11, 20, 21, 70, 99, 100, 101, 1000, 1001, 4321, 10**4, 98_765, 10**5, 999_999]
    for high in (99, 4321, 999_999):
        for ordinals, expected in ((False, converter.to_cardinal), (True, converter.to_ordinal)):
            write = numbers.writer(code, ordinals, high)
            for n in sample:
                if n <= high:
                    assert outcome(write, n) == outcome(expected, n)


def outcome(write, n):
    try:
        return write(n)
    except Exception:
        return "cannot"


def test_numbers_that_are_written_alike_stay_together(monkeypatch):
    def alike(code, ordinals, high):
        return {"en": lambda n: f"word {n // 3}", "fr": lambda n: f"mot {n % 1000 // 2} {n // 1000}"}[code]

    monkeypatch.setattr(numbers, "writer", alike)
    task = make_numbers(high=9_999, **SMALL)
    assert_disjoint(task.numbers)
    assert_disjoint(side(task.splits, 0))
    assert_disjoint(side(task.splits, 1))
    assert len(task.splits["random"]) < SMALL["random_size"]
    for split, members in task.numbers.items():
        assert [source for source, _ in task.splits[split]] == [f"word {n // 3}" for n in members]


@pytest.mark.parametrize("seed", range(4))
def test_a_number_that_is_always_in_training_takes_no_place_in_a_test(seed):
    task = make_numbers(high=99, range_size=9, seed=seed)
    assert set(task.block) & set(task.always) == {50}
    assert len(task.splits["range"]) == 9 == len(task.block) - 1


def test_a_training_text_is_never_given_away():
    """Belarusian writes the ordinals of 70 and 80 alike: both are always in training, and stay there."""
    task = make_numbers(source="be", ordinals=True, high=999, **SMALL)
    assert {70, 80} <= set(task.numbers["train"])


def test_tests_are_the_same_for_every_size_of_training_and_differ_by_seed():
    small, large, other = (
        make_numbers(**{**SMALL, "train_size": size}, seed=seed).numbers
        for size, seed in ((200, 0), (900, 0), (200, 1))
    )
    for split in ("valid", "random", "range"):
        assert small[split] == large[split]
        assert small[split] != other[split]
    assert small["train"] != other["train"]
    assert set(small["train"]) < set(large["train"])


def test_a_source_can_be_its_own_target():
    splits = make_numbers(source="ar", target="ar", **SMALL).splits
    assert all(source == target for pairs in splits.values() for source, target in pairs)


@given(st.integers(0, 999_999))
def test_english_with_and_without_its_comma_is_the_same(n):
    text = num2words(n)
    assert Numbers().normalise(text) == Numbers().normalise(text.replace(",", "")) == text.replace(",", "")


@given(st.text())
def test_normalising_twice_is_normalising_once(text):
    task = Numbers()
    normal = task.normalise(text)
    assert task.normalise(normal) == normal
    assert unicodedata.is_normalized("NFC", normal)


def test_typed_numbers_are_put_into_form():
    assert Numbers().normalise("  Seven\thundred,and  THIRTY-one\n") == "seven hundred and thirty-one"
    assert Numbers().normalise("de\u0301ja\u0300") == "déjà"


def test_names_of_languages_for_people():
    task = make_numbers(source="de", target="pt_BR", ordinals=True)
    assert (task.source_label, task.target_label) == ("German (de)", "Brazilian Portuguese (pt_BR)")
    assert task.slug == "numbers-de-pt_BR-ordinals"
    assert make_numbers().slug == "numbers-en-fr"


def test_every_language_has_a_name():
    assert set(numbers.NAMES) >= set(numbers.languages())
    assert numbers.label("xx") == "xx"


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        ("german", r"Did you mean German \(de\)\? "),
        ("Portugese", r"Did you mean Portuguese \(pt\)\? "),
        ("en-US", r"Did you mean English \(en\)\? "),
        ("", ""),
        ("klingon", ""),
    ],
)
def test_unknown_languages_are_errors_that_suggest_one(code, meant):
    message = rf"numbers: target is '{code}', which num2words does not have\. {meant}There are: am, ar, .*, vi\."
    with pytest.raises(ValueError, match=message):
        make_numbers(target=code)


def test_codes_of_languages_may_be_spelt_in_other_ways():
    task = make_numbers(source="FR", target="pt-br")
    assert (task.source, task.target, task.slug) == ("fr", "pt_BR", "numbers-fr-pt_BR")


@pytest.mark.parametrize(("low", "high"), [(5, 5), (9, 3), (-1, 10), (0, 10**15)])
def test_illegal_intervals(low, high):
    with pytest.raises(
        ValueError,
        match=rf"numbers: low is {low} and high is {high}\. Choose 0 <= low < high < 1,000,000,000,000,000\.",
    ):
        make_numbers(low=low, high=high)


@pytest.mark.parametrize("high", [1, 9, 25])
def test_too_short_intervals(high):
    with pytest.raises(
        ValueError,
        match=r"nothing is left for the split '\w+'\. Widen the interval from low to high, or lower train_size\.",
    ):
        make_numbers(high=high).splits  # noqa: B018


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target": "cs", "ordinals": True},
            r"cannot write the ordinal 0 in Czech \(cs\) \(NotImplementedError\(\)\)\. Choose another language, an "
            r"interval \(low, high\) without such numbers, or no ordinals\.",
        ),
        ({"target": "am"}, r"cannot write the number \d{4,} in Amharic \(am\) \(TypeError.* without such numbers\."),
    ],
)
def test_gaps_of_num2words_are_errors_that_name_the_language(options, message):
    with pytest.raises(ValueError, match=message):
        make_numbers(**options, **SMALL).splits  # noqa: B018
