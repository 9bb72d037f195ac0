"""Watching the engine: recordings of a model as it runs forwards and backwards, and what can be read off them."""

from .kernels import compare_kernels
from .record import record
from .recording import Recording
from .steps import Argument, Call, Edge, KernelCall, Source, Split, Statistics, Step, WayBack
from .table import Table
