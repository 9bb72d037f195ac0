# %% [markdown]
# # Question 20. Do the residuals of the decoder leak masked information about the future?
#
# A decoder writes a text from left to right. While it learns, all $T$ places are computed at once, so a **mask** hides
# from place $t$ everything that stands later: in the attention the weight of a later place is 0. But the attention is
# not the only way through a layer. Around each of its parts runs a **residual connection**, or skip: not $f(x)$ is
# handed on, but $x + f(x)$. No mask stands in this second way. Does the future come in through the back door?
#
# **The usual answer.** "No. The skip adds the vectors of one and the same position, so it cannot carry anything from
# one position to another."
#
# **Predict.** Three layers, $T = 8$ tokens: there are 28 pairs (this result, that later token). For how many is the
# gradient not 0? And if in *one* of the three layers the mask is off by one (place $t$ sees $t + 1$)? In *all* three?
# Write down three numbers.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from minitransformer import lens
from tutorials.lesson import claim, fast, show

T, D = 8, 16


def decoder(seed=0, **changes):
    """A small decoder that reads its own text: N = 3 layers, vectors of D = 16 numbers, random weights, float64."""
    mg.manual_seed(seed)
    settings = {"src_vocab_size": 20, "d_model": D, "nhead": 2, "num_decoder_layers": 3, "dim_feedforward": 32}
    return mt.LanguageModel(mt.TransformerConfig(**(settings | {"dropout": 0.0} | changes))).double().eval()


text = [3, 7, 4, 9, 5, 8, 11, 6]
found = lens.dependency(decoder(), text)
show(found, "q20-verdict")

# %% [markdown]
# ## See it
# One row for every result $t$, one column for every token $s$. A circle: the result depends on the token. A dot: the
# gradient is 0. Not small: **exactly** 0, the float with the bits of zero. And when another token is put at $s$, not a
# bit of result $t$ changes.

# %%
depends = found["decoder", "text"].depends.sum(axis=1)
show(draw.Plot(lens.dependency_matrices(found).figure, {"tokens that each result depends on": depends}), "q20-clean")

# %% [markdown]
# Your first number should be 0. Untrained weights are enough: who can see whom is a matter of wiring, not of learning.
#
# ## How one backward pass fills the whole matrix
# Put the same text $T$ times into a batch. Ask row $t$ of the batch about its result $t$ only: start its gradient there
# (with random numbers; a sum would be blind after a softmax) and leave all other places 0. What arrives at token $s$ of
# row $t$ is cell $(t, s)$. All $T^2$ cells come from one backward pass.
#
# ## Why it is 0
# Write $J_{ts}$ for the slope of result $t$ by input $s$: a small table of $D \times D$ numbers, one such table for
# every pair of places. For the skip $y = x + f(x)$ it is
#
# $$\frac{\partial y_t}{\partial x_s} = \delta_{ts} I + \frac{\partial f(x)_t}{\partial x_s},
#   \qquad \delta_{ts} = 1 \text{ if } t = s \text{ else } 0 ,$$
#
# with $I$ the identity. The skip adds something for $t = s$ only, on the diagonal, where looking is allowed. The mask
# makes the second term 0 for every $s > t$. Tables with nothing above the diagonal stay so when they are added, and
# also when they are multiplied, as a stack of layers does. So if *each* part keeps the promise, the whole keeps it; and
# one part that breaks it is enough, since the skips carry what it let in safely to the top.
#
# Exactly 0, because a masked weight is $e^{-\infty} = 0$, and 0 times any finite number is 0, and sums of zeros are 0.
# There is no rounding anywhere in that chain.
#
# ## Measure: skips on, off, and alone
# Norm after the skip, as in the paper, and before it. Then the other way round: forbid all attention but that of a
# token to itself, so that skip, norm and feed-forward network are all that is left. Do they connect two places?

# %%
seeds = range(fast(10, 3))
future = np.triu(np.ones((T, T), bool), 1)
on, off, alone = [], [], []
for seed in seeds:
    read = np.random.default_rng(seed).integers(3, 20, T)
    runs = [lens.dependency(decoder(seed, norm_first=first), read) for first in (False, True)]
    on.append(sum((run["decoder", "text"].depends & future).sum() for run in runs))
    without = lens.dependency(decoder(seed, residual=False), read)
    off.append((without["decoder", "text"].depends & future).sum())
    model = decoder(seed)
    with lens.with_mask(model, "*.self_attn", np.eye(T, dtype=bool)):
        alone.append((lens.dependency(model, read)["decoder", "text"].depends & ~np.eye(T, dtype=bool)).sum())
print(f"cells that must be 0 and are not: with skips {sum(on)}, without {sum(off)}; skips alone {sum(alone)}")
claim(
    "q20.1", "The residuals of the decoder leak nothing of the masked future", "future cells that are not exactly 0",
    on, "== 0", "SUPPORTED", usual=True,
)  # fmt: skip

# %%
claim(
    "q20.2", "The skip adds position by position, and so cannot connect two of them",
    "cells off the diagonal that are not exactly 0, where a token attends to itself only", alone, "== 0", "SUPPORTED",
    usual=True,
)  # fmt: skip

# %% [markdown]
# ## Now break it on purpose
# An instrument that has only ever said "all is well" has said nothing. Eight mistakes that people make, each planted
# alone, all but the two that are about the whole model in layer 1 (of 0, 1, 2). The laboratory is given the model, and
# nothing about the mistake. When a cell leaks it follows the change, step by step, to the first step at which a result
# knows what it must not. It prints a name for the mistake, if it knows one, and that step with its module and line.


# %%
def later(x):
    """Every place gets the vector of the place after it, (B, T, D); the last gets 0."""
    return mg.cat([x[:, 1:], 0.0 * x[:, :1]], dim=1)


class WholeNorm(nn.Module):
    """A layer norm with mean and variance over all T D numbers of a text, in place of the D of one token."""

    def forward(self, x):
        """From x (B, T, D) to the same shape."""
        return nn.functional.layer_norm(x.flatten(1), (x.shape[1] * x.shape[2],)).reshape(x.shape)


def one_more(mask):
    """Let every place see one more."""
    return mask | np.eye(T, k=1, dtype=bool)


here = "decoder.layers.1."


def examined(seed, text):
    """What the laboratory says of a decoder with each mistake; and of which mistakes it names the right module."""
    plain, whole, batch = decoder(seed), decoder(seed), decoder(seed, norm="batch").train()
    whole.decoder.layers[1].add_norm2.norm = WholeNorm()
    planted = {  # what: the model, what is done to it, where that is
        "mask off by one": (plain, lens.with_mask(plain, f"{here}self_attn", one_more), f"{here}self_attn"),
        "no mask": (plain, lens.with_mask(plain, f"{here}self_attn", np.ones_like), f"{here}self_attn"),
        "mean over time": (plain, nn.patch(plain, {f"{here}ffn": lambda y: y - y.mean(1, keepdim=True)}), f"{here}ffn"),
        "convolution over time": (plain, nn.patch(plain, {f"{here}ffn": lambda y: y + 0.5 * later(y)}), f"{here}ffn"),
        "layer norm over (T, D)": (whole, nn.patch(whole, {}), f"{here}add_norm2.norm"),
        "batch norm": (batch, nn.patch(batch, {}), "decoder.layers.0.add_norm1.norm"),
        "skip from the next place": (plain, nn.patch(plain, {f"{here}resid_post": lambda y: y + later(y)}), here[:-1]),
    }
    caught, named = {}, []
    for name, (model, mistake, place) in planted.items():
        with mistake:
            caught[name] = lens.dependency(model, text)
        named.append(any(leak.crossing.module.startswith(place) for leak in caught[name].leaks[:1]))
    caught["labels not shifted"] = lens.dependency(plain, text, labels=text)
    return caught, [*named, caught["labels not shifted"].diagnosis == "no target shift"]


caught, named = examined(0, text)
for name, seen in caught.items():
    print(f"{name:<25} {seen.diagnosis:<15} {seen.leaks[0].crossing if seen.leaks else ''}")

# %%
with draw.figure(8, 4.4, square=True, axes_grid=False) as fig:
    for axes, (name, seen) in zip(fig.subplots(2, 4).flat, caught.items()):
        matrix = seen["decoder", "text"]
        axes.imshow(np.where(matrix.depends, 1.0, 0.0), cmap="Blues", vmin=0, vmax=2)
        rows, columns = np.array(matrix.leaks).reshape(-1, 2).T
        axes.plot(columns, rows, "X", color=draw.VERMILLION, ms=8)
        count = f"{len(rows)} leaks" if len(rows) else "each sees its own label"
        axes.set(title=f"{name}\n{count}", xticks=[], yticks=[])
        if not len(rows):  # the labels are on the diagonal
            axes.plot(range(T), range(T), "X", color=draw.VERMILLION, ms=8)
    fig.supxlabel("token s", fontsize=9)
    fig.supylabel("result t", fontsize=9)
show(draw.Plot(fig, {name: seen["decoder", "text"].gradient for name, seen in caught.items()}), "q20-planted")

# %% [markdown]
# Your second number: 7. And if all layers are off by one? Every layer moves the border one place on, for the skips keep
# what the layer below let in: $7 + 6 + 5 = 18$.

# %%
model = decoder()
with lens.with_mask(model, "*.self_attn", one_more):
    print(len(lens.dependency(model, text)["decoder", "text"].leaks), "leaks")
every = [named, *(examined(seed, np.random.default_rng(seed).integers(3, 20, T))[1] for seed in seeds[1:])]
claim(
    "q20.3", "Each planted leak is found, and followed to the module where it was planted", "share of the eight",
    np.mean(every, axis=1), "== 1", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# Two of the eight are about skips, and both say where the usual answer ends:
#
# - **A skip from another place leaks**, as any step does that mixes places. "Position by position" is what makes the
#   skip safe, not that it is a skip. Architectures that shorten and lengthen a text on the way (pooling, and a skip
#   around it) have to shift it, or they read ahead.
# - **Labels that are not shifted.** The decoder has to name token $t + 1$ at place $t$. If somebody forgets to shift,
#   the label of place $t$ is token $t$, and no mask forbids a token to see itself. Then the skip is the broadest leak
#   there is: it carries the answer from the input to the output, untouched. No cell above the diagonal shows it; the
#   laboratory has to be told the labels.
#
# ## Why "exactly", and not "smaller than 0.00001"
# Take the layer norm over all $T D$ numbers, and put it *after* an ordinary layer norm instead of in its place. The
# tokens have mean 0 and variance 1 already, so there is next to nothing left to do. But it reads the future.
# Would a test notice that allows errors of 0.00001, as PyTorch's `gradcheck` does unless told otherwise?

# %%
largest = []
for seed in seeds:
    model = decoder(seed)
    with nn.patch(model, {f"{here}add_norm2.norm": WholeNorm()}):
        matrix = lens.dependency(model, np.random.default_rng(seed).integers(3, 20, T))["decoder", "text"]
    largest.append(matrix.gradient[future].max())
print(f"{len(matrix.leaks)} of 28 future cells leak; the largest gradient is {np.mean(largest):.1e}")
claim(
    "q20.4", "A test with a tolerance of 1e-5 finds every leak", "largest gradient of the future where it does leak",
    largest, "> 1e-5", "REFUTED", reason="all 28 cells leak, by gradients that a tolerance takes for rounding",
)  # fmt: skip

# %% [markdown]
# All 28 cells leak, and a test with a tolerance passes. A comparison with exactly 0 needs no threshold to argue about,
# and costs nothing: a mask that holds gives true zeros.
#
# **Where the usual answer is right, and when.** It is right, for the reason it gives, and the zeros are exact, with
# skips and without them. It is a statement about one part, though. The decoder is safe if *every* part keeps places
# apart or looks back only: the attention by its mask; norm, feed-forward network and skip because they treat each place
# by itself. A batch norm in training, a mean over time or a skip from elsewhere is enough to end that, and none of them
# is in the mask.
#
# **Exercise.** From the masks of all layers, work out who can see whom, and measure it: `python -m tutorials.check q20`
#
# **References.** A. Vaswani et al., *Attention Is All You Need* (2017), sections 3.1 (the mask, and the shift of the
# output by one position) and 3.2.3. K. He, X. Zhang, S. Ren and J. Sun, *Deep Residual Learning for Image Recognition*
# (2016), section 3. P. Nawrot et al., *Hierarchical Transformers Are More Efficient Language Models* (2022), where
# shortened texts are shifted so that nothing leaks.
