# %% [markdown]
# # Question 14. The feed-forward network: what is it, and what is it for?
#
# A layer of a Transformer has two parts. Attention carries information from word to word. Then comes a small network of
# the plainest kind, the **feed-forward network** (FFN): multiply, cut off what is negative, multiply again.
#
# **The usual answer.** "It computes $\max(0, x W_1 + b_1) W_2 + b_2$. It is not shared across positions. It has no
# context: it sees one position only. It has many parameters."
#
# $x$ is the vector of a word, $(D)$; $W_1$ $(D, F)$ and $W_2$ $(F, D)$ are learnt, as are $b_1$ $(F)$ and $b_2$ $(D)$.
# $F$ is usually $4D$. The $F$ numbers in between are called **hidden units**, and $\max(0, \cdot)$, or ReLU, is the
# **activation**. $T$ is the number of words in a text.
#
# **Predict.** We draw a random table with 8 x 8 entries. A model reads random words (there are 8), and at each place
# $i$ it must say the entry in the row of word $i-1$ and the column of word $i-3$. It has one layer of attention with
# two **heads** (two looks at the text, side by side), and **no** FFN. Guessing is right in 0.125 of all cases. How
# often is this model right after 400 steps of training? And with *four* heads, of half the size, so that there is not a
# parameter more? Write down two numbers.
#
# ## See it: the same network at every place
# A text of ten words, three different ones, without positions. Below are the hidden units at each place.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from tutorials.lesson import claim, fast, show
from tutorials.toys import NOTHING, Reader, accuracy, small, train

SEEDS = range(fast(5, 3))
mg.manual_seed(0)
ffn = mt.FeedForward(d_model=16, dim_feedforward=24).double()
text = list("abaacbccab")
vectors = dict(zip("abc", np.random.default_rng(0).normal(size=(3, 16))))
with nn.capture(ffn, "post") as seen:  # the name of what comes out of the activation
    ffn(mg.tensor(np.array([[vectors[word] for word in text]])))
hidden = seen["post"].data[0]  # (T, F)
with draw.figure(6, 3.6, axes_grid=False) as fig:
    axes = fig.subplots()
    image = axes.imshow(hidden.T, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(text)), text)
    axes.set(title="equal words, equal columns", xlabel="word at each place", ylabel="hidden unit")
    fig.colorbar(image, ax=axes, label="after the ReLU")
show(draw.Plot(fig, {"hidden": hidden}), "q14-columns")

# %% [markdown]
# Every *a* has the same column, wherever it stands: one network slides along the text. The palest cells are zeros. For
# every word about half of the units are silent, and which half says something about the word.
#
# ## Measure: formula, sharing, context, parameters
# If each place had a network of its own, it would matter where a vector stands. So we shuffle the places, $\pi$: is
# $FFN(\pi x) = \pi \, FFN(x)$? And does the result at one place depend on the vector at another? We seed the backward
# pass with random numbers at one place only, and look at the gradients of all others.

# %%
formula, moved, leaked = [], [], []
for seed in SEEDS:
    mg.manual_seed(seed)
    rng = np.random.default_rng(seed)
    ffn = mt.FeedForward(d_model=16, dim_feedforward=64).double()
    W1, b1, W2, b2 = (p.data.T for p in ffn.parameters())  # the library keeps W_1 and W_2 as their transposes
    x = mg.tensor(rng.normal(size=(1, 12, 16)), requires_grad=True)  # (B, T, D)
    y = ffn(x)
    formula.append(np.abs(y.data - (np.maximum(0, x.data @ W1 + b1) @ W2 + b2)).max())
    order = rng.permutation(12)
    moved.append(np.abs(ffn(mg.tensor(x.data[:, order])).data - y.data[:, order]).max())
    place = int(rng.integers(12))
    (y[:, place] * mg.tensor(rng.normal(size=(1, 16)))).sum().backward()
    leaked.append(np.abs(np.delete(x.grad.data, place, axis=1)).max())
claim(
    "q14.1", "FFN(x) = max(0, x W_1 + b_1) W_2 + b_2", "largest difference from the library's", formula, "< 1e-12",
    "SUPPORTED", usual=True,
)  # fmt: skip

# %%
claim(
    "q14.2", "It is not shared across positions", "largest change of a result when the places are shuffled", moved,
    "> 1e-12", "REFUTED", usual=True, reason="one network serves all places; what differs from layer to layer is the "
    "network, not from place to place",
)  # fmt: skip

# %%
claim(
    "q14.3", "It has no context", "largest gradient at any other place", leaked, "== 0", "SUPPORTED", usual=True,
    reason="what attention has brought to a place is in the vector there; of that it makes use",
)  # fmt: skip

# %%
shares = []
for size in (16, 64, 256):
    config = small(d_model=size, dim_feedforward=4 * size, activation="relu")
    layer = mt.EncoderLayer(config)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in layer.named_children()}
    shares.append(count["ffn"] / sum(count.values()))
claim(
    "q14.4", "It has many parameters", "its share of an encoder layer, F = 4 D, for D = 16, 64, 256", shares, "> 0.5",
    "SUPPORTED", seeds=[16, 64, 256], over="sizes", usual=True,
    reason="8 D^2 beside 4 D^2 of the attention, however long the text",
)  # fmt: skip

# %% [markdown]
# ## What is it for? Take it away
# The table is random, so there is nothing to understand in it, and knowing one of the two words is no help. Attention
# can *fetch* both: one head looks one place back, another three, and their results are **added**. After that the output
# layer scores each answer $y$ by $A_y(\text{word } i-1) + B_y(\text{word } i-3)$. Such sums cannot say "if this *and*
# that". How far do they get at best? We train the sum itself, without any Transformer around it.


# %%
def lookup(table, T=8, batch=32):
    """The task: table[word i-1, word i-3] at every place i; words are 1 to 8, as 0 is padding."""

    def task(rng):
        ids = rng.integers(1, 9, (batch, T))
        labels = np.full((batch, T, 1), NOTHING)
        labels[:, 3:, 0] = table[ids[:, 2:-1], ids[:, :-3]]
        return ids, labels

    return task


class Sum(nn.Module):
    """Scores of the answers as a sum of what each of the two words says by itself."""

    def __init__(self):
        super().__init__()
        self.one, self.three = nn.Embedding(9, 9), nn.Embedding(9, 9)

    def forward(self, ids):
        """From tokens (B, T) to logits (B, T, 1, V)."""
        before = np.pad(ids, ((0, 0), (3, 0)))  # (B, T + 3)
        return (self.one(before[:, 2:-1]) + self.three(before[:, :-3])).reshape(*ids.shape, 1, 9)


# %% [markdown]
# Now the models: one layer of attention with $D = 32$ and two heads; with an FFN, $F = 64$, of four kinds of activation
# (**linear** is none; GELU is a smooth ReLU; SwiGLU multiplies two linear maps); and without FFN, but with a second
# layer of attention, or with four heads in place of two.

# %%
VARIANTS = {
    "2 heads": {},
    "2 heads, linear FFN": {"activation": "relu"},  # its ReLU is taken out below
    "2 heads, ReLU FFN": {"activation": "relu"},
    "2 heads, GELU FFN": {"activation": "gelu"},
    "2 heads, SwiGLU FFN": {"activation": "swiglu"},
    "2 layers of 2 heads": {"num_encoder_layers": 2},
    "4 heads": {"nhead": 4},
}


def learn(name, seed, steps=400):
    """Train; the share of right answers, and how many parameters it took."""
    task = lookup(np.random.default_rng(seed).integers(1, 9, (9, 9)))
    mg.manual_seed(seed)
    model = Reader(small(**{"nhead": 2} | VARIANTS[name])) if name in VARIANTS else Sum()
    if "linear" in name:
        model.encoder.layers[0].ffn.activation = nn.Identity()
    train(model, task, steps, lr=3e-2 if isinstance(model, Sum) else 1e-2, seed=seed)
    return accuracy(model, task)[0], sum(p.numel() for p in model.parameters())


right, size = {}, {}
for name in ("sum of two words", *VARIANTS):
    right[name], (size[name], *_) = zip(*[learn(name, seed) for seed in SEEDS])

# %%
with draw.figure(7, 3.2) as fig:
    axes = fig.subplots()
    for row, (name, values) in enumerate(right.items()):
        colour = draw.GREEN if "FFN" in name and "linear" not in name else draw.BLUE
        axes.barh(row, np.mean(values), color=colour if row else draw.GREY, alpha=0.5)
        axes.plot(values, [row] * len(values), "o", ms=4, color="black")
    axes.axvline(1 / 8, color=draw.VERMILLION, ls=":")
    axes.set_yticks(range(len(right)), [f"{name} ({size[name]:,} parameters)" for name in right], fontsize=draw.SMALL)
    axes.set(
        xlabel="right answers; a dot is a seed", xlim=(0, 1.03), title="a random table of two words (dotted: guessing)"
    )
    axes.invert_yaxis()
show(draw.Plot(fig, {name: np.array(values) for name, values in right.items()}), "q14-table")

# %%
claim(
    "q14.5", "In 400 steps, attention that fetches both words learns to look up a pair", "right answers, two heads",
    right["2 heads"], "> 0.97", "REFUTED", reason="it gets not much further than a sum of what each word says",
)  # fmt: skip

# %%
claim(
    "q14.6", "In 400 steps, with a feed-forward network it does", "right answers, two heads and ReLU",
    right["2 heads, ReLU FFN"], "> 0.97", "SUPPORTED",
)  # fmt: skip

# %%
claim(
    "q14.7", "In 400 steps, as many parameters without an activation do as well", "right answers, two heads and an FFN "
    "without activation", right["2 heads, linear FFN"], "> 0.97", "REFUTED",
)  # fmt: skip

# %%
claim(
    "q14.8", "Only a feed-forward network can do it", "mistakes without one, with two layers",
    [1 - value for value in right["2 layers of 2 heads"]], "> 0.25", "REFUTED",
)  # fmt: skip

# %%
claim(
    "q14.9", "In one layer, only a feed-forward network can do it", "mistakes without one, with four heads",
    [1 - value for value in right["4 heads"]], "> 0.25", "REFUTED",
    reason="the softmax is an activation, too: see below",
)  # fmt: skip

# %% [markdown]
# ## Four heads, no FFN, and yet
# Your two numbers: about 0.8 with two heads, and nearly 1 with four. Their parameters are equally many. Where does the
# "and" come from?
# Let a head look at *both* words, with scores $s(a)$ for the word $a$ at $i-1$ and $t(b)$ for the word $b$ at $i-3$.
# The softmax gives $a$ the weight
#
# $$\frac{e^{s(a)}}{e^{s(a)} + e^{t(b)}} = \sigma\big(s(a) - t(b)\big), \qquad \sigma(u) = \frac{1}{1 + e^{-u}}$$
#
# and that is a hidden unit: a linear map of both words, and a curve. A head is worth one; the FFN here has 64.
#
# ## What the usual answer gets wrong, where it is right, and when
# The formula is right, as are "no context" and "many parameters" (two thirds of an encoder layer; half of a decoder
# layer, which has two attentions). **"Not shared across positions" is wrong**, exactly: shuffle the places, and the
# results are shuffled. Different *layers* have different networks; perhaps that is what was meant.
#
# What the answer leaves out is what it is for: to *compute* with what attention has *fetched*. It was not the only
# thing that could: a second layer or more heads did it as well, if not with every seed. **When is it needed?** When a
# place must combine what it has by "and" and "if", in one layer, with few heads. It is the cheapest place to put hidden
# units: each costs $2D + 1$ parameters and no look at any other word.
#
# **Limits.** A table of 64 entries, and 400 steps. In large models the FFN also stores facts, as the second paper below
# argues. With more patience two heads without a curved FFN may do it, too: "not enough" means "not in this time, and
# not surely". The full run tries (a number for each seed):

# %%
for steps in fast((800, 1600), ()):
    for name in ("2 heads", "2 heads, linear FFN"):
        print(f"{name}, {steps} steps:", [round(float(learn(name, seed, steps)[0]), 2) for seed in SEEDS])

# %% [markdown]
# **Exercise.** Build, by hand, an FFN that knows a table: `python -m tutorials.check q14`
#
# **References.** A. Vaswani et al., *Attention Is All You Need* (2017), section 3.3. M. Geva, R. Schuster, J. Berant
# and O. Levy, *Transformer Feed-Forward Layers Are Key-Value Memories* (2021), section 2. N. Shazeer, *GLU Variants
# Improve Transformer* (2020), section 2. D. Hendrycks and K. Gimpel, *Gaussian Error Linear Units* (2016), section 2.
