"""Wrong answers to q19."""

import numpy as np


def larger_of_the_two(step, d_model, warmup):
    """max in place of min."""
    return d_model**-0.5 * max(step**-0.5, step * warmup**-1.5)


def no_size(step, d_model, warmup):
    """Without the size of the model."""
    return min(step**-0.5, step * warmup**-1.5)


def falls_in_a_line(step, d_model, warmup):
    """As 1/step after the warm-up."""
    return (d_model * warmup) ** -0.5 * min(step / warmup, warmup / step)


def not_scaled(x, p, rng, training):
    """The mean becomes smaller."""
    return x * (rng.random(x.shape) >= p) if training else x


def keeps_p(x, p, rng, training):
    """p taken for the probability to stay."""
    return x * (rng.random(x.shape) < p) / p if training else x


def always_on(x, p, rng, training):
    """At test time, too."""
    return x * (rng.random(x.shape) >= p) / (1 - p)


def whole_columns(x, p, rng, training):
    """One coin for all rows."""
    return x * (rng.random(x.shape[-1]) >= p) / (1 - p) if training else x


def scaled_at_test(x, p, rng, training):
    """The scale at test time in place of training."""
    return x * (rng.random(x.shape) >= p) if training else x * (1 - p)


def with_coins(coins):
    """Dropout, right but for the coins."""

    def dropout(x, p, rng, training):
        return x * (coins(x, rng) >= p) / (1 - p) if training else x

    return {"dropout": dropout}


def always_the_same_share(x, rng):
    """Numbers for coins that are never all alike: the share that is gone is no chance."""
    return rng.permutation(x.size).reshape(x.shape) / x.size


def rescaled_by_what_is_left(x, p, rng, training):
    """Divided by the share that stayed."""
    stays = rng.random(x.shape) >= p
    return x * stays / max(stays.mean(), 1e-9) if training else x


WRONG = {
    "the larger one": {"rate": larger_of_the_two},
    "forgets d_model": {"rate": no_size},
    "falls as 1/step": {"rate": falls_in_a_line},
    "forgets the scale": {"dropout": not_scaled},
    "keeps p": {"dropout": keeps_p},
    "on at test time": {"dropout": always_on},
    "one coin for a column": {"dropout": whole_columns},
    "scaled at test time": {"dropout": scaled_at_test},
    "coins shared over a batch": with_coins(lambda x, rng: rng.random(x.shape[-2:])),
    "coins shared in rows of a batch": with_coins(
        lambda x, rng: rng.random((*x.shape[:-1], 1) if x.ndim > 2 else x.shape)
    ),
    "coins of somebody else": with_coins(lambda x, rng: np.random.default_rng().random(x.shape)),
    "always the same coins": with_coins(lambda x, rng: np.random.default_rng(0).random(x.shape)),
    "always the same share": with_coins(always_the_same_share),
    "by the share that stayed": {"dropout": rescaled_by_what_is_left},
}
