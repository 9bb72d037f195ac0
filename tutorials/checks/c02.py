"""What c02 must hold: the module where two runs part is named, wherever it is, and a healthy model is left in peace."""

from itertools import count

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad.nn import functional as F
from tutorials.check import expect

HINTS = (
    "Run it twice. What is random in the middle is random at the end, too: so the *first* difference counts.",
    "mg.record(model, keep='values') keeps the array of every step; nn.capture(model) the output of every module.",
    "zip the steps of two recordings; at the first with (a.array != b.array).any(), return rec.path(step.module).",
)
PARTS = ("self_attn", "ffn", "add_norm1", "add_norm2")


def _healthy(rng):
    """A small Transformer in evaluation mode, and tokens for it."""
    mg.manual_seed(int(rng.integers(1000)))
    sizes = rng.integers(1, 4, 2).tolist()
    config = mt.TransformerConfig(
        src_vocab_size=12,
        d_model=8,
        nhead=2,
        num_encoder_layers=sizes[0],
        num_decoder_layers=sizes[1],
        dim_feedforward=8,
        dropout=0.1,
    )
    source, target = (rng.integers(3, 12, (2, int(rng.integers(2, 7)))) for _ in range(2))
    return mt.Transformer(config).eval(), source, target


def _plant(model, path):
    """Let the module at `path` drop a fifth of what it returns, in evaluation, too."""
    module = dict(model.named_modules())[path]
    before = module.forward
    module.forward = lambda *arguments, **settings: F.dropout(before(*arguments, **settings), 0.2)


def _places(model, side):
    """The paths of parts of the encoder's or the decoder's layers."""
    paths = [path for path, _ in model.named_modules()]
    return [path for path in paths if path.startswith(side) and path.rpartition(".")[2] in PARTS]


def _in_the_last_bit(y, run):
    """One number, the last of the last sentence, is the next larger one in every other run."""
    y.flat[-1] = np.nextafter(y.flat[-1], np.float32(np.inf)) if run % 2 else y.flat[-1]


def _by_a_number_that_moves(y, run):
    """All numbers are 0, but for a 1 in another place in every run; so the sum and the largest number stay."""
    y.flat[:] = 0
    y.flat[run % y.size] = 1


def the_module_is_named(answer, rng):
    """In any layer of encoder or decoder."""
    model, source, target = _healthy(rng)
    path = str(rng.choice(_places(model, rng.choice(["encoder", "decoder"]))))
    _plant(model, path)
    found = answer.guilty(model, source, target)
    expect(found == path, f"{found!r} is named, expected {path!r}")


def every_number_counts(answer, rng):
    """Sums do not tell, nor does a tolerance."""
    for change in (_in_the_last_bit, _by_a_number_that_moves):
        model, source, target = _healthy(rng)
        path = str(rng.choice(_places(model, "encoder")))
        module, runs = dict(model.named_modules())[path], count()

        def forward(*arguments, before=module.forward, change=change, runs=runs, **settings):
            y = before(*arguments, **settings).detach().numpy().copy()
            change(y, next(runs))
            return before(*arguments, **settings) * 0 + mg.from_numpy(y)

        module.forward = forward
        found = answer.guilty(model, source, target)
        how = change.__name__.strip("_").replace("_", " ")
        expect(found == path, f"two runs differ {how} in {path!r}, but {found!r} is named")


def the_first_of_two_is_named(answer, rng):
    """The encoder runs before the decoder."""
    model, source, target = _healthy(rng)
    first, second = (str(rng.choice(_places(model, side))) for side in ("encoder", "decoder"))
    _plant(model, first)
    _plant(model, second)
    found = answer.guilty(model, source, target)
    expect(found == first, f"{found!r} is named, expected {first!r}, which runs before {second!r}")


def a_healthy_model_is_left_in_peace(answer, rng):
    """Nothing is named."""
    found = answer.guilty(*_healthy(rng))
    expect(found is None, f"{found!r} is named in a healthy model, expected None")


def modes_stay_as_they_are(answer, rng):
    """All modules are in evaluation mode before and after."""
    model, source, target = _healthy(rng)
    answer.guilty(model, source, target)
    changed = [path or "the model" for path, module in model.named_modules() if module.training]
    expect(not changed, f"{len(changed)} modules are in training mode afterwards, such as {changed[:1]}, expected none")
