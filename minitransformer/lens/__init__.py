"""Looking at a trained model: which head does what, and what it is worth."""

from .heads import ablate, head_importance, head_names, patterns

__all__ = ["ablate", "head_importance", "head_names", "patterns"]
