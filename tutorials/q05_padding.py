# %% [markdown]
# # Question 5. How is padding masked?
#
# Sentences of a batch have different lengths, an array has one. So the short ones are filled up with a token that
# means nothing, **padding**. Attention must not look there. It gives every **key** (a place that may be looked at) a
# score $s_j$, and a softmax turns the scores of one **query** (the place that looks) into a row of weights
# $p_j = e^{s_j} / \sum_l e^{s_l}$: how much of each key's **value** the query takes home. A **mask** says
# which keys count.
#
# **The usual answer:** "Add $-10^9$ to the scores of padding before the softmax; then its weights become 0."
#
# **Predict.** Four keys with the scores 2, 1, 0, -1, all four of them padding. Add $-10^9$ to each. What are the four
# weights? Write them down, once for numbers of 32 bits (`float32`) and once for 64 bits (`float64`).
#
# ## The smallest code
# Two ways to fill (add a number, or replace the score by it), two numbers ($-10^9$ and $-\infty$), three precisions.

# %%
from contextlib import nullcontext

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from minitransformer import lens
from minitransformer.batching import pad
from tutorials.lesson import claim, fast, show

SEEDS = range(fast(5, 3))
DTYPES = (np.float16, np.float32, np.float64)
FILLS = (("add", -1e9), ("replace", -1e9), ("add", -np.inf), ("replace", -np.inf))


def filled(scores, padding, how, number, dtype):
    """The softmax of a row (S,) in which the scores of padding (S,), boolean, are filled."""
    with np.errstate(all="ignore"):  # -1e9 is more than 16 bits can hold, it becomes -inf; -inf - -inf is NaN
        s, number = scores.astype(dtype), dtype(number)
        s = np.where(padding, s + number if how == "add" else number, s)
        e = np.exp(s - s.max())
        return e / e.sum()


for padding in ([False, False, True, True], [True] * 4):
    print("padding:", padding, "in 16, 32 and 64 bits")
    for how, number in FILLS:
        rows = [filled(np.array([2.0, 1, 0, -1]), np.array(padding), how, number, dtype) for dtype in DTYPES]
        print(f"  {how:8}{number:8.0e}  ", "   ".join(str(row.round(2)) for row in rows))

# %% [markdown]
# With two real keys, all twelve ways agree. Now the row in which *every* key is padding.
#
# ## See it
# The bars are the weights of the four keys; grey outlines are the weights without any mask. You predicted the first
# line. The last one, the only one that gives 0, is explained below.

# %%
scores, nowhere = np.array([2.0, 1, 0, -1]), np.ones(4, bool)
unmasked = filled(scores, ~nowhere, "add", 0.0, np.float64)
table = {f"{how} {number:.0e}": [filled(scores, nowhere, how, number, d) for d in DTYPES] for how, number in FILLS}
table["boolean mask"] = [mg.ops.masked_softmax(scores.astype(dtype), ~nowhere) for dtype in DTYPES]
with draw.figure(7.5, 5.2, axes_grid=False) as fig:
    for line, (name, rows) in zip(fig.subplots(5, 3, sharex=True, sharey=True), table.items()):
        for axes, row, dtype in zip(line, rows, DTYPES):
            axes.bar(range(4), unmasked, color="none", edgecolor=draw.GREY, lw=0.8)
            axes.bar(range(4), np.nan_to_num(row), color=draw.BLUE, width=0.6)
            kind = "NaN" if np.isnan(row).any() else "all 0" if not row.any() else "all equal"
            kind = "as if not masked" if np.allclose(row, unmasked, atol=1e-6) else kind
            axes.text(3.5, 0.85, kind, ha="right", va="top", color=draw.GREEN if kind == "all 0" else draw.VERMILLION)
            axes.set(ylim=(0, 1), xticks=[], yticks=[0, 1])
            if line[0].get_subplotspec().is_first_row():
                axes.set_title(np.dtype(dtype).name)
        line[0].set_ylabel(name.replace("inf", "$\\infty$"), rotation=0, ha="right", va="center")
show(draw.Plot(fig, {name: np.array(rows, float) for name, rows in table.items()}), "q05-fill")

# %% [markdown]
# Why? A softmax is computed as $e^{s_j - m} / \sum_l e^{s_l - m}$, with $m$ the largest score: the same number, and no
# power is too large. So it feels only *differences* of scores. A `float32` has 24 binary digits. Around $10^9$ its
# neighbours are 64 apart: $2 - 10^9$ and $-1 - 10^9$ are the same number, and all weights are equal. A `float64` has 53
# digits, enough to hold $2 - 10^9$ nearly exactly. The differences are still there: **the mask has no effect at all**.
# In 16 bits $-10^9$ is $-\infty$, and $-\infty - (-\infty)$ is not a number (NaN).
#
# Does a row without keys ever occur? Yes: an empty sentence that fills up a batch, or padding on the *left* together
# with a mask that hides all later places.

# %%
heavy, sums, same = [], [], []
for seed in SEEDS:
    s, some = 3 * np.random.default_rng(seed).standard_normal(8), np.arange(8) >= 5
    every = np.ones(8, bool)
    heavy.append(max(filled(s, some, "add", -1e9, dtype)[some].max() for dtype in DTYPES))
    sums.append(min(filled(s, every, "add", -1e9, dtype).sum() for dtype in DTYPES[1:]))
    same.append(abs(filled(s, every, "add", -1e9, np.float64) - filled(s, ~every, "add", 0, np.float64)).max())
claim(
    "q05.1", "Adding -1e9 makes the weights of padding 0", "largest weight of padding beside real keys", heavy, "== 0",
    "SUPPORTED", usual=True,
)  # fmt: skip

# %%
claim(
    "q05.2", "Adding -1e9 makes the weights of padding 0, in every row", "their sum, if all is padding", sums, "== 0",
    "REFUTED", reason="A softmax feels differences of scores only.", usual=True,
)  # fmt: skip

# %%
claim("q05.3", "In float64, adding -1e9 to a whole row masks nothing", "largest change", same, "< 1e-5", "SUPPORTED")

# %% [markdown]
# ## Measure: is $-\infty$ better?
# Nobody overlooks a NaN, at least. But see what it does to training. An attention has four matrices: $W_Q$, $W_K$ and
# $W_V$ make queries, keys and values, $W_O$ makes its output. Of two sentences the second is empty, and the loss asks
# about the first only. `nn.patch` replaces scores by hand; a mask is the library's way.


# %%
def finite_share(fill, seed):
    """Which share of the parameters has a finite gradient, with a batch of which the second sentence is empty."""
    mg.manual_seed(seed)
    attention, x = mt.MultiHeadAttention(d_model=16, nhead=2), mg.randn(2, 5, 16)
    real = np.array([[True] * 5, [False] * 5])[:, None, None, :]  # (B, 1, 1, S)
    if fill is None:
        out = attention(x, x, x, real)
    else:
        with nn.patch(attention, {"scores": lambda scores: scores.masked_fill(~real, fill)}):
            out = attention(x, x, x)
    (out[0] * mg.randn(5, 16)).sum().backward()
    return float(np.mean(np.concatenate([np.isfinite(p.grad.numpy()).ravel() for p in attention.parameters()])))


shares = {fill: [finite_share(fill, seed) for seed in SEEDS] for fill in (-np.inf, -1e9, None)}
print({"boolean mask" if fill is None else fill: round(np.mean(values).item(), 2) for fill, values in shares.items()})
claim(
    "q05.4", "-inf is safe: only the empty sentence is lost", "share of parameters with a finite gradient",
    shares[-np.inf], "== 1", "REFUTED",
    reason="The gradient at the empty sentence is 0, but 0 times NaN is NaN, and W_V and W_O sum over all sentences.",
)  # fmt: skip

# %% [markdown]
# What works everywhere is not a number but a choice: compute $e^{s_j}$ for the keys that the mask allows, and let a row
# without any be 0, with gradient 0. So `masked_softmax` does it here. $a_j$ is 1 where the mask allows key $j$, else 0:
#
# $$p_j = \frac{a_j\, e^{s_j}}{\sum_l a_l\, e^{s_l}}, \qquad p = 0 \ \text{ if all } a_l = 0.$$
#
# ## Where does a Transformer need it?
# The test of a padding mask needs no theory: **a sentence alone and the same sentence in a padded batch must give the
# same**, outputs and gradients. We compare a whole Transformer: an *encoder* reads the source, a *decoder* writes the
# target; each looks at itself, and the decoder at the encoder, too (**cross-attention**). The loss is summed over the
# words of the target (their negative log probability, the *cross entropy*). Then we forget one mask at a time.

# %%
LENGTHS = ((3, 4), (9, 2), (5, 8))  # of source and target
CONFIG = mt.TransformerConfig(
    src_vocab_size=20, d_model=32, nhead=4, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=64, dropout=0.0
)
PAD, NONE = CONFIG.pad_id, -100  # a label that the loss ignores: padding, or none at all
ALL, CAUSAL = np.ones_like, lambda mask: np.broadcast_to(mt.causal_mask(mask.shape[2]).data, mask.shape)
FORGOTTEN = {  # which attentions get another mask
    "encoder, on itself": ("encoder.layers.*.self_attn", ALL),
    "decoder, on the encoder": ("decoder.layers.*.cross_attn", ALL),
    "decoder, on itself": ("decoder.layers.*.self_attn", CAUSAL),  # it still hides the future
}
PLACES = ("nothing", *FORGOTTEN, "in the loss", "in the loss's mean")


def gradient(model, batches, ignored, divided_by):
    """The gradient of the cross entropy of all labels but `ignored`, summed over the batches, as one long vector."""
    model.zero_grad()
    for src, tgt, labels in batches:
        loss = mg.ops.cross_entropy(model(src, tgt), labels, ignore_index=ignored, reduction="sum")
        (loss / divided_by).backward()
    return np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])


def errors(place, seed):
    """How far outputs and gradient of a padded batch are from those of its sentences alone, relative to these."""
    mg.manual_seed(seed)
    rng, model = np.random.default_rng(seed), mt.Transformer(CONFIG).double().eval()
    sentences = [[rng.integers(3, 20, n) for n in (s, t, t)] for s, t in LENGTHS]  # source, target so far, labels
    alone, batch = [[part[None] for part in each] for each in sentences], [pad(part) for part in zip(*sentences)]
    real = sum(labels.size for *_, labels in sentences)
    outputs, truth = [model(src, tgt).data[0] for src, tgt, _ in alone], gradient(model, alone, PAD, real)
    with lens.with_mask(model, *FORGOTTEN[place]) if place in FORGOTTEN else nullcontext():
        logits = model(*batch[:2]).data
        divided_by = batch[2].size if place == "in the loss's mean" else real
        found = gradient(model, [batch], NONE if place == "in the loss" else PAD, divided_by)
    worst = max(abs(y[: len(x)] - x).max() / abs(x).max() for x, y in zip(outputs, logits))
    return worst, np.linalg.norm(found - truth) / np.linalg.norm(truth)


measured = {place: [errors(place, seed) for seed in SEEDS] for place in PLACES}
with draw.figure(8, 3.2) as fig:
    axes = fig.subplots()
    for column, (what, colour, hatch) in enumerate((("outputs", draw.BLUE, ""), ("gradient", draw.ORANGE, "////"))):
        means = np.mean([[each[column] for each in values] for values in measured.values()], axis=1).clip(1e-17)
        places = np.arange(len(PLACES)) + 0.4 * column - 0.2
        axes.barh(places, means, 0.38, left=1e-17, color=colour, hatch=hatch, label=what)
    axes.set(xscale="log", xlim=(1e-17, 2), xlabel="relative difference to the sentences alone; 1e-16 is rounding")
    axes.set_yticks(range(len(PLACES)), [f"forgotten: {place}" for place in PLACES])
    axes.invert_yaxis()
    axes.legend(loc="upper right")
show(draw.Plot(fig, {place: np.mean(values, axis=0) for place, values in measured.items()}), "q05-forgotten")

# %%
[
    claim(
        f"q05.{number}", statement, f"relative difference, forgotten: {place}",
        [max(each) for each in measured[place]], "< 1e-12", verdict,
    )
    for number, place, statement, verdict in (
        (5, "nothing", "Masked everywhere, a sentence gives the same alone and in a batch", "SUPPORTED"),
        (6, "decoder, on the encoder", "It is enough to mask where the encoder looks at itself", "REFUTED"),
        (7, "in the loss", "It is enough to mask attention", "REFUTED"),
        (8, "decoder, on itself", "The decoder's mask of the future hides padding behind the text, too", "SUPPORTED"),
    )
]  # fmt: skip

# %% [markdown]
# The decoder needs no padding mask on itself, if padding stands *behind* the text: a real query never sees the future,
# and all padding is in its future. Cross-attention does need one: its keys are the *source*.
#
# The last bar is a mean over all places instead of the real ones. Its gradient has the right direction, but a length
# that depends on how much padding happens to be in the batch.
#
# Last, the strictest test. Put anything into the padding: not even the last bit of an answer may change.

# %%
changed = []
for seed in SEEDS:
    mg.manual_seed(seed)
    model, answers = mt.Transformer(CONFIG).eval(), []
    for noise in (0.0, 1e3):
        model.src_embed.weight.data[PAD] = model.tgt_embed.weight.data[PAD] = noise
        answers.append(model([[5, 6, 7, PAD, PAD]], [[8, 9, PAD]]).data[0, :2])
    changed.append(np.count_nonzero(answers[0] != answers[1]))
claim(
    "q05.9", "What stands at padding changes nothing, bit for bit", "numbers of the output that change",
    changed, "== 0", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## What the usual answer gets wrong, where it is right, and when
# - **Right:** in a row with at least one real key, adding $-10^9$ does what it should, in every precision.
# - **Wrong:** in a row without real keys it masks nothing in `float64`, spreads evenly in `float32`, and is NaN in
#   `float16`. Replacing by it spreads evenly, in `float16` it is NaN; $-\infty$ always is, and spoils $W_V$ and $W_O$.
# - **Left out:** the keys of cross-attention, the loss, and what it is divided by. A padding mask is four masks.
# - **When:** if no row can be without keys, any of the ways will do. If one can, choose: a boolean mask, and 0.
#
# **Exercise.** A masked softmax and loss, in `tutorials/exercises/q05.py`: `python -m tutorials.check q05`
#
# **References.** Vaswani et al. 2017, *Attention Is All You Need*, section 3.2.3 (masks inside attention).
