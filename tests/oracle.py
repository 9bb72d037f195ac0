"""PyTorch, which the project is compared with: the only file that imports it."""

from typing import Any

import pytest


def torch() -> Any:
    """The module; the test is skipped where it is not installed."""
    return pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed: pip install torch==2.13.0")
