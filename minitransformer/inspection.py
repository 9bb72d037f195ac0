"""What all instruments show of one sentence: a folder of pictures and tables, and a page that opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import draw
from minigrad.draw import Exhibit

from . import lens
from .batching import pad
from .decoding import evaluating, greedy
from .evaluate import Translator
from .lens.oscilloscope import left_as_it_was
from .vocab import BOS, EOS, PAD

INDEX = "index.html"
LONGEST = 256  # tokens of a sentence and its translation: `dependency` runs it once for each of them
GRAPH = (
    "Forwards along the arrows, backwards against them. Each box says how large its result is and how large the "
    "gradient that comes to it; each arrow how much of the gradient at its tail comes from its head."
)
LEVELS = {
    "model": ("rec", "the parts of the model"),
    "layer": ("rec", "its layers"),
    "sublayer": ("rec", "what layers consist of"),
    "op": ("fine", "every operation"),
    "primitive": ("fine", "every operation as its definition"),
}
EXHIBITS = (
    Exhibit(
        "Gradient flow",
        "How large the gradient is from layer to layer: of the parameters (median and range), and of what the layer "
        "returns.",
        "draw.gradient_flow(rec)",
        "gradient-flow",
    ),
    Exhibit(
        "Residual ledger",
        "Around every residual connection y = x + f(x) the gradient of x has two parts: what came past f as it is, and "
        "what came through f.",
        "draw.residual_ledger(rec)",
        "residuals",
    ),
    Exhibit("Residual ledger, in numbers", "", "rec.residuals()", "residual-ledger"),
    Exhibit(
        "Paths",
        "The gradient of the embedding of the source, by the number of residual branches that it came through.",
        "draw.path_shares({'exactly': mg.trace.crossing_shares(loss(), embedding)}, 'the embedding')",
        "paths",
    ),
    Exhibit(
        "Softmax: saturation",
        "The share of the rows of each head that let through less than a thousandth of their gradient, and how near to "
        "uniform they are.",
        "lens.saturation_strip(lens.saturation(model, src, tgt, targets=labels))",
        "saturation",
    ),
    Exhibit(
        "Softmax: gradients of the rows",
        "What arrives at the scores of each row, sorted: mean and median tell different stories.",
        "lens.row_gradients(lens.saturation(model, src, tgt, targets=labels))",
        "row-gradients",
    ),
    Exhibit(
        "Dependency",
        "Which results depend on which tokens: by a gradient that is not exactly 0, and by changing the token and "
        "comparing bit for bit. A leak would be a result that sees what it must not.",
        "lens.dependency_matrices(lens.dependency(model, src, tgt, labels=labels), source, target)",
        "dependency",
    ),
    Exhibit("Dependency, in words", "", "lens.dependency(model, src, tgt, labels=labels)", "dependency-report"),
    *[
        Exhibit(
            f"Attention: {title}",
            "Each row is a query, each column a key, darker is more; what a mask has cut is hatched.",
            f"lens.attention_grid(model, src, tgt, kind={kind!r}, source=source, target=target)",
            f"attention-{kind}",
        )
        for kind, title in (("encoder", "encoder"), ("decoder", "decoder"), ("cross", "decoder to encoder"))
    ],
    Exhibit(
        "Gradient ledger",
        "Every edge of the graph with the norm of the gradient that went along it, and its signed share of all that "
        "arrived there. The largest norms first; the file has all.",
        "rec.ledger().sort('norm')",
        "ledger",
    ),
    *[Exhibit(f"Profile by {by}", "", f"rec.profile(by={by!r})", f"profile-{by}") for by in ("op", "module", "kernel")],
)


def inspect(translator: Translator, text: str, folder: Path, target: str | None = None) -> dict[str, Any]:
    """Look at a model while it translates a normalised text, with every instrument, and write what they show.

    The loss is the cross entropy of `target`, or of the model's own translation, in evaluation mode. Into `folder` go
    pictures (.svg), graphs of every level (also .dot, .json, .mmd, .txt), tables (.csv), time lines (trace.json for
    Perfetto, speedscope.json), and a page, index.html. Gradients of parameters stay as they were.

    Returns the path of the page, the translation and the loss.
    Raises ValueError for an empty text, and for one that has, with its translation, more than 256 tokens.
    """
    model = translator.model
    src = pad([[*translator.source.encode(text), EOS]])  # (1, S)
    if src.shape[1] < 2:
        raise ValueError("inspect(): the text is empty. Give words.")
    written = greedy(model, src)  # (1, T)
    translation = translator.target.decode(written[0])
    labels = written if target is None else pad([[*translator.target.encode(target), EOS]])
    if src.size + labels.size > LONGEST:
        raise ValueError(
            f"inspect(): the text and its translation have {src.size} and {labels.size} tokens; they may have {LONGEST}"
            " together. Give a shorter text."
        )
    tgt = np.concatenate([[[BOS]], labels[:, :-1]], axis=1)  # what the decoder reads
    source = [*translator.source.tokeniser.split(text), translator.source.tokens[EOS]]
    recordings = {detail: record(model, src, tgt, labels, detail) for detail in ("op", "definition")}
    rec, loss = recordings["op"]

    def again() -> mg.Tensor:
        return loss_of(model, src, tgt, labels)

    names = {
        "mg": mg,
        "draw": draw,
        "lens": lens,
        "model": model,
        "src": src,
        "tgt": tgt,
        "labels": labels,
        "source": source,
        "target": [translator.target.tokens[i] for i in tgt[0]],
        "rec": rec,
        "fine": recordings["definition"][0],
        "loss": again,
        "embedding": next(model.parameters()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    graphs = [
        Exhibit(f"Graph: {what}", GRAPH, f"mg.graph({recording}, level={level!r})", f"graph-{level}")
        for level, (recording, what) in LEVELS.items()
    ]
    sections = [draw.exhibit(each, names, folder) for each in (*graphs, *EXHIBITS)]
    rec.save_trace(folder / "trace.json")
    rec.save_speedscope(folder / "speedscope.json")
    lead = (
        f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters. It reads: {text}\n\n"
        f"It writes: {translation}\n\nThe loss is the mean cross entropy of "
        f"{'what it wrote' if target is None else repr(target)}: {loss:.4f} nats per token. "
        "Time lines: trace.json (for Perfetto), speedscope.json."
    )
    page = draw.save_page(folder / INDEX, f"Inside a translation: {text}", lead, sections)
    return {"page": page, "translation": translation, "loss": loss}


def record(model: Any, src: np.ndarray, tgt: np.ndarray, labels: np.ndarray, detail: str) -> tuple[Any, float]:
    """Record the loss of the labels and its way back, in evaluation mode: the recording and the loss."""
    with left_as_it_was(model), mg.record(model, detail=detail) as rec:
        loss = loss_of(model, src, tgt, labels)
        loss.backward()
    return rec, loss.item()


def loss_of(model: Any, src: np.ndarray, tgt: np.ndarray, labels: np.ndarray) -> mg.Tensor:
    """The cross entropy of the labels, with its graph, in evaluation mode."""
    with evaluating(model), mg.enable_grad():
        return mg.ops.cross_entropy(model(src, tgt), labels, ignore_index=PAD)
