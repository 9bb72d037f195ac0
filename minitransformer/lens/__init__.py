"""Looking at a trained model: which head does what, what it is worth, and whether its softmax still learns."""

from .curves import loss_curves
from .figures import row_gradients, saturation_strip
from .film import Film
from .heads import ablate, head_importance, head_names, patterns
from .maps import attention_grid, attention_head
from .oscilloscope import saturation, sharpen, softmax_statistics
from .rows import ECDF, Rows, Saturation

__all__ = [
    "ECDF",
    "Film",
    "Rows",
    "Saturation",
    "ablate",
    "attention_grid",
    "attention_head",
    "head_importance",
    "head_names",
    "loss_curves",
    "patterns",
    "row_gradients",
    "saturation",
    "saturation_strip",
    "sharpen",
    "softmax_statistics",
]
