"""Wrong answers to c01."""

import numpy as np

from minigrad import nn


def _summed(model, loss, of):
    """By name, what `of` makes of z and its gradient (B, H, T, K): numbers (H,)."""
    with nn.capture(model, "*.z", grad=True) as seen:
        loss().backward()
    values = {name.removesuffix(".z"): of(z.detach().numpy(), z.grad.numpy()) for name, z in seen.items()}
    return {f"{path}.{head}": float(x) for path, heads in values.items() for head, x in enumerate(heads)}


def sentences_cancel(model, loss):
    """The absolute value of the sum."""
    return _summed(model, loss, lambda z, g: np.abs((z * g).sum(axis=(0, 2, 3))))


def of_every_entry(model, loss):
    """The absolute value of every entry."""
    return _summed(model, loss, lambda z, g: np.abs(z * g).sum(axis=(0, 2, 3)))


def gradient_only(model, loss):
    """How long the gradient is, whatever z is."""
    return _summed(model, loss, lambda z, g: np.sqrt((g**2).sum(axis=(2, 3))).sum(axis=0))


def with_sign(model, loss):
    """No absolute value."""
    return _summed(model, loss, lambda z, g: (z * g).sum(axis=(0, 2, 3)))


def places_do_not_cancel(model, loss):
    """The absolute value at every place."""
    return _summed(model, loss, lambda z, g: np.abs((z * g).sum(axis=3)).sum(axis=(0, 2)))


def mean_of_sentences(model, loss):
    """The mean over the batch."""
    return _summed(model, loss, lambda z, g: np.abs((z * g).sum(axis=(2, 3))).mean(axis=0))


WRONG = {
    "sentences cancel": {"importance": sentences_cancel},
    "entries do not cancel": {"importance": of_every_entry},
    "the gradient only": {"importance": gradient_only},
    "with a sign": {"importance": with_sign},
    "places do not cancel": {"importance": places_do_not_cancel},
    "the mean of the sentences": {"importance": mean_of_sentences},
}
