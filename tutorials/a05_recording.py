# %% [markdown]
# # Engine 5. Recording: what goes along every edge
#
# When a network learns badly, the first question is what its **gradients** do. (The **loss** is one number that says
# how wrong the network is. The gradient of any other number says by how much the loss grows per unit by which this
# number grows; it is computed backwards, from the loss to the first layer.) Most tools show the gradient *at* places:
# at this weight, at that layer. But where a value is used more than once, its gradient is a sum, with one part from
# each use. Each use is an **edge** of the graph of the computation, and one would like to know what came along each:
# who speaks, and who is heard?
#
# **Predict.** A vector $x$ is used twice. One use sends back $g_1 = (3, 1)$, the other $g_2 = (-1, 1)$. The gradient of
# $x$ is $g = g_1 + g_2 = (2, 2)$. What part of it is due to $g_2$: 30 %, as its length among the two lengths? Less?
# Write down a percentage.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw
from tutorials.lesson import claim, fast, show

x = mg.tensor(np.ones(2), requires_grad=True)
with mg.record() as rec:
    first, second = x * np.array([3.0, 1.0]), x * np.array([-1.0, 1.0])
    (first + second).backward(np.ones(2))
show(rec.ledger("leaf"), "a05-two-uses")

# %% [markdown]
# `mg.record` has written down everything that happened inside, and `ledger` is the account of its edges: `mul` is the
# first use of $x$, `mul#2` the second. `norm` is the length of what came along an edge. `share` is our question, and
# the answer is 100 % and **0 %**.
#
# ## See it
# In the middle panel, $g_2$ points across the sum. It moves it neither forwards nor back; it only cancels a part of
# $g_1$ that would have pointed aside. What counts is the shadow that a part throws on the direction of the sum.

# %%
cases = {
    "they agree": np.array([[2.0, 1.0], [1.0, 2.0]]),
    "one goes across": np.array([[3.0, 1.0], [-1.0, 1.0]]),
    "one goes against": np.array([[3.0, 2.0], [-1.0, -1.0]]),
}
with draw.figure(9, 3.3) as fig:
    for axes, (name, parts) in zip(fig.subplots(1, 3), cases.items()):
        total = parts.sum(axis=0)
        shares = parts @ total / (total @ total)
        axes.axline((0, 0), total, color=draw.GREY, lw=0.8)
        looks = ((draw.BLUE, "-", "o", 9), (draw.VERMILLION, "--", "s", 5))
        for part, share, (colour, style, marker, size) in zip(parts, shares, looks):
            axes.annotate("", part, (0, 0), arrowprops={"arrowstyle": "->", "color": colour, "lw": 2, "ls": style})
            axes.plot(*zip(part, share * total), ":", color=colour)
            axes.plot(*(share * total), marker, ms=size, color=colour, label=f"share {share:.0%}")
        axes.annotate("", total, (0, 0), arrowprops={"arrowstyle": "->", "color": "black", "lw": 3, "alpha": 0.4})
        axes.set(title=f"{name} (grey: the sum)", xlim=(-1.5, 3.5), ylim=(-1.5, 3.5), aspect="equal")
        axes.legend(loc="lower right")
show(draw.Plot(fig, cases), "a05-shares")

# %% [markdown]
# ## What a share is
# Let the parts be $g_1, \dots, g_m$ and their sum $g$. Write $\langle u, v \rangle$ for the sum of all products of
# elements. The share of part $e$ is its shadow on $g$, as a fraction of $g$:
#
# $$s_e = \frac{\langle g_e, g \rangle}{\langle g, g \rangle}, \qquad\text{and}\qquad
#   \sum_e s_e = \frac{\langle \sum_e g_e,\; g \rangle}{\langle g, g \rangle} = 1$$
#
# Shares sum to 1, always. That makes them an account: nothing is lost, nothing counted twice. One may be negative, as
# at the right: that part works against the others. (If $g$ is 0 there is nothing to share, and all are NaN, "not a
# number".) Norms do not add up to anything, but they say how loudly each one speaks. One needs both.
#
# ## A whole model
# A **Transformer** is an *encoder* that reads a text and a *decoder* that writes another one. Both look words up in a
# table of vectors (`embed`); in their layers words look at each other (*attention*), and those of the decoder also look
# at what the encoder made. Ours has two layers on each side, reads five words and writes three. `record(model)` names
# every step by the place of its module.

# %%
config = mt.TransformerConfig(
    src_vocab_size=20, d_model=16, nhead=2, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=64
)
words, so_far, labels = np.array([[5, 6, 7, 8, 2]]), np.array([[1, 9, 10]]), np.array([[9, 10, 2]])


def loss(model):
    """How wrong the model is about the next words."""
    return mg.ops.cross_entropy(model(words, so_far), labels)


def a_model(seed):
    """A model with random weights, without dropout."""
    mg.manual_seed(seed)
    return mt.Transformer(config).eval()


model = a_model(0)
with mg.record(model) as rec:
    loss(model).backward()
print({level: len(mg.graph(rec, level=level).picture.boxes) for level in ("model", "layer", "sublayer", "op")})
show(mg.graph(rec, level="layer"), "a05-layers")

# %% [markdown]
# Look for the fork: the result of the encoder (left) is used by *both* layers of the decoder, and the arrows say what
# part of its gradient comes from each. (`2 uses` stands where the fork is within a layer: we come to those. `|g|` is
# the norm of a gradient; `generator` is the last layer, which scores all words.) The numbers printed above count the
# boxes of the same recording at four levels, from the children of the model down to single operations. Any part can be
# opened further: `mg.graph(rec, open=["decoder.layers.1.ffn"])`.
#
# ## From an operation to its definition
# Not even operations are the bottom. In minigrad an op such as `layer_norm` exists twice: as its **definition**, a few
# lines that use only smaller ops, and as one fast function with a way back derived by hand. The definition is the
# truth, and the fast one is tested against it. `detail="definition"` runs and records the definitions.

# %%
apart, sizes = [], {"op": [], "definition": []}
for seed in range(fast(5, 3)):
    gradients = {}
    for detail in sizes:
        model = a_model(seed)
        with mg.record(model, detail=detail) as rec:
            loss(model).backward()
        gradients[detail] = np.concatenate([parameter.grad.data.ravel() for parameter in model.parameters()])
        sizes[detail].append(len(rec.steps))
    difference = np.linalg.norm(gradients["op"] - gradients["definition"])
    apart.append(difference / np.linalg.norm(gradients["definition"]))
print({detail: f"{steps[0]} steps" for detail, steps in sizes.items()})
claim(
    "a05.1", "An op and its definition give the same gradients", "relative difference, all parameters of a Transformer",
    apart, "< 1e-4", "SUPPORTED", reason="the numbers have 32 bits, which is about seven digits",
)  # fmt: skip

# %% [markdown]
# ## Layer normalisation, opened
# It takes from each row its mean, and divides by its standard deviation (the root of the mean square of what is left).
# As one op it is one box. Here is the definition, with a random gradient at its end.

# %%
rng = np.random.default_rng(0)
x = mg.tensor(rng.normal(size=(3, 8)), requires_grad=True)
with mg.record(detail="definition") as rec:
    mg.nn.functional.layer_norm(x, (8,)).backward(rng.normal(size=(3, 8)))
show(mg.graph(rec, level="primitive", title="layer_norm, by its definition"), "a05-layer-norm")

# %% [markdown]
# $x$ (the `leaf`) is used twice: directly (`sub`), and through the mean (`sum`), whose share is below 1 %. Let us
# measure: is this share small, or zero? And is what comes through the mean small?

# %%
norms, shares, hypotenuses = [], [], []
for seed in range(fast(20, 5)):
    rng = np.random.default_rng(seed)
    x = mg.tensor(rng.normal(size=(3, 8)), requires_grad=True)
    with mg.record(detail="definition") as rec:
        mg.nn.functional.layer_norm(x, (8,)).backward(rng.normal(size=(3, 8)))
    direct, mean = rec.edge("sub", "leaf"), rec.edge("sum", "leaf")
    norms.append(mean.norm / direct.norm)
    shares.append(abs(mean.share))
    hypotenuses.append(np.hypot(mean.norm, np.linalg.norm(x.grad.data)) / direct.norm)
print(f"norm through the mean / norm of the direct one: {np.mean(norms):.2f} +- {np.std(norms, ddof=1):.2f}")
print(f"root of (norm through the mean^2 + norm of the sum^2) / norm of the direct one: {np.mean(hypotenuses):.12f}")
claim(
    "a05.2", "The gradient through the mean of a layer norm has no share in the sum", "size of the share", shares,
    "< 1e-12", "SUPPORTED", reason="it is perpendicular to the sum; see the norms, which are not small",
)  # fmt: skip

# %% [markdown]
# The share is zero, but for rounding; the norm is not small. Here is why. Add the same number to all elements of a row:
# its layer norm does not change. So the gradient of a row must be perpendicular to $(1, \dots, 1)$: its elements sum to
# 0. But what comes through the mean is the same number for every element, a multiple of $(1, \dots, 1)$. It stands
# across the sum, as in the middle panel above: its whole work is to take away what does not belong there. Pythagoras
# confirms it: the ratio above is 1.
#
# The second fork, at `sub`, says the same of stretching. Multiply what `sub` made by 2: the layer norm stays (but for a
# small constant that is added against division by 0). So the gradient is perpendicular to that row itself, of which
# what comes through the standard deviation (`mul`) is a multiple.
#
# A tool that showed norms only would call this edge important. One that showed only the gradient at $x$ would not show
# it at all.
#
# ## Residual connections
# The most frequent fork of a Transformer is $y = x + f(x)$: the gradient comes back past $f$, and through $f$. The
# library marks these, and `residuals` is their account.

# %%
model = a_model(0)
with mg.record(model) as rec:
    loss(model).backward()
show(draw.residual_ledger({"untrained": rec}), "a05-residuals")

# %%
print({k: f"{share:.1%}" for k, share in rec.paths("src_embed.weight").items()})
worst = []
for seed in range(fast(5, 3)):
    model = a_model(seed)
    with mg.record(model) as rec:
        loss(model).backward()
    forks = [step.uses for step in rec.steps if len(step.uses) > 1]
    worst.append(max(abs(sum(edge.share for edge in uses) - 1) for uses in forks))
claim(
    "a05.3", "At every fork of a Transformer the shares sum to 1", f"largest error of {len(forks)} forks", worst,
    "< 1e-5", "SUPPORTED", reason="32 bits; with 64 the error is of the order of 1e-15",
)  # fmt: skip

# %% [markdown]
# What do the bars say? In this untrained model about half comes back through self-attention (`add_norm1`), some through
# the last part of each layer, a small network for each word alone, but hardly any through the attention of the decoder
# to the encoder (its `add_norm2`). There $x$ merely asks the question; what is read comes from the encoder, and that is
# where the gradient goes.
#
# Shares can be multiplied along a route and added over routes. The printed line splits the gradient of the source
# embedding by the number of branches that it came through on its way from the loss: again the parts sum to 1. It is an
# estimate, as a share does not know where its gradient was before; `mg.trace.crossings` takes the gradient apart
# exactly. There is no route with 0 branches: from the loss to the source words one has to go through an attention.
#
# ## Does looking change anything?
# A recording that changed the numbers would be of no use. So: the same step, recorded and not, compared bit by bit.

# %%
changed = []
for seed in range(fast(5, 3)):
    gradients = []
    for recorded in (False, True):
        model = a_model(seed)
        if recorded:
            with mg.record(model):
                loss(model).backward()
        else:
            loss(model).backward()
        gradients.append([parameter.grad.data for parameter in model.parameters()])
    changed.append(sum(np.count_nonzero(a != b) for a, b in zip(*gradients)))
claim("a05.4", "Recording changes a gradient", "elements that differ, by any bit", changed, "> 0", "REFUTED")

# %% [markdown]
# **What a share does not say.** It is an account of *this* gradient, at this moment. A part with share 0 is not useless
# (without it the sum would be another one), and a negative one is no mistake. Shares say where a gradient came from,
# not what would happen if one removed the place.
#
# **Exercise.** Shares, and their products along routes: `python -m tutorials.check a05`
#
# **References.** A. G. Baydin et al., *Automatic differentiation in machine learning: a survey*, JMLR 18 (2018),
# section 3.2. J. L. Ba, J. R. Kiros and G. E. Hinton, *Layer Normalization* (2016), section 3. K. He et al., *Deep
# Residual Learning for Image Recognition* (2015), section 3.2. A. Veit, M. Wilber and S. Belongie, *Residual Networks
# Behave Like Ensembles of Relatively Shallow Networks* (2016), section 3 (routes by the number of branches).
