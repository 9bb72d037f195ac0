# %% [markdown]
# # Question 6. Why are the vectors of a head made smaller?
#
# In **attention** every place of a text asks all places by a **query**, and they answer by **keys**. A softmax turns
# the products of the two, the **scores**, into weights, by which each one's **value** is taken home. **Multi-head**
# attention does that $H$ times side by side. The vectors between the layers have $D$ numbers, those inside a head $K$,
# and nearly always $K = D / H$. Why not $K = D$?
#
# **The usual answer:** "There are fewer parameters. The cost is quadratic in the dimension, so smaller vectors are
# cheaper. And the model becomes more robust."
#
# **Predict.** One head of 64 numbers is cut into 64 heads of one number each. By how much does the number of
# multiplications go down? And: there are 16 keys, and each of 16 queries must score its own key above all others. How
# many numbers must a query have?
#
# ## Cost: the smallest code
# We record every step of an attention, taken apart into single operations, and count: a multiplication with the
# addition after it is 2. Nothing is timed: the numbers are exact. $B$ texts of $T$ places, $D = 64$. **See it:**

# %%
from timeit import repeat

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw
from minitransformer import lens
from tutorials import toys
from tutorials.lesson import claim, fast, show

SEEDS = range(fast(5, 3))
B, T, D = 2, 32, 64


def cost(heads, head_dim):
    """Parameters of an attention, operations of its matrix products, and of everything else."""
    attention, x = mt.MultiHeadAttention(D, heads, head_dim=head_dim), mg.randn(B, T, D)
    with mg.record(attention, detail="definition") as rec:
        attention(x, x, x)
    products = sum(step.flops for step in rec.steps if step.kind == "matmul")
    others = sum(step.flops for step in rec.steps if step.kind not in ("matmul", "leaf"))
    return sum(p.numel() for p in attention.parameters()), products, others


HEADS = (1, 2, 4, 8, 16, 32, 64)
cut = {H: cost(H, D // H) for H in HEADS}  # D numbers, cut into H heads
whole = {H: cost(H, D) for H in HEADS}  # H heads of D numbers each

# %%
lines = {"products, K = D / H": [cut[H][1] for H in HEADS], "products, K = D": [whole[H][1] for H in HEADS]}
lines["all else, K = D / H"] = [cut[H][2] for H in HEADS]
with draw.figure(6, 3) as fig:
    axes = fig.subplots()
    for (label, values), colour, look in zip(lines.items(), draw.COLOURS, ("o-", "s--", "^:")):
        axes.plot(HEADS, values, look, color=colour, label=label)
    axes.set(xscale="log", yscale="log", xlabel="heads H", ylabel="operations")
    axes.set_xticks(HEADS, HEADS)
    axes.legend()
show(draw.Plot(fig, {"heads": HEADS} | lines), "q06-cost")

# %% [markdown]
# The blue line is flat. The four matrices of an attention lead from $D$ to $H K$ numbers, three times, and back:
#
# $$\underbrace{4 \cdot 2 \, B T D \cdot H K}_{\text{matrices}} \;+\; \underbrace{2 \cdot 2 \, B T^2 \cdot H K}_{
# \text{scores, and sums of values}}$$
#
# operations. Only the product $H K$ occurs. Cut $D$ into 64 heads or into one: $H K = D$, and the number is the same.
# What the cut avoids is the dashed line. The green one, the softmax and its like, has $H$ rows of scores for each place
# and *rises* with the number of heads.

# %%
tried = {"seeds": [2, 8, 32], "over": "numbers of heads"}
[
    claim("q06.1", "Smaller heads: fewer parameters than as many heads of full size", "parameters, K = D over D / H",
          [whole[H][0] / cut[H][0] for H in tried["seeds"]], "> 1.5", "SUPPORTED", usual=True, **tried,
          reason="This is what K = D / H is for: H heads at the price of one."),
    claim("q06.2", "Smaller heads: fewer parameters than one head of full size", "parameters of 1 head less those of H",
          [cut[1][0] - cut[H][0] for H in tried["seeds"]], "> 0", "REFUTED", usual=True, **tried),
    claim("q06.3", "More and smaller heads are cheaper than one", "operations in products, 1 head less H",
          [cut[1][1] - cut[H][1] for H in tried["seeds"]], "> 0", "REFUTED", usual=True, **tried,
          reason="Equal, to the last operation; the softmax becomes dearer."),
]  # fmt: skip

# %%
doubled = [np.log2(cost(8, 2 * K)[1] / cost(8, K)[1]) for K in (4, 8, 16)]
claim(
    "q06.4", "The cost is quadratic in the dimension of a head", "exponent of K in the operations of products, "
    "K = 4, 8, 16", doubled, "> 1.5", "REFUTED", seeds=[4, 8, 16], over="sizes", usual=True,
    reason="Linear. Quadratic it is in D, through the matrices, if all of H K = D grows.",
)  # fmt: skip


# %% [markdown]
# And on the clock? Times depend on the machine and its other work, so there is no card for them. Where this was
# written, 64 heads took six to nine times as long as one: it is the softmax, and products too thin for the processor.

# %%
x = mg.randn(B, 4 * T, D)
for layer in [mt.MultiHeadAttention(D, H) for H in (1, 8, 64)]:
    seconds = min(repeat(lambda layer=layer: layer(x, x, x), number=1, repeat=8))
    print(f"{layer.nhead} x {layer.head_dim}: {1000 * seconds:.1f} ms")

# %% [markdown]
# ## Measure: how small is too small?
# Do smaller heads cost something? A score is the product of two vectors of $K$ numbers, so the table of all scores has
# **rank** at most $K$: all its rows are mixtures of $K$ rows. We train 16 queries and 16 keys directly, for two tasks.
#
# **One key**: query $i$ must score key $i$ highest. **Half of the keys**: each query must score 8 keys, drawn at
# random, above the 8 others.
#
# **Recall** is the share of the wanted keys that are among the highest 1, or 8. Between layers nothing is exact, so we
# also look at recall with noise on the keys, 0.3 of their own size.

# %%
N, SIZES = 16, (1, 2, 3, 4, 8, 16)


def recall(m, K):
    """Recall of m out of N keys by vectors of K numbers, (seeds,): as trained, and with noise on the keys."""
    rng = np.random.default_rng(m)
    order = rng.permuted(np.tile(np.arange(N), (len(SEEDS), N, 1)), axis=-1)
    wanted = (order < m) if m > 1 else np.tile(np.eye(N), (len(SEEDS), 1, 1))  # (seeds, N, N)
    q, k = (mg.tensor(rng.normal(size=(len(SEEDS), N, K)), requires_grad=True) for _ in range(2))
    optimizer = mg.optim.Adam([q, k], lr=0.05)
    for _ in range(400):
        log_p = mg.ops.log_softmax(q @ k.mT / np.sqrt(K), dim=-1)
        optimizer.zero_grad()
        (-(log_p * mg.tensor(wanted / m)).sum() / N).backward()
        optimizer.step()
    size = 0.3 * np.sqrt((k.data**2).mean()) * np.append(0, np.ones(100))  # of the noise: first none
    keys = k.data + size[:, None, None, None] * rng.normal(size=(101, *k.shape))
    best = np.argsort(-(q.data @ keys.swapaxes(-1, -2)), axis=-1)[..., :m]  # (101, seeds, N, m)
    shares = np.take_along_axis(wanted[None], best, axis=-1).mean(axis=(2, 3))
    return shares[0], shares[1:].mean(axis=0)


one, half = ({K: recall(m, K) for K in SIZES} for m in (1, 8))
lines = {
    f"{name} of 16{noise}": np.mean([found[K][i] for K in SIZES], axis=1)
    for name, found in (("one key", one), ("8 keys", half))
    for i, noise in enumerate(("", ", with noise"))
}
with draw.figure(6, 3) as fig:
    axes = fig.subplots()
    for (label, values), colour, look in zip(lines.items(), draw.COLOURS, ("o-", "s--", "^-.", "D:")):
        axes.plot(SIZES, values, look, color=colour, label=label)
    axes.set(xlabel="numbers in a query, K", ylabel="recall", ylim=(0, 1.05), xticks=SIZES)
    axes.legend(loc="lower right")
show(draw.Plot(fig, {"K": SIZES} | lines), "q06-recall")

# %% [markdown]
# With one number, $q k_j$ is highest for the largest key or, if $q$ is negative, for the smallest: two keys of 16 can
# be found, 0.125. With **two**, all can: lay the keys on a circle, and let each query point to its own. But neighbours
# on the circle are near, and a little noise confuses them. And a pattern of many keys needs many numbers.

# %%
[
    claim(f"q06.{number}", statement, statistic, values, "> 0.97", verdict)
    for number, statement, statistic, values, verdict in (
        (5, "One number is enough to find one key of 16", "recall, K = 1", one[1][0], "REFUTED"),
        (6, "Two numbers are enough to find one key of 16", "recall, K = 2", one[2][0], "SUPPORTED"),
        (7, "Two are enough, even with inexact keys", "recall with noise, K = 2", one[2][1], "REFUTED"),
        (8, "With 8 numbers keys may be inexact", "recall with noise, K = 8", one[8][1], "SUPPORTED"),
        (9, "Four numbers are enough for any half of 16 keys", "recall of 8, K = 4", half[4][0], "REFUTED"),
        (10, "16 numbers are enough for any half of 16 keys", "recall of 8, K = 16", half[16][0], "SUPPORTED"),
    )
]

# %% [markdown]
# ## Measure: robustness
# We train one layer of attention to say which token stood three places before (**one** lookup), or one *and* three
# before (**two**), of 8 tokens. Then each head in turn takes home nothing, and we keep the worst result.

# %%
MODELS = {
    "1 x 32, one lookup": (1, 32, (3,)),
    "8 x 4, one lookup": (8, 4, (3,)),
    "8 x 32, one lookup": (8, 32, (3,)),
    "2 x 16, two lookups": (2, 16, (1, 3)),
    "8 x 4, two lookups": (8, 4, (1, 3)),
}
kept = {}
for name, (heads, head_dim, offsets) in MODELS.items():
    task = toys.look_back(*offsets, T=12)
    kept[name] = []
    for seed in SEEDS:
        mg.manual_seed(seed)
        reader = toys.Reader(toys.small(nhead=heads, head_dim=head_dim), questions=len(offsets))
        toys.train(reader, task, steps=400, lr=0.01, seed=seed)
        right = [toys.accuracy(reader, task, batches=2).min()]
        for head in range(heads):
            with lens.ablate(reader, f"encoder.layers.0.self_attn.{head}"):
                right.append(toys.accuracy(reader, task, batches=2).min())
        kept[name].append((right[0], min(right[1:])))
with draw.figure(6.5, 2.6) as fig:
    axes = fig.subplots()
    for row, pairs in enumerate(kept.values()):
        for side, colour, marker, label in ((0, draw.GREY, "o", "whole"), (1, draw.VERMILLION, "D", "a head lost")):
            y = [row + 0.2 * side - 0.1] * len(pairs)
            axes.plot([p[side] for p in pairs], y, marker, color=colour, ms=5, label=None if row else label)
    axes.axvline(1 / 8, color=draw.GREY, ls=":")
    axes.set_yticks(range(len(kept)), list(kept))
    axes.set(xlabel="right answers (worse question); a mark is a seed; dotted: guessing", xlim=(0, 1.05))
    axes.invert_yaxis()
    axes.legend(loc="center", bbox_to_anchor=(0.4, 0.7))
show(draw.Plot(fig, {name: np.mean(pairs, axis=0).round(2) for name, pairs in kept.items()}), "q06-robust")

# %%
lost = {name: np.array([after for _, after in pairs]) for name, pairs in kept.items()}
[
    claim(
        f"q06.{number}", statement, f"right, best head lost, {name}", lost[name], "> 0.9", verdict, usual=number < 13,
    )
    for number, statement, name, verdict in (
        (11, "Several small heads are robust: one may be lost (heads to spare)", "8 x 4, one lookup", "SUPPORTED"),
        (12, "Several small heads are robust: one may be lost (none to spare)", "2 x 16, two lookups", "REFUTED"),
        (13, "One large head may be lost", "1 x 32, one lookup", "REFUTED"),
    )
]  # fmt: skip

# %%
claim(
    "q06.14", "It is the small size that makes robust", "right, best head lost, 8 x 4 less 8 x 32",
    lost["8 x 4, one lookup"] - lost["8 x 32, one lookup"], "> 0.1", "REFUTED", usual=True,
    reason="It is the number of heads: those of full size are as robust.",
)  # fmt: skip

# %% [markdown]
# ## What the usual answer gets wrong, where it is right, and when
# - **Fewer parameters, cheaper:** right beside $H$ heads of full size, $H$ times as dear. Wrong beside one head: all is
#   equal. $K = D / H$ is a **budget**: many patterns at the price of one.
# - **Quadratic:** not in $K$. Linear, and only $H K$ counts.
# - **Robust:** where heads are to spare, however large they are. Eight heads shrug off a loss with one lookup to do;
#   with two, a quarter of the answers goes, or more; two heads have none to spare.
# - **When is a head too small?** For pointing at one of 16 places $K = 2$ would do, if nothing were noisy; 8 are safe.
#   For a random half of them 4 are too few, and 8 enough unless noisy. (`head_dim` sets $K$ apart from $D / H$.) We
#   tried no more than sixteen keys, one layer, and vectors that were free to lie where they liked.
#
# **Exercise.** Count the cost, and put $n$ keys on a circle: `python -m tutorials.check q06`
#
# **References.** Vaswani et al. 2017, *Attention Is All You Need*, section 3.2.2. Bhojanapalli et al. 2020, *Low-Rank
# Bottleneck in Multi-head Attention Models*: head sizes below the length of the text.
