"""What every test may rely on."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib, and for the processes that tests start

import numpy as np
import pytest
from hypothesis import settings

import minigrad as mg
from minigrad import kernels
from minigrad.kernels import threads

settings.register_profile("minigrad", deadline=None, max_examples=25, derandomize="CI" in os.environ)
settings.load_profile("minigrad")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run; the library's own generator starts from the same place."""
    mg.manual_seed(0)
    return np.random.default_rng(0)


@pytest.fixture(params=["numpy", "numba"])
def either(request):
    """The test runs with each set of kernels."""
    with kernels.use(request.param):
        yield request.param


@pytest.fixture
def several_threads(monkeypatch):
    """Work is shared however small it is; the test chooses by `kernels.set_num_threads`."""
    before = kernels.get_num_threads()
    monkeypatch.setattr(threads, "WORTH_SHARING", 0)
    yield
    kernels.set_num_threads(before)
