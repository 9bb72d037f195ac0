"""Watching a computation: what happened, where, and what it sent back."""

from .leak import Frame, Step, Tape, changes, differ, number_of, taping

__all__ = ["Frame", "Step", "Tape", "changes", "differ", "number_of", "taping"]
