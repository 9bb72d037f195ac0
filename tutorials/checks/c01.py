"""What c01 must hold: the importance of a head is the slope of the loss by its gate, sentence by sentence."""

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import nn
from minitransformer import lens
from tutorials.check import close, expect

HINTS = (
    "Run loss().backward() inside of nn.capture(model, '*.z', grad=True); then each z has z.grad, also (B, H, T, K).",
    "Multiply z and z.grad, and sum over the places T and the entries K only. What is left is (B, H).",
    "Slopes of different sentences may have different signs: first the absolute value, then the sum over B.",
)
H = 2


def _case(rng, B):
    """A small Transformer in float64, and the weighed sum of its logits for B sentences, or for one of them."""
    mg.manual_seed(int(rng.integers(1000)))
    config = mt.TransformerConfig(
        src_vocab_size=9,
        d_model=8,
        nhead=H,
        num_encoder_layers=1,
        num_decoder_layers=int(rng.integers(1, 3)),
        dim_feedforward=8,
    )
    model = mt.Transformer(config).double().eval()
    src, tgt = rng.integers(3, 9, (B, int(rng.integers(2, 6)))), rng.integers(3, 9, (B, int(rng.integers(2, 6))))
    weights = rng.standard_normal((*tgt.shape, 9))

    def loss(rows=slice(None)):
        return (model(src[rows], tgt[rows]) * mg.from_numpy(weights[rows])).sum()

    return model, loss


def _gated(path, head, gate):
    """Multiply one head by a gate."""
    gates = np.ones((H, 1, 1))
    gates[head] = gate
    return {f"{path}.z": lambda z: z * mg.from_numpy(gates)}


def every_head_has_its_name(answer, rng):
    """And no other is there."""
    model, loss = _case(rng, 2)
    found, names = answer.importance(model, loss), lens.head_names(model)
    expect(sorted(found) == sorted(names), f"the names are {sorted(found)[:3]} ..., expected {sorted(names)[:3]} ...")


def it_is_the_slope_by_a_gate(answer, rng):
    """Of one sentence, by the difference of two losses."""
    model, loss = _case(rng, 1)
    found = answer.importance(model, loss)
    for name in rng.choice(lens.head_names(model), 3, replace=False):
        path, _, head = name.rpartition(".")
        ends = []
        for gate in (1 - 1e-5, 1 + 1e-5):
            with nn.patch(model, _gated(path, int(head), gate)):
                ends.append(loss().item())
        close(found[name], abs(ends[1] - ends[0]) / 2e-5, f"the importance of {name}", 1e-5)


def sentences_do_not_cancel(answer, rng):
    """The importance for a batch is the sum of those for each of its sentences."""
    B = int(rng.integers(2, 5))
    model, loss = _case(rng, B)
    found = answer.importance(model, loss)
    apart = [answer.importance(model, lambda b=b: loss(slice(b, b + 1))) for b in range(B)]
    for name in found:
        close(found[name], sum(each[name] for each in apart), f"the importance of {name} for {B} sentences")
