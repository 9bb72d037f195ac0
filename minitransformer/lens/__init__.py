"""Looking at a model: what each head does, whether its softmax still learns, and what depends on what."""

from .curves import loss_curves
from .figures import row_gradients, saturation_strip
from .film import Film
from .heads import ablate, head_importance, head_names, patterns
from .laboratory import Dependency, LeakError, Matrix, dependency
from .leaks import Leak, Place
from .maps import attention_grid, attention_head
from .masking import with_mask
from .matrices import dependency_matrices
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
    "attention_grid",
    "attention_head",
    "dependency",
    "dependency_matrices",
    "head_importance",
    "head_names",
    "loss_curves",
    "patterns",
    "row_gradients",
    "saturation",
    "saturation_strip",
    "sharpen",
    "softmax_statistics",
    "with_mask",
]
