"""What the benchmarks compute from their measurements, and that each can be started; nothing is timed here."""

import doctest
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks import cases, harness, worker

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "benchmarks"
BENCHMARKS = ("gemm", "softmax", "ops", "overhead", "step", "decoding", "growth", "memory", "start", "accuracy")
MODULES = [f"tests.benchmarks.{name}" for name in ("physical", *BENCHMARKS)]

seconds = st.floats(1e-6, 1e3)


def run(*command: str, status: int = 0) -> str:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------------------- figures
def test_the_examples_in_the_harness_are_right():
    failed, tried = doctest.testmod(harness)
    assert failed == 0 < tried


@given(st.lists(seconds, min_size=3), st.lists(seconds))
def test_a_timing_is_the_median_of_the_clean_blocks(clean, disturbed):
    blocks = [(t, 0.0) for t in clean] + [(1e3 * t, 0.5) for t in disturbed]
    timing = harness.summarise(reversed(blocks))
    assert timing.clean
    assert timing.median == pytest.approx(np.median(clean))
    assert (timing.lower, timing.upper) == pytest.approx(tuple(np.percentile(clean, [25, 75])))
    assert timing.best == min(clean)


def test_without_clean_blocks_a_timing_is_that_of_the_three_least_disturbed():
    timing = harness.summarise([(9.0, 0.9), (3.0, 0.3), (1.0, 0.1), (2.0, 0.2), (8.0, 0.8)])
    assert (timing.median, timing.clean) == (2.0, False)
    assert timing.show(1.0).startswith("~2.00")


def test_a_rate_has_the_slow_quartile_first():
    assert harness.Timing(0.5, 0.25, 1.0, 0.2, clean=True).show_rate(10.0) == "20.0 (10.0-40.0)"


@given(st.lists(seconds, min_size=1), seconds)
def test_the_geometric_mean_scales_with_its_values(values, factor):
    mean = harness.geometric_mean(values)
    assert min(values) * (1 - 1e-9) <= mean <= max(values) * (1 + 1e-9)
    assert harness.geometric_mean([factor * x for x in values]) == pytest.approx(factor * mean)


@given(st.floats(1e-6, 1e6))
def test_significant_digits_keep_three(x):
    assert float(harness.significant(x)) == pytest.approx(x, rel=0.0051)


# ------------------------------------------------------------------------------------------------- processes and blocks
class Pretender:
    """A job whose blocks are made up."""

    def __init__(self, name, delays, log):
        self.name, self.delays, self.log = name, iter(delays), log

    def measure(self):
        self.log.append(self.name)
        return 1.0, next(self.delays)


def test_blocks_are_measured_in_turn_and_again_where_disturbed():
    log = []
    jobs: Any = {"a": Pretender("a", [0, 0, 0], log), "b": Pretender("b", [0, 0.5, 0, 0], log)}
    timings = harness.alternate(jobs, rounds=3, patience=1e9)
    assert "".join(log) == "abababb"
    assert all(timing.clean for timing in timings.values())


def test_patience_ends_after_three_blocks_of_each():
    log = []
    jobs: Any = {name: Pretender(name, [0.5] * 3, log) for name in "ab"}
    assert not harness.alternate(jobs, rounds=5, patience=0)["a"].clean
    assert "".join(log) == "ababab"


def test_a_contender_computes_in_its_own_process_and_says_what_fails():
    with harness.Contender("numpy_ops", threads=1) as contender:
        job = contender.prepare(block=1e-3, op="product", a=(4, 3), b=(4, 5), transposed="a")
        time, delay = job.measure()
        assert time > 0
        assert delay >= 0
        with pytest.raises(harness.Failed, match="numpy_ops: ValueError: matmul"):
            contender.prepare(op="product", a=(4, 3), b=(4, 5))
        job.forget()
        with pytest.raises(harness.Failed, match="KeyError"):
            job.measure()


def test_a_contender_that_cannot_start_is_no_riddle(capfd):
    with harness.Contender("nobody", threads=1) as contender, pytest.raises(harness.Failed, match="nobody ended with"):
        contender.prepare()
    assert "No module named 'tests.benchmarks.nobody'" in capfd.readouterr().err


def test_threads_are_pinned_before_anything_is_imported():
    environment = harness.environment(threads=1, peer=True)
    assert {environment[name] for name in harness.POOLS} == {"1"}
    assert environment.items() >= harness.KEEP_MEMORY.items()


def test_a_block_counts_its_calls():
    calls = []
    time, _ = worker.measure(lambda: calls.append(1), calls=10)
    assert len(calls) == 3 + 10  # after three to warm up
    assert time > 0


# -------------------------------------------------------------------------------------------------------------- results
def test_rows_are_written_as_json(tmp_path):
    report = harness.Report(rows=[{"config": 1, "ratio": 2.5}])
    report.write(str(tmp_path / "out.json"))
    assert json.loads((tmp_path / "out.json").read_text()) == [{"config": 1, "ratio": 2.5}]


def test_a_table_becomes_markdown():
    table = harness.Table("Sizes", ["name", "n"], [("a|b", "1")], ["A note."])
    assert table.markdown() == "### Sizes\n\n| name | n |\n| --- | ---: |\n| a/b | 1 |\n\nA note."


# ---------------------------------------------------------------------------------------------------------------- cases
@pytest.mark.parametrize("config", cases.CONFIGS.values(), ids=cases.CONFIGS)
def test_batches_hold_sentences_followed_by_padding(config):
    src, tgt, target = config.tokens()
    assert src.shape == tgt.shape == target.shape == (config.batch, config.length)
    np.testing.assert_array_equal(tgt[:, 1:], target[:, :-1])
    assert (tgt[:, 0] == cases.BOS).all()
    assert max(src.max(), target.max()) < config.vocabulary
    for tokens in (src, target):
        lengths = (tokens != cases.PAD).sum(1)
        np.testing.assert_array_equal(tokens != cases.PAD, np.arange(config.length) < lengths[:, None])
        assert lengths.min() >= config.length // 2


def test_operations_of_a_step_are_counted():
    c = cases.Config(layers=1, d_model=2, heads=1, feed_forward=3, vocabulary=5, batch=1, length=7)
    encoder = 7 * (4 * 2 * 2 + 2 * 2 * 3) + 2 * 7 * 7 * 2
    decoder = 7 * (8 * 2 * 2 + 2 * 2 * 3) + 4 * 7 * 7 * 2
    assert c.flops() == 3 * 2 * (encoder + decoder + 7 * 2 * 5)


# ------------------------------------------------------------------------------------------------------- from outside
@pytest.mark.parametrize("module", [*MODULES, "tests.benchmarks"])
def test_every_benchmark_says_how_to_call_it(module):
    assert "--json" in run("-m", module, "--help")


def test_no_benchmark_is_collected_as_a_test():
    collected = run("-m", "pytest", "--collect-only", "-q", str(FOLDER), status=pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "no tests collected" in collected
