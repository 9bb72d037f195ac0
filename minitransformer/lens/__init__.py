"""Looking at a trained model: which head does what, what it is worth, and whether its softmax still learns."""

from .film import Film
from .heads import ablate, head_importance, head_names, patterns
from .oscilloscope import saturation, sharpen, softmax_statistics
from .rows import ECDF, Rows, Saturation

__all__ = [
    "ECDF",
    "Film",
    "Rows",
    "Saturation",
    "ablate",
    "head_importance",
    "head_names",
    "patterns",
    "saturation",
    "sharpen",
    "softmax_statistics",
]
