# %% [markdown]
# # Question 12. Why LayerNorm and not BatchNorm, and where does it stand?
#
# A Transformer hands vectors of $D$ numbers from layer to layer, one for each of $T$ tokens in each of $B$ sentences of
# a batch. Nothing keeps their size in bounds, so every layer has **norms**: steps that shift and stretch numbers to
# mean 0 and mean square 1. The two best known differ in *which numbers belong together*: LayerNorm takes the $D$
# numbers of one token, BatchNorm takes one number (one **feature**) of all tokens in the batch.
#
# **The usual answer.** "Sentences have different lengths, so padding gets into the statistics of a batch; and the
# statistics of a batch are unstable. LayerNorm does not depend on the batch."
#
# **Predict.** A decoder with 2 layers, in training. Its **mask** is right: attention looks at no later token. We change
# the *last* token of a sentence. By how much do outputs at *earlier* places change, at most, with LayerNorm? With
# BatchNorm, one sentence in the batch? With 64 in the batch? Write down three numbers; the outputs are of size 1.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw
from tutorials import toys
from tutorials.lesson import claim, fast, show

V = 8  # words, numbered from 1; 0 is padding


def model(norm="layer", seed=0, N=2, **changes):
    """A small decoder: it predicts the next word. In training mode."""
    mg.manual_seed(seed)
    settings = {"d_model": 16, "nhead": 2, "num_decoder_layers": N, "dim_feedforward": 32, "dropout": 0.0}
    return mt.LanguageModel(mt.TransformerConfig(src_vocab_size=V + 1, norm=norm, **(settings | changes))).double()


# %% [markdown]
# ## See it
# Three sentences of four tokens, the last filled up with padding. Marked: numbers that share mean and mean square.

# %%
with draw.figure(7, 4, axes_grid=False) as fig:
    for axes, name in zip(fig.subplots(1, 2, sharey=True), ("LayerNorm", "BatchNorm")):
        shade = np.full((12, 6, 3), 0.93)
        shade[(4, slice(None)) if name == "LayerNorm" else (slice(None), 2)] = (0.34, 0.71, 0.91)
        axes.imshow(shade, aspect="auto")
        for row, column in np.ndindex(12, 6):
            axes.text(column, row, "pad" if row > 9 else ".", ha="center", va="center", fontsize=draw.SMALL)
        axes.hlines([3.5, 7.5], -0.5, 5.5, color="black", lw=1)
        axes.set(title=f"{name}: one {'token' if name == 'LayerNorm' else 'feature of all tokens'}", xlabel="feature")
        axes.set(yticks=range(12), yticklabels=[f"sentence {b}, token {t}" for b in range(3) for t in range(4)])
show(draw.Plot(fig, {"LayerNorm": "6 numbers of a token", "BatchNorm": "12 numbers, 2 of them padding"}), "q12-sets")

# %% [markdown]
# ## What a norm does, forwards and backwards
# For one set of $n$ numbers $x_i$ (with LayerNorm $n = D$, with BatchNorm $n = B\,T$):
#
# $$\mu = \frac1n \sum_i x_i, \quad \sigma^2 = \frac1n \sum_i (x_i - \mu)^2, \quad
#   \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \quad y_i = w\, \hat x_i + b$$
#
# with a small $\varepsilon$ against division by 0; $w$ and $b$ are learnt, a pair for each feature. RMSNorm leaves out
# $\mu$ and $b$, and divides a token by $\sqrt{\frac1n \sum_i x_i^2 + \varepsilon}$. Both do the same in training and in
# use. BatchNorm keeps running means of $\mu$ and $\sigma^2$ in training, and takes these in use: no batch any more.
# Let $L$ be the loss, and $g_i = w\, \partial L / \partial y_i$ its gradient by $\hat x_i$. Every $x_i$ acts on its own
# result, and through $\mu$ and $\sigma$ on all: three terms. (With $\varepsilon = 0$, so that
# $\partial \mu / \partial x_i = 1/n$ and $\partial \sigma / \partial x_i = \hat x_i / n$.)
#
# $$\frac{\partial L}{\partial x_i} = \frac1\sigma \Big( g_i - \frac1n \sum_j g_j
#   - \hat x_i\, \frac1n \sum_j g_j \hat x_j \Big)$$
#
# The gradient loses what would shift or stretch the whole set: that has no effect. And every number gets a share of the
# gradient of *every other* in its set. In BatchNorm these belong to later tokens, other sentences, and padding.
#
# ## Measure: three ways in which a batch gets in
# How much do the outputs of a sentence change with what must not matter: a *later* token of its own, the *others* in
# the batch, *padding* behind it?


# %%
def change(B, what, seed, T=10, **changes):
    """The largest change of what a model says about the first T - 1 places of the first sentence."""
    rng = np.random.default_rng(seed)
    made, ids = model(seed=seed, **changes), rng.integers(1, V + 1, (B, T))
    other = ids.copy()
    if what == "later":
        other[0, -1] = other[0, -1] % V + 1
    elif what == "others":
        other[1:] = rng.integers(1, V + 1, (B - 1, T))
    else:
        other = np.pad(ids, ((0, 0), (0, T)))
    return abs(made(ids).data - made(other).data[:, :T])[0, :-1].max()


seeds, batches = range(fast(10, 3)), (1, 2, 8, 64)
norms = {"LayerNorm": {}, "RMSNorm": {"norm": "rms"}, "BatchNorm": {"norm": "batch", "batch_norm_padding": True}}
norms["BatchNorm, told what is padding"] = {"norm": "batch"}
whats, found = {"later": "a later token", "others": "the other sentences", "padding": "padding behind it"}, {}
for name, what in ((name, what) for name in norms for what in whats):
    found[name, what] = np.array([[change(B, what, seed, **norms[name]) for seed in seeds] for B in batches])
with draw.figure(8, 3) as fig:
    for axes, what in zip(fig.subplots(1, 3, sharey=True), whats):
        for name, colour, marker in zip(norms, (draw.BLUE, draw.SKY, draw.VERMILLION, draw.ORANGE), "oPs^"):
            size = found[name, what].mean(axis=1)
            axes.plot(batches, size, color=colour, marker=marker, ms=5, ls="--" if marker == "^" else "-", label=name)
        axes.set(xscale="log", xticks=batches, xticklabels=batches, xlabel="sentences B", title=whats[what])
        axes.set_yscale("symlog", linthresh=1e-3)
        axes.minorticks_off()
    fig.axes[0].set_ylabel("change of what must not change")
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize=draw.SMALL)
show(draw.Plot(fig, {f"{name}: {what}": rows.mean(axis=1) for (name, what), rows in found.items()}), "q12-changes")

# %%
[
    claim("q12.1", "The statistics of a batch are unstable: what a model says depends on the other sentences",
          "BatchNorm, change by 7 other sentences", found["BatchNorm", "others"][2], "> 0.05", "SUPPORTED", usual=True),
    claim("q12.2", "Lengths vary, and padding gets into the statistics of a batch", "BatchNorm, B = 8, change by it",
          found["BatchNorm", "padding"][2], "> 0.05", "SUPPORTED", usual=True, reason="as long as the norm is not told "
          "what is padding; told, it counts words only, and the change is below 1e-12"),
    claim("q12.3", "LayerNorm does not depend on the batch", "largest change by later token, other sentences, padding",
          [max(found["LayerNorm", what][:, seed].max() for what in whats) for seed in seeds], "< 1e-12",
          "SUPPORTED", usual=True),
]  # fmt: skip

# %% [markdown]
# Padding can be mended: tell the norm which places are words (dashed). The left picture the usual answer forgets. The
# mask is right, and yet an earlier place knows of a later token, through the mean. **In training BatchNorm breaks the
# mask.** With more sentences the leak falls, about as $1/B$: from nearly 1 for one sentence to 0.01 for 64.

# %%
claim(
    "q12.4", "BatchNorm in training lets the future through a correct mask", "change by a later token, B = 64",
    found["BatchNorm", "later"][3], "> 0.001", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## Does a model use the leak? Ask it to predict dice
# Every word is thrown with a die of 8 sides. No model can predict the next one: the best possible loss, on average, is
# $\ln 8 = 2.079$. A loss below that is a proof of cheating.


# %%
def dice(rng):
    """Twelve random words, (1, 12), and as labels the next ones."""
    ids = rng.integers(1, V + 1, (1, 13))
    return ids[:, :-1], ids[:, 1:, None]


def loss_of(made):
    """The mean loss over 60 new sentences, one by one, in the mode in which the model is."""
    rng = np.random.default_rng(9)
    pairs = [dice(rng) for _ in range(60)]
    return np.mean([mg.ops.cross_entropy(made(i).flatten(0, -2), labels.reshape(-1)).item() for i, labels in pairs])


cheating = {"layer": [], "batch": []}
for norm, losses in cheating.items():
    for seed in range(fast(5, 3)):
        made = model(norm, seed, d_model=32, dim_feedforward=64).float()
        toys.train(made, dice, fast(800, 300), lr=5e-3, seed=seed)
        losses.append((loss_of(made.train()), loss_of(made.eval())))
    print(norm, "in training {:.3f}, then in use {:.3f}".format(*np.mean(losses, axis=0)))
in_training, in_use = np.transpose(cheating["batch"])
[
    claim("q12.5", "A model with BatchNorm learns to use the leak (one sentence a batch)", "loss in training - ln 8",
          in_training - np.log(V), "< 0", "SUPPORTED"),
    claim("q12.6", "In use, without the leak, it does at least as well as guessing", "loss in use - ln 8",
          in_use - np.log(V), "<= 0", "REFUTED"),
]  # fmt: skip

# %% [markdown]
# In training it beats the dice. In use, with remembered means, the leak is closed, and it does worse than guessing.
#
# ## Where does the norm stand?
# **Post-norm**, the paper: $y = \mathrm{norm}(x + f(x))$. **Pre-norm**: $y = x + f(\mathrm{norm}(x))$, and one norm at
# the end. In pre-norm $x$ passes by untouched and grows with depth, so that what a later layer adds counts less. Left:
# gradients of the second matrix $W_2$ of the feed-forward network (FFN), at the start. Right: training ("which word
# stood one place before?") with and without **warm-up**, a learning rate that begins near 0 and grows.

# %%
N, task = 12, toys.look_back(1, vocab=V, batch=16)


def deep(first, seed, N):
    """N layers, with pre-norm if `first`, else post-norm."""
    return model(seed=seed, N=N, norm_first=first, d_model=32, dim_feedforward=128).float()


def profile(first, seed, factor=1.0):
    """The norm of the gradient of W_2 in every layer, all matrices of the layers begun `factor` times as large."""
    made, (ids, labels) = deep(first, seed, N), task(np.random.default_rng(seed))
    for matrix in [p for p in made.decoder.layers.parameters() if p.ndim == 2]:
        matrix.data[:] *= factor
    mg.ops.cross_entropy(made(ids).flatten(0, -2), labels.reshape(-1), ignore_index=toys.NOTHING).backward()
    return [np.linalg.norm(layer.ffn.linear2.weight.grad.data) for layer in made.decoder.layers]


profiles = {first: np.array([profile(first, seed) for seed in seeds]) for first in (False, True)}
curves = {}
for first, warmup in ((False, 1), (False, 60), (True, 1), (True, 60)):
    runs = [(deep(first, seed, 8), task, fast(220, 120), seed) for seed in range(fast(4, 3))]
    curves[first, warmup] = np.array([toys.train(*run[:3], lr=1e-2, warmup=warmup, seed=run[3]) for run in runs])
with draw.figure(8, 3) as fig:
    left, right = fig.subplots(1, 2)
    for first, name, colour in ((False, "post-norm", draw.VERMILLION), (True, "pre-norm", draw.BLUE)):
        rows = profiles[first]
        left.errorbar(range(N), rows.mean(0), rows.std(0), color=colour, marker="os"[first], capsize=2, label=name)
        for warmup, style, label in ((1, "--", "no warm-up"), (60, "-", "warm-up")):
            right.plot(curves[first, warmup].mean(axis=0), color=colour, ls=style, label=f"{name}, {label}")
    left.set(title=f"gradient of $W_2$ at the start, N = {N}", xlabel="layer", ylim=(0, None))
    right.set(title="loss, N = 8, learning rate 0.01", xlabel="step", ylim=(0, 3))
    left.legend(fontsize=draw.SMALL)
    right.legend(fontsize=draw.SMALL)
show(draw.Plot(fig, {"post": profiles[False].mean(axis=0), "pre": profiles[True].mean(axis=0)}), "q12-where")

# %%
claim(
    "q12.7", "It does not matter where the norm stands", "loss after training, post-norm minus pre-norm, no warm-up",
    (curves[False, 1] - curves[True, 1])[:, -10:].mean(axis=1), "< 0.5", "REFUTED", reason="post-norm needs warm-up",
)  # fmt: skip

# %%
claim(
    "q12.8", "Near the output, post-norm has the larger gradients", "last layer, post-norm / pre-norm, N = 12",
    list(profiles[False][:, -1] / profiles[True][:, -1]), "> 1", "SUPPORTED",
)  # fmt: skip

# %%
last = {f: [profile(False, s, f)[-1] / profile(True, s, f)[-1] for s in seeds] for f in (2, 0.5, 0.1)}
print({f"matrices x {f}": f"{np.mean(ratios):.2f} +- {np.std(ratios, ddof=1):.2f}" for f, ratios in last.items()})
claim(
    "q12.9", "Near the output, post-norm has the larger gradients, however the weights begin", "last layer, post-norm "
    "/ pre-norm, matrices a tenth as large", last[0.1], "> 1.5", "REFUTED",
    reason="the line is half as much again; small layers add little, and x hardly grows",
)  # fmt: skip

# %% [markdown]
# The profile belongs to its start. Ours is **Xavier's**, variance 2 / (rows + columns), for which Xiong and others
# derive a ratio of about $\sqrt{N}$, here 3.5. With matrices half as large it is 1.4, a tenth 1.1, twice, about 9.
#
# **What the usual answer gets wrong, where it is right, and when.** Everything it says is true, and the main reason is
# missing. Padding can be told to BatchNorm; a large batch calms the statistics. But a decoder must not know the future,
# and a mean over places knows it. In an encoder, where places may see each other, BatchNorm is only awkward.
#
# **Exercise.** LayerNorm, forwards and backwards, by hand: `python -m tutorials.check q12`
#
# **References.** J. L. Ba, J. R. Kiros and G. E. Hinton, *Layer Normalization* (2016), section 3. S. Ioffe and C.
# Szegedy, *Batch Normalization* (2015), section 3. B. Zhang and R. Sennrich, *Root Mean Square Layer Normalization*
# (2019). R. Xiong et al., *On Layer Normalization in the Transformer Architecture* (2020), section 3.
