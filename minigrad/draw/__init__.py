"""Pictures of what was recorded, and the style that all figures have."""

from .branches import path_shares, residual_ledger
from .exhibits import Exhibit, exhibit
from .graph import Graph, graph
from .outline import DrawError
from .page import Section, page, save_page
from .plots import FlowRow, gradient_flow
from .style import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    VERMILLION,
    Plot,
    figure,
    label_tokens,
    token_text,
    whole_decades,
)
