# %% [markdown]
# # Question 8. Why multiply the embeddings by $\sqrt{D}$?
#
# An **embedding** is a table with a vector of $D$ numbers for every word. It is what a Transformer knows of a word at
# first. The paper multiplies this vector by $\sqrt{D}$, in half a sentence, and gives no reason. Then it adds a vector
# for the place of the word, made of sines and cosines.
#
# **The usual answer.** "It prevents attention scores from becoming too large. It is for numerical stability."
#
# **Predict.** The numbers of the table are drawn with standard deviation $1/\sqrt{D}$ (so that a vector has a length of
# about 1). With $D = 512$ the factor is 22.6. Attention compares two places by a **score**, the product of two vectors,
# a query and a key, each made from such a sum of word and place by a matrix. With the factor, are the scores of the
# first layer larger or smaller than without? How many times? Write down a number.
#
# ## See it: the sizes of words, places and scores
# The size of a vector here is its **RMS**, the root of the mean square of its entries. Sines and cosines come in pairs
# of one angle, and $\sin^2 + \cos^2 = 1$: so the vector of a place has RMS $\sqrt{1/2} = 0.71$, whatever $D$ is.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from tutorials.lesson import claim, fast, show
from tutorials.toys import NOTHING, accuracy, small, train

V, T = 8, 12
SEEDS = range(fast(4, 3))


def writer(seed, **changes):
    """A decoder of one layer without encoder, with sinusoidal positions: from words (B, T) to logits (B, T, V)."""
    mg.manual_seed(seed)
    settings = {"nhead": 2, "num_decoder_layers": 1, "positions": "sinusoidal", "activation": "relu"}
    return mt.LanguageModel(small(V, **settings | changes))


def rms(x):
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(x))))


def sizes(seed, D, scale):
    """RMS of word vectors over that of positions, and standard deviation of the scores of the first layer."""
    model = writer(seed, d_model=D, scale_embedding=scale)
    ids = np.random.default_rng(seed).integers(1, V + 1, (16, T))
    with nn.capture(model, "*scores", "embed.embed") as seen:
        model(ids)
    scores, words = seen["decoder.layers.0.self_attn.scores"].data, seen["embed.embed"].data
    return rms(words) / rms(mt.Sinusoidal(D).encoding(np.arange(T)).data), scores[..., np.tri(T, dtype=bool)].std()


dims = [16, 32, 128, 512]
measured = {scale: np.array([[sizes(seed, D, scale) for D in dims] for seed in SEEDS]) for scale in (True, False)}
with draw.figure(8, 3) as fig:
    left, right = fig.subplots(1, 2)
    for scale, colour, style, label in ((True, draw.BLUE, "o-", "with"), (False, draw.VERMILLION, "s--", "without")):
        ratio, score = measured[scale].mean(axis=0).T
        left.loglog(dims, ratio, style, color=colour, label=f"{label} the factor")
        right.loglog(dims, score, style, color=colour)
    left.axhline(1, color=draw.GREY, ls=":")
    left.set(title="size of the word over size of the position", xlabel="D")
    right.set(title="spread of the scores of the first layer", xlabel="D")
    for axes in (left, right):
        axes.set_xticks(dims, dims)
        axes.minorticks_off()
    right.set_ylim(0.1, 10)
    left.legend()
show(draw.Plot(fig, {"D": dims, "with": measured[True], "without": measured[False]}), "q08-sizes")

# %% [markdown]
# Without the factor words are small beside their places, and the more so the larger $D$: at $D = 512$ the model sees
# first of all *where* a word stands, and hardly *which* one it is. With the factor both are of one size for all $D$.
#
# And the scores are larger with the factor, of course: it multiplies *up*. Not 22.6-fold, as places have a part in them
# that does not grow; at $D = 512$ about 4 times, more or less by the weights that were drawn. What keeps scores small
# is another root, $1/\sqrt{d_k}$ in attention ($d_k$: entries of a query), where it divides.

# %%
claim(
    "q08.1", "The factor prevents attention scores from becoming too large", "spread of scores with the factor, over "
    "that without, D = 512", measured[True][:, -1, 1] / measured[False][:, -1, 1], "< 1", "REFUTED", usual=True,
    reason="it makes them larger; the answer mistakes it for the 1/sqrt(d_k) of attention",
)  # fmt: skip

# %%
claim(
    "q08.2", "The factor gives words and places the same size, for every D", "smaller RMS over larger, worst D",
    [np.minimum(row, 1 / row).min() for row in measured[True][:, :, 0]], "> 0.5", "SUPPORTED",
)  # fmt: skip

# %%
claim(
    "q08.3", "Without the factor, the word is small beside the place", "RMS word / RMS position, D = 512",
    measured[False][:, -1, 0], "< 0.1", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## But why not draw larger numbers to begin with?
# With standard deviation 1 the words have the right size without any factor. The reason is at the other end. The
# paper's model is **tied**: the same table $E$ $(V, D)$ is the output layer, too, where the score of word $w$ is
# $E_w \cdot x$ (a **logit**), with the last layer's $x$ $(D)$. After its normalisation $x$ has RMS 1. So, with entries
# of $E$ of mean 0, variance $\sigma^2$, independent of $x$:
#
# $$\operatorname{Var}(E_w \cdot x) = \sum_{d=1}^{D} \sigma^2 x_d^2 = \sigma^2 D$$
#
# For logits of size 1 the *output* wants $\sigma = 1/\sqrt{D}$. For words as large as places the *input* wants 1. One
# table cannot be both, and $\sqrt{D}$ on the way in is the difference.
#
# ## Measure: 2 x 2 x 2
# Tied or not, factor or not, $\sigma = 1/\sqrt D$ or 1; and two tasks, $D = 32$. **By place**: six words, and then the
# same six backwards; which word is next is told by the place alone. **By content**: the largest of all words so far
# (they are numbers, 1 to 8); places do not matter. We note the loss before training, its mean during training (small is
# fast), and the right answers in the end.


# %%
def by_place(rng):
    """Words (B, T), and the next one, asked for in the second half."""
    half = rng.integers(1, V + 1, (32, T // 2))
    ids = np.concatenate([half, half[:, ::-1]], axis=1)
    labels = np.roll(ids, -1, axis=1)
    labels[:, [*range(T // 2 - 1), -1]] = NOTHING
    return ids, labels


def by_content(rng):
    """Words (B, T), and the largest so far."""
    ids = rng.integers(1, V + 1, (32, T))
    return ids, np.maximum.accumulate(ids, axis=1)


TASKS = {"by place": by_place, "by content": by_content}
CELLS = [(tied, scale, std) for tied in (True, False) for std in (32**-0.5, 1.0) for scale in (True, False)]
start, slow, right = {}, {}, {}  # by task and cell, one number per seed
for name, task in TASKS.items():
    for cell in CELLS:
        key, runs = (name, *cell), []
        for seed in SEEDS:
            tied, scale, std = cell
            model = writer(seed, tie_weights=tied, scale_embedding=scale, embedding_std=std)
            losses = train(model, task, fast(300, 200), lr=5e-3, seed=seed)
            runs.append((losses[0], np.mean(losses), float(accuracy(model, task))))
        start[key], slow[key], right[key] = map(np.array, zip(*runs))

# %%
labels = [
    f"{'tied' if t else 'untied'}, {'1' if s == 1 else '1/√D'}, {'x √D' if f else 'no factor'}" for t, f, s in CELLS
]
with draw.figure(9, 3.2) as fig:
    panels = fig.subplots(1, 3, sharey=True)
    shown = {"loss before training": ("by content", start)} | {f"mean loss, {name}": (name, slow) for name in TASKS}
    for axes, (title, (name, numbers)) in zip(panels, shown.items()):
        for row, cell in enumerate(CELLS):
            colour, hatch = (draw.BLUE, "") if cell[1] else (draw.ORANGE, "////")
            axes.barh(row, numbers[name, *cell].mean(), color=colour, hatch=hatch)
            axes.plot(numbers[name, *cell], [row] * len(SEEDS), ".", color="black")
        axes.set(title=title)
    panels[0].axvline(np.log(V), color=draw.GREY, ls=":")
    panels[0].set_yticks(range(len(CELLS)), labels)
    panels[0].invert_yaxis()
shown |= {f"right in the end, {name}": (name, right) for name in TASKS}
means = {title: np.array([of[name, *cell].mean() for cell in CELLS]) for title, (name, of) in shown.items()}
show(draw.Plot(fig, means), "q08-cells")  # one number for each cell, from top to bottom

# %% [markdown]
# Each label says whether tied, then $\sigma$, then the factor: blue with it, hatched orange without. Dots are seeds;
# the dotted line is the loss of guessing. Two bars stick out in the first panel: tied with $\sigma = 1$. There the
# logits are far too large, and the model starts sure of itself and wrong. (The reversal it has not learnt by the end.)
#
# Now compare blue with orange where $\sigma = 1/\sqrt D$. Where content counts, the factor helps. Where the place
# counts, it *hurts*: small words let the places speak. (Untied, with $\sigma = 1$ *and* the factor, words are 8 times
# as large as places, and the reversal is not learnt at all.)

# %%
small_std = 32**-0.5
claim(
    "q08.4", "A tied table needs a small standard deviation", "loss before training, std 1 over std 1/sqrt(D)",
    start["by content", True, False, 1.0] / start["by content", True, False, small_std], "> 2", "SUPPORTED",
)  # fmt: skip

# %%
without = [right[name, tied, False, small_std] for name in TASKS for tied in (True, False)]
claim(
    "q08.5", "The factor is for numerical stability: without it, training fails", "wrong answers without it, worst of "
    "the two tasks, tied and not", 1 - np.min(without, axis=0), "> 0.1", "REFUTED", usual=True,
    reason="all learn, nothing overflows. A bad start can come from the table as output layer, without the factor",
)  # fmt: skip

# %%
gain = {name: slow[name, True, False, small_std] / slow[name, True, True, small_std] for name in TASKS}
[
    claim(
        f"q08.{number}", f"The factor makes learning faster, if the answer is found {name}",
        f"mean loss without it, over that with it: {name}", gain[name], "> 1", verdict,
    )
    for number, name, verdict in ((6, "by content", "SUPPORTED"), (7, "by place", "REFUTED"))
]  # fmt: skip

# %%
same = [slow[name, False, True, small_std] / slow[name, False, False, 1.0] for name in TASKS]
claim(
    "q08.8", "In an untied model the factor is nothing but a larger standard deviation", "mean loss with the factor, "
    "over that with standard deviation 1: largest distance from 1", np.abs(np.array(same) - 1).max(axis=0), "< 0.25",
    "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## What the usual answer gets wrong, where it is right, and when
# The direction. The factor makes words, and so scores, *larger*. Nor does anything overflow without it. It looks as if
# the answer belonged to another question, that of $1/\sqrt{d_k}$.
#
# **When is the factor right?** When all three hold: the table is tied to the output (so $\sigma = 1/\sqrt D$),
# positions of size 1 are added to it, and the words matter. Untied, one can as well draw larger numbers. Where
# positions are not added but act in attention, there is nothing to be balanced; and where the task is one of places, it
# was a hindrance. At $D = 512$ words without it would be 16 times smaller than places; here, with $D = 32$, they are 4
# times smaller.
#
# **Limits.** The paper does not say why. This is what the arithmetic says, and what small models confirm. Training
# repairs the balance in time, so in long runs the difference may vanish.
#
# **Exercise.** A tied table, its two uses, and its one gradient: `python -m tutorials.check q08`
#
# **References.** A. Vaswani et al., *Attention Is All You Need* (2017), section 3.4. O. Press and L. Wolf, *Using the
# Output Embedding to Improve Language Models* (2017), section 3.
