"""Watching the engine: recordings of a model as it runs forwards and backwards, and what can be read off them."""

from .crossings import crossings
from .record import record
from .recording import Recording
from .steps import Argument, Call, Edge, Source, Split, Statistics, Step
from .table import Table
from .tape import of_tape
