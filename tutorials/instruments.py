"""All instruments on one page, each with the line that makes it, on models that are trained for it.

python tutorials/instruments.py [--out build/instruments] [--quick]

It trains the translator of numbers (English to French), two deeper ones with the norm before and after each branch, and
one of twelve layers that is not given time to warm up; then it writes index.html, which opens without a network.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from minigrad.draw import Exhibit
from minitransformer import lens
from minitransformer.batching import Batch, pad
from minitransformer.inspection import loss_of, record
from minitransformer.runs import Recipe
from minitransformer.session import sentence
from minitransformer.tasks import make_task
from minitransformer.vocab import BOS, EOS

TASK = make_task("numbers", source="en", target="fr")
SMALL = mt.TransformerConfig(
    src_vocab_size=4, d_model=64, nhead=4, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=256
)
SENTENCE = "two hundred and fourteen thousand nine hundred and sixty-six"


def train(steps: int, film: lens.Film | None = None, warm_up: bool = True, **changes: Any) -> mt.Trainer:
    """Train a translator of numbers; `film` is shown the softmaxes every 25 steps.

    Without a warm-up the learning rate is from the first step on as high as it is at the end of one.
    """
    recipe = Recipe(TASK, replace(SMALL, **changes), mt.TrainConfig(steps=max(steps, 1)))
    trainer = recipe.begin(TASK.splits)
    if not warm_up:
        peak = mt.noam(SMALL.d_model, trainer.config.warmup, trainer.config.lr_factor)(trainer.config.warmup)
        trainer.schedule = mg.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda step: peak)
    while trainer.steps_taken < steps and not trainer.reached_target:
        if film is not None and trainer.steps_taken % 25 == 0:
            film.add(trainer.steps_taken, lens.saturation(trainer.translator.model, some(trainer)))
        trainer.step()
    return trainer


def some(trainer: mt.Trainer, size: int = 16) -> Batch:
    """A few held-out sentences, always the same."""
    translator = trainer.translator
    pairs = TASK.splits["valid"][:size]
    src = pad([[*translator.source.encode(source), EOS] for source, _ in pairs])
    out = pad([[*translator.target.encode(target), EOS] for _, target in pairs])
    return Batch(src, np.concatenate([np.full((len(out), 1), BOS), out[:, :-1]], axis=1), out, np.arange(len(pairs)))


def result(trainer: mt.Trainer) -> str:
    """How long it was trained, and how good it is now."""
    scores, _ = trainer.translator.evaluate(TASK.splits["valid"])
    return f"{trainer.steps_taken} steps, {sentence(scores)}"


def seen(trainer: mt.Trainer) -> Any:
    """A recording of the loss of these sentences and its way back."""
    batch = some(trainer)
    return record(trainer.translator.model, batch.src, batch.tgt_in, batch.tgt_out, "op")[0]


def paths(trainer: mt.Trainer) -> dict[int, float]:
    """By how many branches the gradient of the embedding of the source came, for the same sentences."""
    model, batch = trainer.translator.model, some(trainer)
    loss = loss_of(model, batch.src, batch.tgt_in, batch.tgt_out)
    return mg.trace.crossing_shares(loss, model.src_embed.weight)


def names_of(trainer: mt.Trainer) -> dict[str, Any]:
    """What the lines of the page use: the model, one sentence with its translation, and recordings of it."""
    translator = trainer.translator
    src = pad([[*translator.source.encode(SENTENCE), EOS]])
    written = mt.greedy(translator.model, src)
    tgt = np.concatenate([[[BOS]], written[:, :-1]], axis=1)
    model = translator.model.eval()

    def loss() -> mg.Tensor:
        return mg.ops.cross_entropy(model(src, tgt), written)

    return {
        "mg": mg, "nn": nn, "np": np, "draw": draw, "lens": lens,
        "model": model, "src": src, "tgt": tgt, "labels": written, "loss": loss,
        "source": [*translator.source.tokeniser.split(SENTENCE), "<eos>"],
        "target": [translator.target.tokens[i] for i in tgt[0]],
        "rec": record(model, src, tgt, written, "op")[0],
        "fine": record(model, src, tgt, written, "definition")[0],
    }  # fmt: skip


ON_THE_TRANSLATOR = [
    Exhibit(
        "Record",
        "Everything that happens inside is written down: every step, every edge, every gradient. No number changes by "
        "that, not in the last bit.",
        "with mg.record(model) as rec:\n    loss().backward()\nrec",
        "record",
    ),
    Exhibit("Graph", "What was recorded, at the level that can be read at a glance.", "mg.graph(rec)", "graph"),
    Exhibit(
        "Graph, opened",
        "Any module can be opened down to its operations; the rest stays as it is.",
        "mg.graph(fine, level='layer', open=['decoder.layers.1.cross_attn'])",
        "graph-opened",
    ),
    Exhibit(
        "Graph, with the way to one parameter",
        "The strongest path of the gradient from the loss to a parameter.",
        "mg.graph(rec, to='encoder.layers.0.self_attn.v_proj.weight')",
        "graph-path",
    ),
    Exhibit(
        "Gradient ledger",
        "What every edge contributed to the gradient at its end: the norm, and the signed share. The shares of one end "
        "sum to 1; a negative one works against the others.",
        "rec.ledger('decoder.layers.1.*').sort('norm')[:12]",
        "ledger",
    ),
    Exhibit(
        "Residual ledger",
        "Around y = x + f(x) the gradient of x is that of y, past f, and what comes through f.",
        "draw.residual_ledger(rec)",
        "residuals",
    ),
    Exhibit(
        "Paths",
        "How much of the gradient of the embedding came through how many residual branches.",
        "shares = mg.trace.crossing_shares(loss(), model.src_embed.weight)\n"
        "draw.path_shares({'trained': shares}, 'src_embed.weight')",
        "paths",
    ),
    Exhibit(
        "Paths, taken apart",
        "The same gradient as a sum of arrays: the part G_k that came through k branches, here its length.",
        "parts = mg.trace.crossings(loss(), model.src_embed.weight)\n"
        "{k: round(float(np.linalg.norm(part)), 6) for k, part in parts.items()}",
        "crossings",
    ),
    Exhibit(
        "Gradient flow",
        "From layer to layer, parameters and activations.",
        "draw.gradient_flow(rec)",
        "gradient-flow",
    ),
    Exhibit(
        "Softmax oscilloscope",
        "Which share of the rows of each head lets less than a thousandth of its gradient through, and how near to "
        "uniform they are.",
        "lens.saturation_strip(lens.saturation(model, batch))",
        "saturation",
    ),
    Exhibit(
        "Softmax oscilloscope, row by row",
        "The gradients of all rows in order. Where mean and median differ, a few rows learn and the others do not.",
        "lens.row_gradients(lens.saturation(model, batch))",
        "row-gradients",
    ),
    Exhibit(
        "Film strip", "The same while the model was trained, every 25 steps.", "lens.saturation_strip(film)", "film"
    ),
    Exhibit(
        "Mask laboratory",
        "What depends on what, from one backward pass and bit by bit. In the future there is exactly 0.",
        "lens.dependency_matrices(lens.dependency(model, src, tgt), source=source, target=target)",
        "dependency",
    ),
    Exhibit(
        "Mask laboratory, with a leak",
        "The mask of one layer is taken away. The leak is found, followed, and named.",
        "with lens.with_mask(model, 'decoder.layers.0.self_attn', lambda mask: np.ones_like(mask)):\n"
        "    found = lens.dependency(model, src, tgt)\n"
        "lens.dependency_matrices(found, source=source, target=target)",
        "leak",
    ),
    Exhibit(
        "Mask laboratory, the leak in words",
        "",
        "with lens.with_mask(model, 'decoder.layers.0.self_attn', lambda mask: np.ones_like(mask)):\n"
        "    found = lens.dependency(model, src, tgt)\n"
        "found",
        "leak-in-words",
    ),
    Exhibit(
        "Attention",
        "What the decoder looks at in the source.",
        "lens.attention_grid(model, src, tgt, kind='cross', source=source, target=target)",
        "attention",
    ),
    Exhibit(
        "Attention, one head",
        "",
        "lens.attention_head(model, 'decoder.layers.1.cross_attn.0', src, tgt, source=source, target=target)",
        "attention-head",
    ),
    Exhibit(
        "Where NaN comes from",
        "A value is broken on purpose; the first that is not finite is named, with its arguments and its line.",
        "with mg.record(model) as broken, nn.patch(model, {'decoder.layers.0.ffn': lambda x: (x - x).log() * x}):\n"
        "    loss().backward()\n"
        "broken.first_nonfinite()",
        "nonfinite",
    ),
    Exhibit(
        "Compare",
        "Two recordings, step by step: by how many powers of ten the gradients differ. Here with scores that are not "
        "scaled.",
        "with lens.sharpen(model, 4.0), mg.record(model, detail='definition') as sharp:\n"
        "    loss().backward()\n"
        "mg.compare(fine, sharp)",
        "compare",
    ),
    Exhibit("Profile", "Where the time went, with bytes and operations.", "rec.profile()", "profile"),
    Exhibit("Loss", "The training of the model that all this is about.", "lens.loss_curves(history)", "loss"),
]
NORMS = "{'post-norm': post, 'pre-norm': pre}"
ON_DEEP_ONES = [
    Exhibit(
        "Six layers, pre-norm beside post-norm",
        "Two translators of 6 + 6 layers, trained by the same recipe until 99.9 % of the held-out sentences are right, "
        "or for as many steps as there is patience for.",
        "trained",
        "deep-trained",
    ),
    Exhibit(
        "Six layers, pre-norm beside post-norm: residual ledger",
        "Where the norm stands after the sum, it is on the way of the identity, too.",
        f"draw.residual_ledger({NORMS})",
        "deep-residuals",
    ),
    Exhibit(
        "Six layers: paths",
        "Past the branches or through them, to the embedding of the source.",
        "draw.path_shares({'post-norm': post_paths, 'pre-norm': pre_paths}, 'src_embed.weight')",
        "deep-paths",
    ),
    Exhibit("Six layers: gradient flow", "", f"draw.gradient_flow({NORMS})", "deep-flow"),
    *[
        Exhibit(
            f"Six layers: saturation, {norm}-norm",
            "",
            f"lens.saturation_strip(lens.saturation({norm}_model, batch))",
            f"deep-saturation-{norm}",
        )
        for norm in ("post", "pre")
    ],
    Exhibit("Six layers: the graph", "Identical layers are folded.", "mg.graph(post, level='sublayer')", "deep-graph"),
    Exhibit(
        "Twelve layers, post-norm, no warm-up: where the gradient dies",
        "The same model before the first step, and after some at the full learning rate.",
        "draw.gradient_flow(dying)",
        "dying-flow",
    ),
    Exhibit(
        "Twelve layers, post-norm, no warm-up: the graph",
        "After these steps. Pale boxes and thin arrows are where hardly any gradient comes.",
        "mg.graph(list(dying.values())[-1], level='layer', fold=False)",
        "dying-graph",
    ),
    Exhibit(
        "Twelve layers, post-norm, no warm-up: what changed",
        "",
        "mg.compare(*list(dying.values())[:: len(dying) - 1]).modules(3)",
        "dying-compare",
    ),
]


def build(folder: Path, quick: bool = False) -> Path:
    """Train the models, run every exhibit, and write the page."""
    folder.mkdir(parents=True, exist_ok=True)
    film = lens.Film()
    trainer = train(50 if quick else 3000, film)
    batch = some(trainer)
    names = names_of(trainer) | {"batch": batch, "film": film, "history": trainer.history}
    sections = [draw.exhibit(each, names, folder) for each in ON_THE_TRANSLATOR]

    deep: dict[str, Any] = {"num_encoder_layers": 6, "num_decoder_layers": 6}
    post, pre = (train(10 if quick else 3000, norm_first=first, **deep) for first in (False, True))
    names["trained"] = f"post-norm: {result(post)}\npre-norm:  {result(pre)}"
    names |= {"post": seen(post), "pre": seen(pre), "post_paths": paths(post), "pre_paths": paths(pre)}
    names |= {"post_model": post.translator.model, "pre_model": pre.translator.model}
    very_deep: dict[str, Any] = {"num_encoder_layers": 12, "num_decoder_layers": 12}
    steps = (0, 2, 5) if quick else (0, 10, 50)
    names["dying"] = {f"after {n} steps": seen(train(n, warm_up=False, **very_deep)) for n in steps}
    sections += [draw.exhibit(each, names, folder) for each in ON_DEEP_ONES]
    lead = (
        f"Each line of Python on this page was run, and what is under it is what it gave: on a translator of numbers, "
        f"{trainer.steps_taken} steps of training, {trainer.translator.model.num_parameters()['total']:,} parameters, "
        f"and on deeper ones further down. The sentence is: {SENTENCE}."
    )
    return draw.save_page(folder / "index.html", "The instruments", lead, sections)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/instruments"))
    parser.add_argument("--quick", action="store_true", help="train less: to see that it works, not what it shows")
    arguments = parser.parse_args()
    print(build(arguments.out, arguments.quick))
