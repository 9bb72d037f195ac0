# %% [markdown]
# # Question 1. Why several heads and not one?
#
# A Transformer holds a vector $x$ of $D$ numbers for every place of a text. In **attention** the places look at each
# other. Three matrices, which are learnt, make three vectors of each $x$: a **query**, what the place looks for; a
# **key**, what it can be found by; a **value**, what it has to give. A place takes the dot products of its query with
# all keys. A softmax makes **weights** of them, positive and with the sum 1, and the place takes home the mean of all
# values by these weights.
#
# **Multi-head** attention does that $H$ times side by side. Each head has matrices of its own, and its queries, keys
# and values have $K = D / H$ numbers. What the heads take home is put side by side, and a last matrix mixes it.
#
# **The usual answer:** "Different heads capture different dependencies. They give the model more capacity. It
# generalises better. And heads run in parallel."
#
# **Predict.** A layer of attention shall say, at each place, which **token** (a word, say) stood *one* place before and
# which *three* places before; there are 8 different ones. With two heads of 16 it gets both right. How often is *one*
# head of 32 right, for either question? And one head of 64, with twice the parameters in its attention? Write down four
# numbers.
#
# ## The smallest code
# `toys.Reader` is an **embedding** ($x$ is the sum of two learnt vectors, for the token and for the place), one layer
# of attention in the wrapping that it has in every Transformer (added to its input $x$: the **residual connection**;
# then normalised to mean 0 and variance 1), and a linear map to the answers. A **feed-forward network** (FFN: two
# linear maps, and between them all that is negative set to 0) follows only where we say so. `toys.look_back(1, 3)`
# makes random texts and the answers.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw
from minitransformer import lens
from tutorials import toys
from tutorials.lesson import claim, fast, show

SEEDS = range(fast(5, 3))
OFFSETS, T = (1, 3), 12  # how far to look back; places in a text
LAYERS = {
    "1 x 32": {"nhead": 1},
    "1 x 64": {"nhead": 1, "head_dim": 64},
    "2 x 16": {"nhead": 2},
    "4 x 8": {"nhead": 4},
    "8 x 4": {"nhead": 8},
    "1 x 32\nand FFN": {"nhead": 1, "activation": "relu"},
}


def trained(seed, offsets, steps, lr, **changes):
    """A reader that was trained to look back, and how often each of its answers is right on new texts."""
    mg.manual_seed(seed)
    reader, task = toys.Reader(toys.small(**changes), questions=len(offsets)), toys.look_back(*offsets, T=T)
    toys.train(reader, task, steps=steps, lr=lr, seed=seed)
    return reader, toys.accuracy(reader, task)


found = {(name, seed): trained(seed, OFFSETS, 500, 0.01, **LAYERS[name]) for name in LAYERS for seed in SEEDS}
right = {name: np.array([found[name, seed][1] for seed in SEEDS]) for name in LAYERS}  # (seeds, 2)

# %% [markdown]
# ## See it
# Each mark is a model trained from another start.

# %%
with draw.figure(7.5, 3) as fig:
    axes = fig.subplots()
    for question, (k, colour, marker) in enumerate(zip(OFFSETS, draw.COLOURS, draw.MARKERS)):
        for place, shares in enumerate(right.values()):
            label = f"{k} back" if place == 0 else None
            x = place + 0.24 * question - 0.12 + 0.02 * (np.arange(len(SEEDS)) - 1)
            axes.plot(x, shares[:, question], marker, color=colour, ms=5, label=label)
    axes.axhline(1 / 8, color=draw.GREY, ls="--", lw=1)
    axes.text(5.45, 0.14, "guessing", ha="right", va="bottom", color=draw.GREY)
    axes.set(ylabel="share of right answers", ylim=(0, 1.05), xlabel="heads x size of each")
    axes.set_xticks(range(len(LAYERS)), LAYERS)
    axes.legend(loc="center right", title="the token")
show(draw.Plot(fig, {name.replace("\n", " "): shares.mean(axis=0) for name, shares in right.items()}), "q01-accuracy")

# %% [markdown]
# One head finds the token one place before, always, and guesses the other. Twice the size does not help. Two heads, of
# the same size together, get both right. What do they look at? A row of these maps is a place that looks, a column one
# that is looked at; hatched is the future, which is **masked**: nobody may look there.

# %%
two, text = found["2 x 16", 0][0], toys.look_back(*OFFSETS, T=T)(np.random.default_rng(7))[0][:1]
show(lens.attention_grid(two, text, source=range(T)), "q01-two-heads")


# %%
def weight_at(reader, k):
    """The mean weight of the place k before, in the head that looks there most."""
    ids = toys.look_back(*OFFSETS, T=T)(np.random.default_rng(7))[0]
    return max(float(p.diagonal(-k, 1, 2).mean()) for p in lens.patterns(reader, ids).values())


apart = [min(weight_at(found["2 x 16", seed][0], k) for k in OFFSETS) for seed in SEEDS]
claim(
    "q01.1", "Different heads capture different dependencies", "weight of a head at its place, the worse of the two",
    apart, "> 0.6", "SUPPORTED", usual=True, reason="Above 1/2 for both, so they are not the same head.",
)  # fmt: skip

# %%
[
    claim(f"q01.{number}", statement, "right answers, worse question", right[name].min(axis=1), "> 0.95", verdict)
    for number, name, statement, verdict in (
        (2, "2 x 16", "Two heads answer both questions", "SUPPORTED"),
        (3, "1 x 32", "One head answers both questions", "REFUTED"),
        (4, "1 x 64", "One head answers both questions if it is twice as large", "REFUTED"),
        (5, "1 x 32\nand FFN", "One head answers both, if a feed-forward network follows", "SUPPORTED"),
    )
]

# %% [markdown]
# ## Why one head cannot
# One head has one row of weights. Say it looks by places, as the maps above: it puts $\alpha$ on the token $a$ one
# place before and $\beta < \alpha$ on the token $b$ three places before, whatever they are. It takes home
# $z = \alpha v_a + \beta v_b$, where $v_a$ is the value of token $a$. A linear map turns $z$ into a score for every
# answer $c$: $\alpha f(c, a) + \beta f(c, b)$, with some table $f$. (What the residual connection adds is the same in
# all texts below, and drops out of the sums. The normalisation we leave out.) The second question wants the answer $b$,
# always. Let $a$ and $b$ be two tokens that differ:
#
# - text $a, a$: answer $a$ must beat $b$, so $f(a, a) > f(b, a)$. In the same way $f(b, b) > f(a, b)$.
# - text $a, b$: answer $b$ must beat $a$, so $\alpha f(b, a) + \beta f(b, b) > \alpha f(a, a) + \beta f(a, b)$.
# - text $b, a$: the same with $a$ and $b$ exchanged.
#
# Add the last two: $(\alpha - \beta)\,[f(a, b) + f(b, a)] > (\alpha - \beta)\,[f(a, a) + f(b, b)]$. The first line says
# the opposite. So from one mixture a linear map can read the heavier token, never the lighter one, **however large the
# head is** (and neither, if $\alpha = \beta$: then $a, b$ and $b, a$ look the same). A second set of weights is
# missing.
#
# A feed-forward network is not linear. It can learn "the token of which there is less", and then one head is enough:
# the last column of the picture. How far does that go? Four questions, 1, 3, 5 and 7 back, and D = 64.

# %%
FOUR = {"1 x 64 and FFN": {"nhead": 1, "activation": "relu", "dim_feedforward": 128}, "8 x 8": {"nhead": 8}}
four = {
    name: np.array([trained(seed, (1, 3, 5, 7), 800, 0.005, d_model=64, **FOUR[name])[1] for seed in SEEDS])
    for name in FOUR
}
print({name: shares.mean(axis=0).round(2) for name, shares in four.items()})
claim(
    "q01.6", "With a feed-forward network one head answers four questions", "right answers, worst question",
    four["1 x 64 and FFN"].min(axis=1), "> 0.9", "REFUTED", reason="Eight heads without a network do.",
)  # fmt: skip

# %% [markdown]
# ## Measure: capacity, parallelism, generalisation
# Parameters are counted. Parallel is what need not wait for each other: we record every step of an attention, forwards,
# and look for the longest chain of steps of which each needs the one before.


# %%
def chain(heads):
    """Parameters of an attention with so many heads, and its longest chain of steps down to single operations."""
    attention, x = mt.MultiHeadAttention(d_model=64, nhead=heads), mg.randn(2, T, 64)
    with mg.record(attention, detail="definition") as rec:
        attention(x, x, x)
    return sum(p.data.size for p in attention.parameters()), toys.critical_path(rec)


chains = {heads: chain(heads) for heads in (1, 2, 8, 32)}
print({f"{heads} heads": f"{size} parameters, chain of {longest}" for heads, (size, longest) in chains.items()})
claim(
    "q01.7", "Several heads give more capacity: parameters", "parameters of 8 heads, less those of 1",
    [chains[8][0] - chains[1][0]], "> 0", "REFUTED", over="", usual=True,
    reason="The same D x D matrices, cut into pieces. Nor is size what one head lacks: card 4.",
)  # fmt: skip

# %%
claim(
    "q01.8", "Several heads run in parallel: less has to wait", "longest chain, 1 head less 8",
    [chains[1][1] - chains[8][1]], "> 0", "REFUTED", over="", usual=True,
    reason="They do not wait for each other, true; but one head of full size has no longer way to go.",
)  # fmt: skip

# %% [markdown]
# To generalise is to be right on texts never seen. It can only be compared where both can do the task: **one** lookup,
# three back, learnt from a few fixed texts. How are models with 1, 2 and 8 heads on new ones?

# %%
SIZES = fast((8, 16, 24, 40, 80), (16, 40))  # texts to learn from


def few(n, seed):
    """The task of which always the same n texts are shown."""
    batch = toys.look_back(3, T=T, batch=n)(np.random.default_rng(500 + seed))
    return lambda rng: batch


new = {}
for n in SIZES:
    for heads in (1, 2, 8):
        for seed in SEEDS:
            mg.manual_seed(seed)
            reader = toys.Reader(toys.small(nhead=heads))
            toys.train(reader, few(n, seed), steps=200, lr=0.01, seed=seed)
            new[heads, n, seed] = float(toys.accuracy(reader, toys.look_back(3, T=T))[0])
means = {heads: np.mean([[new[heads, n, seed] for n in SIZES] for seed in SEEDS], axis=0) for heads in (1, 2, 8)}
with draw.figure(5, 2.8) as fig:
    axes = fig.subplots()
    for heads, colour, look in zip((1, 2, 8), draw.COLOURS, ("o-", "s--", "^:")):
        axes.plot(SIZES, means[heads], look, color=colour, label=f"{heads} x {32 // heads}")
    axes.set(xlabel="texts that were learnt from", ylabel="right on new texts", ylim=(0, 1.05), xticks=SIZES)
    axes.legend(title="heads x size")
show(draw.Plot(fig, {"texts": SIZES} | means), "q01-generalisation")

# %%
claim(
    "q01.9", "Several heads generalise better", "one lookup, right on new texts after 16, 8 heads less 1 head",
    [new[8, 16, seed] - new[1, 16, seed] for seed in SEEDS], "> 0", "REFUTED", usual=True,
    reason="One lookup is all it needs. Heads to spare are ways to learn by heart.",
)  # fmt: skip

# %% [markdown]
# ## What the usual answer gets wrong, where it is right, and when
# - **Right:** heads look at different places, and it is that which counts. More heads are more *sets of weights at the
#   same time*, not more parameters, nor more speed.
# - **Wrong:** "capacity" and "parallel" hold for one large head as well. "Generalises better" depends: where one lookup
#   is enough, more heads do worse on new texts.
# - **When:** as soon as a place needs several things at once. A feed-forward network can make up for a missing head,
#   since a mixture can be taken apart by something that is not linear; not for many. (We did not try two layers.)
#
# **Exercise.** Write multi-head attention: `tutorials/exercises/q01.py`, then `python -m tutorials.check q01`.
#
# **References.** Vaswani et al. 2017, *Attention Is All You Need*, section 3.2.2. Michel, Levy and Neubig 2019, *Are
# Sixteen Heads Really Better than One?*: many heads of trained models can be removed.
