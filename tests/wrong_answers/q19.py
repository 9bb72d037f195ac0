"""Wrong answers to q19."""


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


WRONG = {
    "the larger one": {"rate": larger_of_the_two},
    "forgets d_model": {"rate": no_size},
    "falls as 1/step": {"rate": falls_in_a_line},
    "forgets the scale": {"dropout": not_scaled},
    "keeps p": {"dropout": keeps_p},
    "on at test time": {"dropout": always_on},
    "one coin for a column": {"dropout": whole_columns},
    "scaled at test time": {"dropout": scaled_at_test},
}
