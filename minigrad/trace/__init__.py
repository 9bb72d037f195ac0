"""Watching the engine: recordings of a model as it runs forwards and backwards, and what can be read off them."""

from .anomaly import AnomalyError, detect_anomaly
from .compare import Comparison, compare
from .crossings import crossing_shares, crossings
from .kernels import compare_kernels
from .provenance import Extrema, Origin
from .record import record
from .recording import Recording
from .steps import Argument, Call, Edge, KernelCall, Nonfinite, Source, Split, Statistics, Step, WayBack
from .table import Table
from .tape import of_tape
