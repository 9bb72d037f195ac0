"""Looking at a trained model: which head does what, what it is worth, and what depends on what."""

from .heads import ablate, head_importance, head_names, patterns
from .laboratory import Dependency, LeakError, Matrix, dependency
from .leaks import Leak, Place
from .masking import with_mask

__all__ = [
    "Dependency",
    "Leak",
    "LeakError",
    "Matrix",
    "Place",
    "ablate",
    "dependency",
    "head_importance",
    "head_names",
    "patterns",
    "with_mask",
]
