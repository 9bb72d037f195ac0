"""Benchmarks: how fast ours is, beside the peers and beside what the machine can do. Not part of the test suite.

`python -m tests.benchmarks.NAME` runs one, `python -m tests.benchmarks` all; `harness` says how is measured.
"""

import os

ENVIRONMENT = dict(os.environ)  # before minigrad tells OpenMP how to wait: peers get none of our settings
