"""A film strip of training: what the oscilloscope showed at some of the steps, a few kilobytes each."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from .rows import Saturation, check_column, counted

Array = np.ndarray
FILMED = (
    "dead",
    "normalised_entropy.median",
    "max_p.median",
    "jacobian.median",
    "row_gradient.mean",
    "row_gradient.median",
)


class Film:
    """Numbers for every head, step after step: film[column] is an array (steps, attentions, heads) in float32.

    columns: those of `Saturation.per_head` that are kept. `steps` are the numbers of the steps that were filmed,
    `attentions` the paths of the attentions. To film a training, look at the same batch now and then; that changes
    nothing in the training, not a bit:

        while not trainer.finished:
            trainer.step()
            if trainer.steps_taken % 25 == 0:
                film.add(trainer.steps_taken, lens.saturation(trainer.translator.model, batch))

    >>> from minigrad import randn
    >>> from minitransformer import MultiHeadAttention, lens
    >>> film, model, x = Film(), MultiHeadAttention(d_model=8, nhead=2), randn(2, 5, 8)
    >>> for step in (0, 10):
    ...     film.add(step, lens.saturation(model, x, x, x))
    >>> film
    Film of 2 steps, 0 to 10, of 1 attention with 2 heads: dead, normalised_entropy.median, max_p.median, \
jacobian.median, row_gradient.mean, row_gradient.median
    >>> film["dead"].shape
    (2, 1, 2)
    """

    def __init__(self, columns: Sequence[str] = FILMED) -> None:
        for column in columns:
            check_column(column)
        self.columns = tuple(columns)
        self.attentions: tuple[str, ...] = ()
        self.steps: list[int] = []
        self._frames: list[dict[str, Array]] = []

    def add(self, step: int, saturation: Saturation) -> None:
        """Add what was seen after `step`.

        Raises ValueError if the steps go backwards, or if it is not of the same attentions as the steps before.
        """
        if not isinstance(step, int | np.integer) or not isinstance(saturation, Saturation):
            raise TypeError(
                f"Film.add(): given {type(step).__name__}, {type(saturation).__name__}; give the number of a step, and "
                "what lens.saturation() returned."
            )
        if self.steps and step <= self.steps[-1]:
            raise ValueError(f"Film.add(): step is {step}, and step {self.steps[-1]} is there; steps must grow.")
        frame = {column: saturation.per_head(column).astype(np.float32) for column in self.columns}
        if self.steps and (tuple(saturation) != self.attentions or shapes(frame) != shapes(self._frames[0])):
            raise ValueError(
                f"Film.add(): step {step} is of other attentions than step {self.steps[0]}. Use a film for each model."
            )
        self.attentions = tuple(saturation)
        self.steps.append(int(step))
        self._frames.append(frame)

    @property
    def frames(self) -> list[dict[str, Any]]:
        """One dict for every step: "step", and an array (attentions, heads) for every column."""
        return [{"step": step} | frame for step, frame in zip(self.steps, self._frames, strict=True)]

    def __getitem__(self, column: str) -> Array:
        if column not in self.columns:
            raise ValueError(f"Film: there is no column {column!r}; there are {', '.join(self.columns)}.")
        heads = self._frames[0][column].shape if self._frames else (0, 0)
        return np.array([frame[column] for frame in self._frames], np.float32).reshape(len(self), *heads)

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        if not self.steps:
            return f"Film of 0 steps: {', '.join(self.columns)}"
        attentions, heads = self[self.columns[0]].shape[1:]
        return (
            f"Film of {counted(len(self), 'step')}, {self.steps[0]} to {self.steps[-1]}, of "
            f"{counted(attentions, 'attention')} with {counted(heads, 'head')}: {', '.join(self.columns)}"
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write all to one file, a compressed NumPy archive (.npz) of "steps", "attentions" and every column."""
        arrays: dict[str, Any] = {column: self[column] for column in self.columns}
        with open(path, "wb") as file:
            np.savez_compressed(
                file, steps=np.array(self.steps, int), attentions=np.array(self.attentions, str), **arrays
            )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Film:
        """Read a film that `save` wrote; more can be added to it. Raises ValueError if the file holds no film."""
        with open(path, "rb") as file:
            try:
                with np.load(file, allow_pickle=False) as archive:
                    arrays = dict(archive)
                steps, attentions = arrays.pop("steps"), arrays.pop("attentions")
                film = cls(list(arrays))
                film._frames = [{column: arrays[column][i] for column in arrays} for i in range(len(steps))]
            except Exception as error:  # a file that is another, or half of one, fails in a dozen ways
                raise ValueError(
                    f"Film.load(): {path} holds no film ({error}). Give a file that save() wrote."
                ) from error
        film.steps, film.attentions = steps.tolist(), tuple(attentions.tolist())
        return film


def shapes(frame: dict[str, Array]) -> list[tuple[int, ...]]:
    """The shapes of the arrays of a frame."""
    return [array.shape for array in frame.values()]
