# %% [markdown]
# # Capstone 2. Break it, and find the bug
#
# Five copies of a small Transformer are ill. In each a single line is wrong, of the kind that people really write: two
# characters, a forgotten $x$, one call too many. No copy raises an error. You will not read their code. You will find
# each mistake from outside, with an instrument that names the module, and then look at that one module only.
#
# **The task.** Write a row of up to 6 digits backwards. The encoder reads the digits, the decoder writes them. Each has
# $N = 2$ layers, vectors of $D = 32$ numbers and $H = 2$ heads, so a head has $K = 16$ numbers. Texts of different
# length share a batch of $B = 32$, and the shorter ones are filled up with padding.
#
# **The usual way.** "Look at the loss. If it falls, all is well; if it does not, read the code."
#
# **Predict.** The patients are called A to E, and the sixth model is healthy. All are trained alike. How many of the
# five will you recognise by their loss? And which number does the *most dangerous* of them show there? Write both down.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw
from minitransformer import lens
from tutorials import planted
from tutorials.lesson import claim, fast, show

STEPS, SEEDS, NAMES = 300, range(fast(4, 3)), ("healthy", "A", "B", "C", "D", "E")
PLACES = range(900, 900 + fast(12, 3))  # seeds that were not looked at when the instruments were made
losses, right = {}, {}
for name in NAMES:
    for seed in SEEDS:
        model = planted.patient(name, seed)
        losses[name, seed] = planted.train(model, STEPS, seed)
        right[name, seed] = planted.writes(model)
    print(f"{name:<8} {len(losses[name, 0]):>3} steps, loss {np.mean(losses[name, 0][-20:]):.3f}")

# %% [markdown]
# ## See it: the symptoms
# The loss is that of **teacher forcing**: the decoder reads the right digits up to a place and has to name the next.
# To *write*, it has only its own words to read. Left the one, right the other:

# %%
colours = dict(zip(NAMES, (draw.GREY, draw.BLUE, draw.ORANGE, draw.GREEN, draw.PURPLE, draw.VERMILLION)))
with draw.figure(9, 3.2) as fig:
    left, bars = fig.subplots(1, 2)
    for place, (name, style) in enumerate(zip(NAMES, ("-", "-", "--", "-.", ":", "-"))):
        curve = np.convolve(losses[name, 0], np.ones(10) / 10, "valid")  # means of ten steps
        left.plot(curve, style, color=colours[name], lw=1.8)
        last = np.flatnonzero(np.isfinite(curve))[-1]
        left.text(last + 5, curve[last], name, va="top" if name == "B" else "center", color=colours[name])
        value = np.mean([right[name, seed] for seed in SEEDS])
        bars.barh(place, value, color=colours[name])
        bars.text(value + 0.02, place, f"{value:.0%}", va="center")
    left.set(yscale="log", xlabel="step", title="loss, teacher forced", xlim=(0, STEPS * 1.2))
    bars.set_yticks(range(len(NAMES)), NAMES)
    bars.set(title="written without a mistake", xlim=(0, 1.15), ylim=(5.6, -0.6))
show(draw.Plot(fig, right), "c02-symptoms")

# %% [markdown]
# E ends early: its loss is NaN, "not a number". B, C and D learn, only worse; without the healthy one beside them you
# might say "reversing is hard" and buy a larger one. A has **the best loss of all**, 0.01, and writes nothing right.

# %%
ratio = [np.mean(losses["A", seed][-20:]) / np.mean(losses["healthy", seed][-20:]) for seed in SEEDS]
harm = [min(right["healthy", seed] - right[name, seed] for name in NAMES[1:]) for seed in SEEDS]
[
    claim("c02.1", "A falling loss says that all is well", "loss, A / healthy", ratio, "> 1", "REFUTED", usual=True),
    claim("c02.2", "Each mistake shows when the model writes", "least fall of right ones", harm, "> 0.05", "SUPPORTED"),
]

# %% [markdown]
# ## Patient A: does it know what it must not know?
# From here on nothing is trained: wiring can be examined before the first step. All instruments get 16 texts, one of
# them empty, as real files have empty lines.
#
# **Suspicion.** The loss is too good, and nothing is right without help: somewhere a place sees the digit that it is
# asked for. **Instrument**: the mask laboratory. It asks which result depends on which token, by gradients that are
# exactly 0 or not and by changing each token, and follows a leak to its first step.

# %%
src, reads, answer = planted.sentences(np.random.default_rng(0), 16, empty=0.0)
src[0], reads[0, 1:], answer[0] = 0, 0, [2] + [0] * 6  # 0 is padding, 1 begins a text, 2 ends one


def laboratory(model):
    """The modules where something leaks."""
    return [leak.crossing.module for leak in lens.dependency(model, [3, 4, 5, 6], [1, 6, 5, 4, 3]).leaks]


def recorded(model):
    """Everything that happens on the way to the loss and back, for the others."""
    with mg.record(model) as rec:
        mg.ops.cross_entropy(model(src, reads), answer, ignore_index=0).backward()
    return rec


found = lens.dependency(planted.patient("A", 0), [3, 4, 5, 6], [1, 6, 5, 4, 3])
print(found.diagnosis, "|", found.leaks[0].sentence)
show(lens.dependency_matrices(found), "c02-laboratory")

# %% [markdown]
# **Finding.** Bottom right, a band of crosses beside the diagonal: each place sees one more, the digit that it has to
# name. It happens in layer 1 of the decoder, where the file says `np.tri(T, k=1)` and should say `k=0`.
#
# ## Patient B: does every softmax still listen?
# **Suspicion.** It learns slowly and stops early. Is some softmax **saturated**, one weight near 1 and the others near
# 0, before it has learnt anything? Then hardly any gradient goes through. **Instrument**: the softmax oscilloscope. The
# entropy of a row, in parts of the largest that is possible, is 1 if it looks everywhere alike and 0 if at one place.


# %%
def oscilloscope(model):
    """The attentions of which the median row is nearly one-hot."""
    rows = lens.saturation(model, src, reads, targets=answer)
    entropies = {path: rows.values_of("normalised_entropy", path) for path in rows}
    return [path for path, values in entropies.items() if values.size and np.median(values) < 0.5]


print(oscilloscope(planted.patient("B", 0)))
rows = lens.saturation(planted.patient("B", 0), src, reads, targets=answer)
show(lens.saturation_strip(rows, ["normalised_entropy.median"]), "c02-oscilloscope")

# %% [markdown]
# **Finding.** Five attentions look around, one stares. Its scores are multiplied by $\sqrt{K} = 4$ instead of being
# divided by it: $K = 16$ times too large. (Only to forget the division is more famous. Small heads forgive that.)
#
# ## Patient C: what goes past each part?
# **Suspicion.** Again slow, but all softmaxes are well. Is a **skip** missing, the $x$ in $x + f(x)$ that lets
# information and gradients pass by a part? **Instrument**: the residual ledger, a line for every such sum, with what of
# the gradient came past $f$ and what through it. This model should have $2 \cdot 2 + 2 \cdot 3 = 10$.


# %%
def ledger(model):
    """The parts that should be skipped by a residual connection, get a gradient, and are not in the ledger."""
    rec = recorded(model)
    there = {row.step.rpartition(".")[0] for row in rec.residuals()}
    missing = [path for path, part in model.named_modules() if isinstance(part, mt.AddNorm) and path not in there]
    return [path for path in missing if any(rec.status(step) == "reached" for step in rec.find(f"{path}.*"))]


print(ledger(planted.patient("C", 0)))
show(draw.residual_ledger({name: recorded(planted.patient(name, 0)) for name in ("healthy", "C")}), "c02-ledger")

# %% [markdown]
# **Finding.** Ten lines in the healthy model, nine in C: in encoder layer 1, `norm(f(x))` for `norm(x + f(x))`.
#
# ## Patient D: where does the way back end?
# **Suspicion.** It learns something, and hits a wall. Does everything learn? **Instrument**: a recording knows for each
# step whether a gradient came. Not a gradient of 0: none at all. The *last* step without one is where the road ends.


# %%
def road(model):
    """The last step that no gradient reaches."""
    rec = recorded(model)
    return [rec.name(step) for step in rec.steps if rec.status(step) == "not reached"][-1:]


print(road(planted.patient("D", 0)))
show(draw.gradient_flow(recorded(planted.patient("D", 0))), "c02-flow")

# %% [markdown]
# **Finding.** Beyond the end of encoder layer 1 nothing arrives. The encoder stays as it was born, and the decoder
# learns to read a random code. Somebody wrote `.detach()` to save memory; the optimiser skips what has no gradient.
#
# ## Patient E: who said NaN first?
# **Suspicion.** A NaN spreads: at the end all is NaN, and the first one is what counts. **Instrument**: provenance. It
# finds the first step that made something not finite of finite arguments, with its place, its reason and its line.


# %%
def provenance(model):
    """The module in which the first value arose that is not finite."""
    origin = recorded(model).first_nonfinite()
    return [] if origin is None else [origin.path]


origin = recorded(planted.patient("E", 0)).first_nonfinite()
print(f"{origin.value} at {origin.index} in {origin.step}: {origin.reason}")

# %% [markdown]
# **Finding.** In the one empty text there is no place to look at. All scores of its rows are $-\infty$, and
# $e^{-\infty} / \sum e^{-\infty}$ is $0/0$. One empty line in 2,000 ends a training. The library's own softmax gives 0
# in such a row. (`mg.detect_anomaly(model)` would have stopped at this very step.)
#
# ## Measure: every instrument on every patient
# An instrument that always cries is worth nothing. So: all five, on all six, and the seed chooses in which layer the
# mistake sits. A hit is an alarm in the module of the mistake; other alarms are counted, too.

# %%
INSTRUMENTS = {"A": laboratory, "B": oscilloscope, "C": ledger, "D": road, "E": provenance}
hits, others = np.zeros((6, 5, len(PLACES))), np.zeros((6, 5, len(PLACES)))
for row, name in enumerate(NAMES):
    for number, seed in enumerate(PLACES):
        model, place = planted.patient(name, seed, where=seed), planted.place(name, where=seed)
        for column, instrument in enumerate(INSTRUMENTS.values()):
            alarms = [place is not None and alarm.startswith(place) for alarm in instrument(model)]
            hits[row, column, number], others[row, column, number] = sum(alarms), len(alarms) - sum(alarms)
with draw.figure(6.5, 3.2, axes_grid=False) as fig:
    axes = fig.subplots()
    axes.imshow(hits.mean(axis=2), cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    for (row, column), share in np.ndenumerate(hits.mean(axis=2)):
        false = others[row, column].mean()
        text = f"named: {share:.0%}" if share else f"elsewhere: {false:.0%}" if false else "silent"
        axes.text(column, row, text, ha="center", va="center", color="black" if share or false else draw.GREY)
    axes.set_xticks(range(5), [instrument.__name__ for instrument in INSTRUMENTS.values()])
    axes.set_yticks(range(6), NAMES)
show(draw.Plot(fig, {"hits": hits, "elsewhere": others}), "c02-table")

# %%
cards = [
    claim(
        f"c02.{number}", f"Patient {name}: the {instrument.__name__} names the module with the mistake",
        "alarms in that module", hits[number - 2, number - 3], "== 1", "SUPPORTED", seeds=PLACES,
    )
    for number, (name, instrument) in enumerate(INSTRUMENTS.items(), 3)
]  # fmt: skip
healthy = others[0].sum(axis=0)
[*cards, claim("c02.8", "The healthy model raises no alarm", "alarms", healthy, "== 0", "SUPPORTED", seeds=PLACES)]

# %% [markdown]
# Off the diagonal one field is not silent. Where the road ends *below* an encoder layer, the ledger names the sum at
# the entrance of that layer: no gradient goes to its $x$, so there is nothing to book. True, and one door too far.
#
# ## The repair
# It is one line each. A repaired patient starts from the parameters of the healthy model and gets the same batches, so
# its numbers must be the healthy ones, to the last bit. Here for E, which could not be trained:

# %%
same = []
for seed in SEEDS:
    model = planted.patient("E", seed)
    model.decoder.layers[1].cross_attn.score = mt.ScaledDotProduct(16)
    same.append(float(planted.train(model, STEPS, seed) == losses["healthy", seed]))
    print(f"E, repaired, writes {planted.writes(model):.0%} without a mistake")
claim("c02.9", "Repaired, patient E learns as the healthy model does, bit for bit", "same", same, "== 1", "SUPPORTED")

# %% [markdown]
# ## What the usual way gets wrong, where it is right, and when
# The loss is right about mistakes that make a model *worse* (B to E), if you know what it should be. It is blind for
# those that make the task *easier*, as A does, and never says where. "Read the code" comes last, for one module only.
#
# Only the oscilloscope needs a number: 0.5, halfway between one place and all alike. It was set after a look at models
# of other seeds; those of the table had no part in it. The others need none. And some mistakes have no module: if the
# loss counts padding, or the labels are not shifted, all modules are innocent.
#
# **Exercise.** A sixth patient answers the same question twice, and differently: `python -m tutorials.check c02`
#
# **References.** A. Vaswani et al., *Attention Is All You Need* (2017), sections 3.1 (skips, mask) and 3.2.1 (scaling).
