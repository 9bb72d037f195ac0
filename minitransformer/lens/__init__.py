"""Looking at a model: what each head does, whether its softmax still learns, and what depends on what."""

from .film import Film
from .heads import ablate, head_importance, head_names, patterns
from .laboratory import Dependency, LeakError, Matrix, dependency
from .leaks import Leak, Place
from .masking import with_mask
from .oscilloscope import saturation, sharpen, softmax_statistics
from .rows import ECDF, Rows, Saturation

__all__ = [
    "ECDF",
    "Dependency",
    "Film",
    "Leak",
    "LeakError",
    "Matrix",
    "Place",
    "Rows",
    "Saturation",
    "ablate",
    "dependency",
    "head_importance",
    "head_names",
    "patterns",
    "saturation",
    "sharpen",
    "softmax_statistics",
    "with_mask",
]
