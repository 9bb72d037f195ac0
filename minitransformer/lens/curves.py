"""The course of a training in curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray
SMOOTHING = 21  # steps over which what single batches say is averaged


def loss_curves(history: Sequence[Mapping[str, Any]]) -> draw.Plot:
    """Draw loss, held-out accuracy, learning rate and norm of the gradient over the steps of a `Trainer.history`.

    The numbers are arrays: "step", "loss", "learning_rate" and "gradient_norm" of every step, before clipping; and
    "valid_step", "valid_loss", "exact_match" and "token_accuracy" (shares) of the steps after which there was an
    evaluation. What is not finite leaves a gap in its line, and is counted in its title.

    Raises ValueError for a history without steps.

    >>> record = {"step": 1, "loss": 4.1, "learning_rate": 1e-4, "gradient_norm": 2.0}
    >>> plot = loss_curves([record])
    >>> len(plot.figure.axes), plot.numbers["loss"]
    (4, array([4.1]))
    """
    if not history:
        raise ValueError("loss_curves(): the history has no steps. Draw it after a step of training.")
    if not all(isinstance(record, Mapping) and "loss" in record for record in history):
        raise ValueError(
            "loss_curves(): the history is no list of records with step, loss and so on, as Trainer.history has them. "
            "Of a run, try [json.loads(line) for line in open('runs/numbers-en-fr/log.jsonl')]."
        )
    evaluated = [record for record in history if "valid" in record]
    numbers = {
        name: np.array([record[name] for record in history])
        for name in ("step", "loss", "learning_rate", "gradient_norm")
    } | {
        "valid_step": np.array([record["step"] for record in evaluated]),
        "valid_loss": np.array([record["valid"]["loss"] for record in evaluated]),
        "exact_match": np.array([record["valid"]["exact_match"] for record in evaluated]),
        "token_accuracy": np.array([record["valid"]["token_accuracy"] for record in evaluated]),
    }
    steps, at = numbers["step"], numbers["valid_step"]
    with draw.figure(7, 7.6) as fig:
        loss, accuracy, rate, norm = fig.subplots(4, 1, sharex=True, height_ratios=[3, 2, 1.2, 1.2])

        _noisy(loss, steps, numbers["loss"], draw.BLUE, "training, with dropout and smoothed labels, ")
        loss.plot(at, numbers["valid_loss"], "o-", ms=4, color=draw.VERMILLION, label="held out")
        loss.set(title=_title("loss per target token (nats)", numbers["loss"]), ylim=(0, None))
        loss.legend()

        for name, colour, marker in (("exact_match", draw.GREEN, "o-"), ("token_accuracy", draw.GREY, "s--")):
            label = f"{name.replace('_', ' ')}, held out"
            accuracy.plot(at, 100 * numbers[name], marker, ms=4, color=colour, label=label)
        accuracy.set(title="accuracy (%)", ylim=(-3, 103))
        accuracy.legend()

        rate.plot(steps, numbers["learning_rate"], color=draw.GREY)
        rate.set(title="learning rate", ylim=(0, None))
        rate.yaxis.set_major_formatter("{x:g}")

        _noisy(norm, steps, numbers["gradient_norm"], draw.PURPLE, "")
        norm.set(title=_title("norm of the gradient, before clipping", numbers["gradient_norm"]), xlabel="step")
        norm.set_yscale("log", nonpositive="mask")
        norm.set_ylim(draw.whole_decades(numbers["gradient_norm"]))
        norm.yaxis.set_minor_formatter("")
        norm.legend()
    return draw.Plot(fig, numbers)


def _noisy(axes: Axes, steps: Array, values: Array, colour: str, what: str) -> None:
    """The values of single steps, pale, and their running mean."""
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.6)
    axes.plot(steps, running_mean(values, SMOOTHING), color=colour, label=f"{what}mean of {SMOOTHING} steps")


def _title(what: str, values: Array) -> str:
    missing = np.count_nonzero(~np.isfinite(values))
    return f"{what}; not finite in {missing} of {len(values)} steps" if missing else what


def running_mean(values: Array, width: int) -> Array:
    """Return the mean of the `width` values (an odd number) around each; near an end of as many as there are on a side.

    So the mean of a straight line is that line, and where the loss falls the mean is not late. Around a value that is
    not finite there is no mean: NaN.

    >>> running_mean(np.array([1.0, 2.0, 6.0, 4.0]), 3)
    array([1., 3., 4., 4.])
    """
    places, finite = np.arange(len(values)), np.isfinite(values)
    half = np.minimum(width // 2, np.minimum(places, places[::-1]))

    def around(x: Array) -> Array:
        sums = np.concatenate([[0.0], np.cumsum(x)])
        return sums[places + half + 1] - sums[places - half]

    return np.where(around(~finite) == 0, around(np.where(finite, values, 0.0)) / (2 * half + 1), np.nan)
