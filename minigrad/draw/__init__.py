"""Pictures of what was recorded."""

from .graph import Graph, graph
from .outline import DrawError
