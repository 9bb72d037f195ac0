"""What every test may rely on."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib, and for the processes that tests start

import numpy as np
import pytest
from hypothesis import settings

import minigrad as mg

settings.register_profile("minigrad", deadline=None, max_examples=25, derandomize="CI" in os.environ)
settings.load_profile("minigrad")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run; the library's own generator starts from the same place."""
    mg.manual_seed(0)
    return np.random.default_rng(0)
