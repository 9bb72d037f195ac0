"""Pictures of what was recorded, and the style that all figures have."""

from .branches import path_shares, residual_ledger
from .graph import Graph, graph
from .outline import DrawError
from .plots import FlowRow, gradient_flow
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, SMALL, VERMILLION, Plot, figure, label_tokens, token_text
