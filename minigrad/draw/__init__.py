"""Pictures of what was recorded."""

from .graph import Graph, graph
