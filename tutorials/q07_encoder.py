# %% [markdown]
# # Question 7. Describe the encoder
#
# The encoder reads a text of $T$ tokens and hands on one vector of $D$ numbers for each, in which the token is seen in
# its context.
#
# **The usual answer.** "A stack of $N$ equal layers. Each has self-attention and a feed-forward network, each
# with a residual connection and a norm, $\mathrm{LayerNorm}(x + \mathrm{Sublayer}(x))$. Positions are added at the
# input."
#
# In **self-attention** each token takes a weighted mean of all tokens; several **heads** do so side by side. The
# **feed-forward network** (FFN), two linear maps with a ReLU between, works on each token alone; $F$ is the number of
# its hidden units. A **residual connection** hands on $x + f(x)$ where $f$ alone would hand on $f(x)$. **LayerNorm**
# brings the $D$ numbers of a token to mean 0 and variance 1. **Positions** are vectors that say where a token stands.
#
# **Predict.** How many layers must there be until the first token of a text of 12 knows of the last? And which part
# takes more operations, attention or FFN? Write down a number and a name.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from tutorials import toys
from tutorials.lesson import claim, fast, show

V, T, D = 8, 12, 32
SEEDS = range(fast(5, 3))


def reader(seed, N=1, **changes):
    """An encoder of N layers, two heads, whose head answers one question about every place."""
    mg.manual_seed(seed)
    settings = {"num_encoder_layers": N, "nhead": 2, "activation": "relu"}
    return toys.Reader(toys.small(V, **(settings | changes)), causal=False)


model = reader(0, N=2)
with mg.record(model) as rec:
    logits = model(np.random.default_rng(0).integers(1, V + 1, (4, T)))
    logits.backward(np.random.default_rng(0).standard_normal(logits.shape).astype(logits.dtype))

# %% [markdown]
# ## See it: two layers
# Values flow along the arrows, gradients against them. Before each part (`self_attn`, `ffn`) an arrow splits: one goes
# through the part, and one past it. That is the residual connection; in `add_norm` the two are added and normalised.
# The percentages say what share of the gradient came back on which of the two, `|g|` is a gradient's length. (A
# **gradient** says how much a result changes per unit of change here. Here it starts from random numbers at the end.)

# %%
show(mg.graph(rec, level="sublayer"), "q07-layers")

# %% [markdown]
# The same with the first layer opened to its operations and their parameters: four matrices $(D, D)$ in attention (for
# queries, keys, values and the output), two in the FFN, $(F, D)$ and $(D, F)$. Their names end in `weight`. One box is
# white: the bias of the keys gets no gradient but rounding. It adds the same to all scores of a query, and the softmax
# that makes weights of scores feels their differences only.

# %%
show(mg.graph(rec, level="layer", open=["encoder.layers.0"]), "q07-operations")

# %% [markdown]
# ## Measure: is this the formula?
# We put a layer together by hand, $y = LN(x + A(x))$ and $LN(y + FFN(y))$, and compare with the library's; then six of
# them, equal but for their numbers, one after the other.

# %%


def by_hand(layer, x):
    """What a layer is said to do to x (B, T, D)."""
    y = layer.add_norm1.norm(x + layer.self_attn(x, x, x))
    return layer.add_norm2.norm(y + layer.ffn(y))


formula, stack, without, positioned = [], [], [], []
for seed in SEEDS:
    rng = np.random.default_rng(seed)
    for found, N in ((formula, 1), (stack, 6)):
        encoder = reader(seed, N).double().eval().encoder
        x = y = mg.tensor(rng.normal(size=(2, T, D)))
        for n in range(N):
            y = by_hand(encoder.layers[n], y)
        found.append(np.abs((y - encoder(x)).data).max())
    ids, order = rng.integers(1, V + 1, (4, T)), rng.permutation(T)
    for found, scheme in ((without, "none"), (positioned, "sinusoidal")):
        model = reader(seed, N=2, positions=scheme).double().eval()
        out, moved = model(ids).data, model(ids[:, order]).data
        found.append(np.linalg.norm(moved - out[:, order]) / np.linalg.norm(out))
claim(
    "q07.1", "A layer is LayerNorm(x + Sublayer(x)), for self-attention and then for the FFN",
    "largest difference from the library's layer", formula, "< 1e-12", "SUPPORTED", usual=True,
    reason="that is the paper's order; many later models put the norm before the sublayer",
)  # fmt: skip

# %%
claim(
    "q07.2", "The encoder is a stack of N equal layers", "largest difference from N = 6 such layers by hand", stack,
    "< 1e-12", "SUPPORTED", usual=True,
)  # fmt: skip

# %% [markdown]
# ## What do positions do?
# Shuffle the tokens of a text. Without positions, the outputs are the same vectors, shuffled: the encoder is
# **equivariant**, it sees a bag of words. Attention takes means over all tokens and asks for no order. In symbols,
# $E(\pi x) = \pi E(x)$, with the encoder $E$ and each permutation $\pi$ of the places. The cards show how far this
# fails, in parts of the output's size.

# %%
claim(
    "q07.3", "Without positions an encoder does not know the order of words", "change beyond the shuffle", without,
    "< 1e-12", "SUPPORTED",
)  # fmt: skip

# %%
claim(
    "q07.4", "Positions, added at the input, tell it the order", "change beyond the shuffle, sinusoidal positions",
    positioned, "> 0.1", "SUPPORTED", usual=True,
)  # fmt: skip

# %% [markdown]
# ## How far does a token see?
# We change the last token and look which places change, in any bit, after $N$ layers; once as it is, and once with a
# **mask** by which each place looks at itself and its two neighbours only.

# %%
near = np.abs(np.subtract.outer(np.arange(T), np.arange(T))) <= 1  # (T, T)


def reached(seed, N, mask=None):
    """The share of places that the last token reaches in N layers."""
    model = reader(seed, N).double().eval()
    ids = np.random.default_rng(seed).integers(1, V, (1, T))
    other = ids.copy()
    other[0, -1] = V
    return (model(ids, mask).data != model(other, mask).data).any(axis=(0, 2, 3)).mean()


depths = range(1, 5)
masks = {"all": None, "its neighbours": near}
field = {name: [[reached(s, N, mask) for s in SEEDS] for N in depths] for name, mask in masks.items()}
claim(
    "q07.5", "It takes several layers until a place can see the whole text", "share of places reached by one layer",
    field["all"][0], "< 1", "REFUTED", reason="one is enough; with a mask of neighbours the reach grows by one a layer",
)  # fmt: skip

# %% [markdown]
# ## Are both sublayers needed?
# A task that needs both: a random table with 8 x 8 entries; at every place, say the entry in the row of this word and
# the column of the word before. Attention must fetch the word before, and the FFN look the pair up. After training we
# replace the result of one sublayer by zeros, so that only the skip $x$ is left of $x + 0$.


# %%
def lookup(table):
    """The task: table[word i, word i-1] at every place i."""

    def task(rng):
        ids, labels = toys.look_back(1, vocab=V, T=T)(rng)
        asked = labels != toys.NOTHING
        return ids, np.where(asked, table[ids[..., None], np.where(asked, labels, 0)], toys.NOTHING)

    return task


parts = {"nothing": None, "attention": "encoder.layers.0.self_attn", "FFN": "encoder.layers.0.ffn"}
right = {name: [] for name in parts}
for seed in SEEDS:
    task = lookup(np.random.default_rng(100 + seed).integers(1, V + 1, (V + 1, V + 1)))
    model = reader(seed, dim_feedforward=128)
    toys.train(model, task, fast(1500, 1000), lr=5e-3, seed=seed)
    for name, path in parts.items():
        with nn.patch(model, {path: lambda out: 0 * out} if path else {}):
            right[name].append(toys.accuracy(model, task, batches=4)[0])
with draw.figure(8, 3) as fig:
    panels = fig.subplots(1, 2)
    for (name, rows), colour, style in zip(field.items(), draw.COLOURS, ("o-", "s--")):
        panels[0].plot(depths, np.mean(rows, axis=1) * T, style, color=colour, label=f"each place sees {name}")
    panels[0].set(xlabel="layers N", ylabel="places", title="reached by the last token", ylim=(0, T + 1), xticks=depths)
    panels[0].legend(fontsize=draw.SMALL)
    means = [np.mean(rows) for rows in right.values()]
    bars = panels[1].bar(list(right), means, color=[draw.BLUE, draw.VERMILLION, draw.VERMILLION])
    panels[1].bar_label(bars, [f"{mean:.2f}" for mean in means], fontsize=draw.SMALL)
    panels[1].axhline(1 / V, color=draw.GREY, ls="--", lw=1)
    panels[1].set(title="share of right answers, if this is taken out (dashed: guessing)", ylim=(0, 1.1))
show(draw.Plot(fig, {name: np.array(values) for name, values in right.items()}), "q07-reach")

# %%
lost = [np.subtract(right["nothing"], right[name]).tolist() for name in ("attention", "FFN")]
claim(
    "q07.6", "A trained layer uses both its self-attention and its FFN", "accuracy lost without the less needed one",
    np.minimum(*lost).tolist(), "> 0.2", "SUPPORTED", usual=True,
)  # fmt: skip

# %% [markdown]
# Whether a model trained without one of them would find another way is another question: with two layers of attention,
# for example, some such tasks are learnt without any FFN.
#
# ## What does each part cost?
# Parameters: with $F = 4D$ attention has about $4D^2$ and the FFN $8D^2$. Operations, a multiplication with its
# addition as 2: every parameter of a matrix meets each of $T$ tokens once, which makes $8TD^2$ for attention and
# $16TD^2$ for the FFN. In attention come $T^2$ scores, each the product of two vectors, and as many products with
# values: $4T^2D$. So the answer to the second prediction depends on the length of the text. The two are equal where
# $4T^2D = 8TD^2$, at $T = 2D$.

# %%
costs = {}
for length in (16, 512):
    encoder = mt.Encoder(toys.small(V, activation="relu", nhead=2, dim_feedforward=4 * D))
    with mg.record(encoder) as rec:
        encoder(mg.randn(1, length, D))
    flops = {row.name: row.flops for row in rec.profile(by="module", depth=3)}
    costs[length] = flops["layers.0.self_attn"] / flops["layers.0.ffn"]
counts = {name: sum(p.numel() for p in part.parameters()) for name, part in encoder.layers[0].named_children()}
print("parameters", counts)
print("operations, attention / FFN, by length:", {length: round(ratio, 2) for length, ratio in costs.items()})
claim(
    "q07.7", "Most operations of a layer are those of attention", "attention / FFN, D = 32, T = 16 and 512",
    list(costs.values()), "> 1", "NOT SETTLED", seeds=list(costs), over="lengths",
    reason="it depends: only for texts longer than 2 D",
)  # fmt: skip

# %% [markdown]
# **What the usual answer gets wrong, where it is right, and when.** It is right about the paper's encoder. Today the
# norm often comes first, $x + \mathrm{Sublayer}(\mathrm{LayerNorm}(x))$, and positions often enter in the scores of
# attention instead of at the input. What it leaves out: without positions the encoder sees a bag of words; one layer
# already sees the whole text, so depth is not for reach; and only attention moves anything between places.
#
# **Exercise.** A layer by hand, and its reach: `python -m tutorials.check q07`
#
# **References.** A. Vaswani et al., *Attention Is All You Need* (2017), sections 3.1 to 3.5. R. Xiong et al., *On Layer
# Normalization in the Transformer Architecture* (2020).
