# %% [markdown]
# # Question 13. What is BatchNorm, and what speaks for and against it?
#
# A network computes **features**: numbers, each with a size and a middle of its own, for every one of the $B$ examples
# of a batch. If one feature runs from 900 to 1,000 and the next one from 0 to 0.001, a step of training that is right
# for the one is wrong for the other. **Batch normalisation** takes each feature, and shifts and stretches it so that
# over the batch it has mean 0 and mean square 1.
#
# **The usual answer.** "It normalises every feature over the batch, with a learnt scale and shift; when the model is in
# use it takes remembered means. For it: training is faster, and bears higher learning rates, because the inputs of each
# layer no longer drift (*internal covariate shift*). Against it: it needs large batches, and behaves differently in
# training and in use."
#
# **Predict.** A network learns with batches of 64. Now we normalise within *groups* of 2, 4, 16 of the 64: the same
# examples, the same steps, only means of fewer. With all 64 it gets about 85 % right; to name always the most frequent
# of the three classes gives about 40 %. How many with groups of 4? And of 2? Write down two numbers.

# %%
import numpy as np

import minigrad as mg
from minigrad import draw, nn
from tutorials.lesson import claim, fast, show

D, EPS, MOMENTUM = 32, 1e-5, 0.1


class BatchNorm(nn.Module):
    """Normalise D features over groups of G examples; later we also `shake` their means and sizes, by chance."""

    def __init__(self, G=64, shake=0.0):
        super().__init__()
        self.G, self.shake, self.rng = G, shake, np.random.default_rng(0)
        self.weight, self.bias = nn.Parameter(mg.ones(D)), nn.Parameter(mg.zeros(D))
        self.mean, self.variance = np.zeros(D, np.float32), np.ones(D, np.float32)  # remembered, for use

    def forward(self, x):
        """From x (B, D) to the same shape."""
        if not self.training:
            return (x - mg.tensor(self.mean)) / mg.tensor(np.sqrt(self.variance + EPS)) * self.weight + self.bias
        groups = x.reshape(-1, self.G, D)
        centred = groups - groups.mean(1, keepdim=True)
        variance = (centred**2).mean(1, keepdim=True)
        unbiased = variance.data.mean((0, 1)) * self.G / (self.G - 1)
        self.mean += MOMENTUM * (groups.data.mean((0, 1)) - self.mean)
        self.variance += MOMENTUM * (unbiased - self.variance)
        y = (centred / (variance + EPS).sqrt()).reshape(-1, D) * self.weight + self.bias
        if self.shake:
            scale, shift = self.shake * self.rng.normal(size=(2, D)).astype(np.float32)
            y = y * mg.tensor(1 + scale) + mg.tensor(shift)
        return y


differs, follows = [], []
for seed in range(fast(5, 3)):
    rng, own, library = np.random.default_rng(seed), BatchNorm(), nn.BatchNorm1d(D)
    own.weight = library.weight = nn.Parameter(mg.tensor(rng.normal(size=D).astype(np.float32)))
    own.bias = library.bias = nn.Parameter(mg.tensor(rng.normal(size=D).astype(np.float32)))
    for _ in range(7):
        x = mg.tensor((rng.normal(5, 1, (64, D)) * 10.0 ** np.linspace(-3, 3, D)).astype(np.float32))
        in_training = abs(own(x).data - library(x).data).max()
    follows.append(np.mean(library.running_mean.data / x.data.mean(0)))
    differs.append(max(in_training, abs(own.eval()(x).data - library.eval()(x).data).max()))
claim(
    "q13.1", "It normalises every feature over the batch, learns scale and shift, and remembers means for use",
    "largest difference of this code from the library, in training and in use", differs, "< 1e-5", "SUPPORTED",
    usual=True,
)  # fmt: skip

# %%
claim(
    "q13.2", "Remembered means go a tenth of the way with each batch", "way of seven batches, less 1 - 0.9^7 = 0.52",
    [abs(way - (1 - 0.9**7)) for way in follows], "< 0.02", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# That is all of it. In formulas, for feature $d$ of example $i$ in a batch of $B$:
#
# $$\mu_d = \frac1B \sum_i x_{id}, \quad \sigma_d^2 = \frac1B \sum_i (x_{id} - \mu_d)^2, \quad
#   y_{id} = w_d\, \frac{x_{id} - \mu_d}{\sqrt{\sigma_d^2 + \varepsilon}} + b_d$$
#
# ($\varepsilon$ guards against division by 0; $w_d$ and $b_d$ are learnt, so that the network may choose another size.)
# What is remembered follows slowly: $m \leftarrow m + 0.1\,(\mu - m)$, and the variance likewise, with $B - 1$ in place
# of $B$. In use these take the place of $\mu$ and $\sigma^2$. The batch has no say then; there may be none.
#
# Backwards: each $x_{jd}$ moves $\mu_d$ and $\sigma_d$, so *all* results of its feature. With the loss $L$, the
# fraction $\hat x$ above and $g_{id} = w_d\, \partial L / \partial y_{id}$, the chain rule gives (small $\varepsilon$)
#
# $$\frac{\partial L}{\partial x_{id}} = \frac{1}{\sigma_d} \Big( g_{id} - \frac1B \sum_j g_{jd}
#   - \hat x_{id}\, \frac1B \sum_j g_{jd} \hat x_{jd} \Big).$$
#
# What would shift or stretch the whole feature is taken out, and each example has a part in the gradient of the others.
#
# ## See it: what one example gets depends on the others
# One example, with 0.5 in a feature, in 200 batches (the dots) with other examples, $B$ in all. What becomes of 0.5?

# %%
sizes, slopes, clouds = (2, 4, 8, 16, 32, 64, 128), [], {}
for seed in range(fast(10, 3)):
    rng = np.random.default_rng(seed)
    for B in sizes:
        batches = rng.normal(size=(200, B))
        batches[:, 0] = 0.5
        clouds[B] = (0.5 - batches.mean(1)) / np.sqrt(batches.var(1) + EPS)
    slopes.append(np.polyfit(np.log(sizes[2:]), np.log([clouds[B].std() for B in sizes[2:]]), 1)[0])
with draw.figure(6, 3) as fig:
    axes = fig.subplots()
    for place, B in enumerate(sizes):
        across = place + 0.25 * np.random.default_rng(B).uniform(-1, 1, 200)
        axes.plot(across, clouds[B], ".", color=draw.BLUE, ms=2)
    axes.axhline(0.5, color=draw.VERMILLION, ls="--", label="in use, with remembered means")
    axes.set(xticks=range(len(sizes)), xticklabels=sizes, xlabel="examples in the batch B", title="what 0.5 becomes")
    axes.legend(fontsize=draw.SMALL)
show(draw.Plot(fig, clouds), "q13-noise")

# %%
claim(
    "q13.3", "BatchNorm adds noise that falls as 1 / sqrt(B)", "distance of the exponent from -1/2, B = 8 to 128",
    [abs(slope + 0.5) for slope in slopes], "< 0.2", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# Of two numbers, one becomes 1 and the other -1, whatever they are. Such noise is sometimes welcome, as dropout is.
#
# ## Measure: what it is good for
# A network of six layers, 32 features each, has to sort points of 8 numbers into three classes. The points are neither
# centred nor scaled. Plain gradient descent, several learning rates: without a norm, with BatchNorm, and with
# LayerNorm, which normalises the 32 features of one example and never looks at the others. ("Shaken" comes below.)


# %%
def network(norm, seed):
    """Six layers; `norm` makes what stands in each before the ReLU, None: nothing."""
    mg.manual_seed(seed)
    layers = [[nn.Linear(D if n else 8, D), *([norm()] if norm else []), nn.ReLU()] for n in range(6)]
    return nn.Sequential(*[part for layer in layers for part in layer], nn.Linear(D, 3))


def examples(seed):
    """Make a source of points (n, 8) and their classes, by a random rule of its own for each seed."""
    rng = np.random.default_rng(seed)
    a, b, middle = rng.normal(size=(8, 6)), rng.normal(size=(6, 3)), 5 * rng.normal(size=8)

    def draw_some(rng, n):
        z = 3 * rng.normal(size=(n, 8))
        return mg.tensor((z + middle).astype(np.float32)), np.argmax(np.tanh(z @ a) @ b, axis=1)

    return draw_some


def trained(norm, seed, lr):
    """Train with batches of 64; of 960 new points, the shares right in training mode, in use, and said otherwise."""
    some, rng, model = examples(seed), np.random.default_rng(seed + 100), network(norm, seed)
    optimizer = mg.optim.SGD(model.parameters(), lr=lr)
    for _ in range(fast(250, 160)):
        x, classes = some(rng, 64)
        loss = mg.ops.cross_entropy(model(x), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, classes = some(rng, 960)
    in_training, in_use = model.train()(x).data.argmax(1), model.eval()(x).data.argmax(1)
    return np.mean(in_training == classes), np.mean(in_use == classes), np.mean(in_training != in_use)


seeds, rates = range(fast(5, 3)), fast((0.01, 0.03, 0.1, 0.3, 1.0, 3.0), (0.3, 1.0, 3.0))
norms = {"BatchNorm": BatchNorm, "LayerNorm": lambda: nn.LayerNorm(D), "none": None}
norms["BatchNorm, shaken"] = lambda: BatchNorm(shake=0.5)
sweep = {name: np.array([[trained(norm, s, lr)[1] for s in seeds] for lr in rates]) for name, norm in norms.items()}
with draw.figure(6, 3.2) as fig:
    axes = fig.subplots()
    for (name, rows), colour, marker in zip(sweep.items(), draw.COLOURS, "os^D"):
        axes.errorbar(rates, rows.mean(1), rows.std(1), color=colour, marker=marker, ms=5, capsize=2, label=name)
    axes.set(xscale="log", xlabel="learning rate", title="share of new points that are right", ylim=(0.2, 1))
    axes.set_xticks(rates, rates)
    axes.minorticks_off()
    axes.legend(fontsize=draw.SMALL, ncols=2, loc="lower left")
show(draw.Plot(fig, {name: rows.mean(axis=1) for name, rows in sweep.items()}), "q13-rates")

# %%
claim(
    "q13.4", "Training is faster with BatchNorm", "right after the same steps, each with its best rate, minus none",
    list(sweep["BatchNorm"].max(axis=0) - sweep["none"].max(axis=0)), "> 0", "SUPPORTED", usual=True,
)  # fmt: skip

# %%
claim(
    "q13.5", "BatchNorm bears higher learning rates", "right at a learning rate of 3, minus none",
    list(sweep["BatchNorm"][-1] - sweep["none"][-1]), "> 0", "SUPPORTED", usual=True,
)  # fmt: skip

# %% [markdown]
# ## Because the inputs no longer drift?
# If that were the reason, then whoever makes them drift again should lose what was won. The shaken BatchNorm does so:
# after normalising, every feature is stretched and shifted by new random amounts in every step. Its inputs drift more
# than those of any network without a norm. (The experiment is Santurkar and others', in small.)

# %%
claim(
    "q13.6", "It helps because the inputs of a layer no longer drift", "shaken, at a learning rate of 1, minus none",
    list(sweep["BatchNorm, shaken"][-2] - sweep["none"][-2]), "< 0.1", "REFUTED", usual=True,
    reason="with inputs that drift on purpose most of the gain is still there",
)  # fmt: skip

# %% [markdown]
# What then? Partly this: weights twice as large give the same output, as the norm divides by the size. So a step too
# long makes weights large, and these turn less in the next one. LayerNorm does so, too, but falls at high rates.
#
# ## What it costs: small groups, and two ways to behave

# %%
groups = fast((2, 4, 8, 16, 64), (2, 4, 64))
shares = [[trained(lambda: BatchNorm(G), seed, 0.1) for seed in seeds] for G in groups]  # noqa: B023
*accuracy, differs = np.moveaxis(shares, -1, 0)  # (groups, seeds) each
with draw.figure(6, 3) as fig:
    axes = fig.subplots()
    for rows, name, colour, marker in zip(accuracy, ("in training", "in use"), (draw.VERMILLION, draw.BLUE), "so"):
        axes.errorbar(groups, rows.mean(1), rows.std(1), color=colour, marker=marker, ms=5, capsize=2, label=name)
    axes.plot(groups, differs.mean(1), color=draw.GREEN, marker="^", ls="--", label="the two answers differ")
    axes.set(xscale="log", xticks=groups, xticklabels=groups, ylim=(0, 1), xlabel="examples that share a mean, of 64")
    axes.set_title("share of new points that are right")
    axes.minorticks_off()
    axes.legend(fontsize=draw.SMALL, loc="center right")
show(draw.Plot(fig, {"training, use": np.mean(accuracy, axis=2), "differs": differs.mean(1)}), "q13-groups")

# %%
claim(
    "q13.7", "BatchNorm needs large batches", "right with 64 sharing a mean, minus right with 2",
    list(accuracy[1][-1] - accuracy[1][0]), "> 0.2", "SUPPORTED", usual=True,
)  # fmt: skip

# %%
claim(
    "q13.8", "It behaves differently in training and in use", "points with another answer, 4 sharing a mean",
    list(differs[1]), "> 0.05", "SUPPORTED", usual=True,
)  # fmt: skip

# %% [markdown]
# Your two numbers: with groups of 4 about 0.7 are right, with groups of 2 hardly more than by guessing.
#
# **What the usual answer gets wrong, where it is right, and when.** What it does, what it brings and what it costs are
# right; the *why* is not. And there is a condition: examples must be many, and independent of each other. Images are.
# The places of a text are not: an earlier one must not know a later one, and a common mean tells it.
#
# **Exercise.** Both ways to behave, and padding that does not count: `python -m tutorials.check q13`
#
# **References.** S. Ioffe and C. Szegedy, *Batch Normalization* (2015), sections 2 and 3. S. Santurkar, D. Tsipras, A.
# Ilyas and A. Madry, *How Does Batch Normalization Help Optimization?* (2018), section 2. Y. Wu and K. He, *Group
# Normalization* (2018), section 1, on small batches. J. L. Ba, J. R. Kiros and G. E. Hinton, *Layer Normalization*
# (2016).
