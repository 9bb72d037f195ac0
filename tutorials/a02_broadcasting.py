# %% [markdown]
# # Engine 2. Why does broadcasting sum gradients?
#
# A layer of a network adds the same **bias** to every example: one vector $b$ of $D$ numbers, and a **batch** $x$ of
# $B$ rows, one for each example, with $D$ numbers each. In code that is `x + b`, although the shapes $(B, D)$ and $(D)$
# differ. NumPy silently repeats $b$ for every row. This is called **broadcasting**.
#
# On the way back there is a riddle. The **loss** is one number that says how wrong the network is. The **gradient** of
# a number says by how much the loss grows per unit by which the number grows. So the gradient of `x + b` has the shape
# $(B, D)$, and the gradient of $b$ must have the shape $(D)$. Of the $B$ rows, one has to be made. The mean? The sum?
# The first?
#
# **Predict.** $B = 32$ rows of zeros, and the loss is the sum of all elements of `x + b`. What is the gradient of
# $b_0$? Write the number down.

# %%
import numpy as np

import minigrad as mg
from minigrad import draw
from minigrad.core import unbroadcast
from tutorials.lesson import claim, fast, show

x, b = mg.zeros(32, 4), mg.zeros(4, requires_grad=True)
(x + b).sum().backward()
print(b.grad)

# %% [markdown]
# 32. Make $b_0$ larger by 1, and every one of the 32 rows becomes larger by 1, and so their sum by 32. It is the sum.
#
# ## See it
# Six rows, four columns, and for the gradient that arrives at `x + b` any numbers at all. Below: what $b$ gets. Column
# by column, all that arrives at a copy of $b_j$ belongs to $b_j$.

# %%
rng = np.random.default_rng(0)
arrives = rng.normal(size=(6, 4))
b = mg.tensor(np.zeros(4), requires_grad=True)
(mg.tensor(np.zeros((6, 4))) + b).backward(arrives)

with draw.figure(4, 4, axes_grid=False) as fig:
    above, below = fig.subplots(2, 1, height_ratios=[6, 1], sharex=True)
    for axes, numbers in ((above, arrives), (below, b.grad.numpy()[None])):
        axes.imshow(numbers, cmap="RdBu_r", vmin=-6, vmax=6, aspect="auto")
        for (row, column), number in np.ndenumerate(numbers):
            axes.text(column, row, f"{number:+.2f}", ha="center", va="center")
        axes.set(xticks=range(4), xticklabels=[f"$b_{j}$" for j in range(4)], yticks=[])
    above.set(title="the gradient that arrives at x + b", ylabel="6 rows, one per copy of b", yticks=range(6))
    below.set(title="the gradient of b: the sum of each column")
show(draw.Plot(fig, {"arrives": arrives, "b": b.grad.numpy()}), "a02-columns")

# %% [markdown]
# ## Why: the way back of a copy is a sum
# Write the copying out. $b$ becomes $y$ with $y_{ij} = b_j$ for every row $i$. The loss $L$ depends on $b_j$ through
# all of its copies, and by the chain rule what they contribute adds up ($\partial L / \partial b_j$ is the gradient of
# $b_j$):
#
# $$\frac{\partial L}{\partial b_j} = \sum_{i=1}^{B} \frac{\partial L}{\partial y_{ij}}
#   \frac{\partial y_{ij}}{\partial b_j} = \sum_{i=1}^{B} \frac{\partial L}{\partial y_{ij}}$$
#
# There is nothing about addition in it. Broadcasting is a step of its own, *copy*, and then follows an operation on
# two arrays of one shape. `x * b`, `x / b` and `where(mask, x, b)` all begin with the same copy. So an engine needs to
# undo it in one place only, and every rule for a derivative may assume equal shapes.
#
# There is a test for "these two belong together" that works for all shapes. Let $C$ be the copying and $S$ its way
# back. For any $b$ and any gradient $g$, with $\langle u, v \rangle$ the sum of all products of elements,
#
# $$\langle C b,\; g \rangle = \langle b,\; S g \rangle .$$
#
# Take the simplest loss whose gradient with respect to $y$ is $g$: the sum $L = \langle y, g \rangle$. It is linear, so
# it is the sum of all numbers, each times its gradient. That can be taken over the copies, whose gradients are $g$ (the
# left side), or over $b$ itself, whose gradient is $S g$ (the right side). Mathematicians say that $S$ is the
# **transpose** of $C$: of copying, it is summing. Read from right to left, the transpose of summing is copying, and
# that is what `sum` does on its way back.
#
# ## All shapes
# NumPy aligns shapes at their right ends. A dimension is repeated where it is missing, or has size 1 and the other
# array has more. These are the dimensions to sum over; one of size 1 stays there, with size 1.

# %%
print("shape of b       with           summed over     error of <C b, g> = <b, S g>")
for small, large in (((4,), (6, 4)), ((6, 1), (6, 4)), ((), (6, 4)), ((1, 4), (6, 4)), ((3, 1, 4), (2, 3, 5, 4))):
    b, g = rng.normal(size=small), rng.normal(size=large)
    ones = (1,) * (len(large) - len(small)) + small
    dims = tuple(i for i, (n, m) in enumerate(zip(ones, large)) if n != m)
    error = abs(np.sum(np.broadcast_to(b, large) * g) - np.sum(b * unbroadcast(g, small)))
    print(f"{small!s:<16} {large!s:<14} {dims!s:<15} {error:.0e}")

# %% [markdown]
# Look at the first two lines: one sums over the rows, the other over the columns. Were the large array square, 4 x 4,
# both sums would have four elements, and no error could warn someone who sums over the wrong dimension. Never test
# with square arrays only.
#
# ## Measure: sum, mean or first row?
# The definition decides: move one element of $b$ a little, and look how the loss changes. We take a loss that is not
# simple, $\sum_{ij} w_{ij} \tanh(x_{ij} b_j)$ with random weights $w$, and compare three ways to make one row of
# $B = 8$, and what the engine does, with this truth.


# %%
def loss(w, x, b):
    """One number that depends on every copy of b in another way."""
    return np.sum(w * np.tanh(x * b))


ways = {"sum": lambda g: g.sum(axis=0), "mean": lambda g: g.mean(axis=0), "first row": lambda g: g[0]}
errors = {name: [] for name in (*ways, "engine")}
for seed in range(fast(20, 5)):
    rng = np.random.default_rng(seed)
    x, w, b = rng.normal(size=(8, 5)), rng.normal(size=(8, 5)), rng.normal(size=5)
    truth = np.array([(loss(w, x, b + step) - loss(w, x, b - step)) / 2e-6 for step in 1e-6 * np.eye(5)])
    every_copy = w * (1 - np.tanh(x * b) ** 2) * x  # the gradient of each copy of b, shape (8, 5)
    for name, way in ways.items():
        errors[name].append(np.linalg.norm(way(every_copy) - truth) / np.linalg.norm(truth))
    bias = mg.tensor(b, requires_grad=True)
    (mg.tensor(w) * (mg.tensor(x) * bias).tanh()).sum().backward()
    errors["engine"].append(np.linalg.norm(bias.grad.data - truth) / np.linalg.norm(truth))
print({name: f"{np.mean(e):.2g} +- {np.std(e, ddof=1):.1g}" for name, e in errors.items()})
claim(
    "a02.1", "The gradient of what is broadcast is the sum over its copies", "relative error of the sum", errors["sum"],
    "< 1e-6", "SUPPORTED",
)  # fmt: skip

# %%
claim("a02.2", "minigrad sums over the copies", "relative error of the engine", errors["engine"], "< 1e-6", "SUPPORTED")

# %%
claim(
    "a02.3", "The mean over the copies would do as well", "relative error of the mean", errors["mean"],
    "< 0.5", "REFUTED", reason="it is the sum divided by the number of copies B, so the error is 1 - 1/B: 0.875 for 8",
)  # fmt: skip

# %% [markdown]
# **Where the mean is right.** Very often a loss *is* a mean over the examples. Then a factor $1/B$ is in every gradient
# that arrives, and their sum is a mean. But it comes from the loss, not from the broadcasting, and whoever divides once
# more trains $B$ times too slowly.
#
# ## What follows: shared parameters hear many voices
# In a Transformer nearly everything is shared: each weight is used at every position of every sentence, so its gradient
# is a sum over all of them. How does its norm (its length: the root of the sum of squares) grow with the number $n$ of
# copies? That depends on whether they agree. If all say the same, it grows as $n$. If each says something random, most
# of it cancels, and the sum grows as $\sqrt n$: a random walk of $n$ steps ends about $\sqrt n$ steps from where it
# began. And if they have a little in common, one part in a hundred of their squared length?

# %%
counts = 4 ** np.arange(1, fast(9, 7))
norms = {"all the same": [], "1 % in common": [], "all random": []}
for seed in range(fast(10, 5)):
    rng = np.random.default_rng(seed)
    for rows, common in zip(norms.values(), (1.0, 0.01, 0.0)):
        same = rng.normal(size=16)
        copies = [np.sqrt(common) * same + np.sqrt(1 - common) * rng.normal(size=(n, 16)) for n in counts]
        rows.append([np.linalg.norm(unbroadcast(g, (16,))) for g in copies])
with draw.figure(5, 3.2) as fig:
    axes = fig.subplots()
    for (name, rows), colour, marker in zip(norms.items(), draw.COLOURS, draw.MARKERS):
        mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
        axes.errorbar(counts, mean, spread, color=colour, marker=marker, ms=5, capsize=3, label=name)
    axes.set(xscale="log", yscale="log", xlabel="number of copies n", title="norm of the gradient of what is shared")
    axes.legend(title="the gradients of the copies are")
show(draw.Plot(fig, {"copies": counts} | {name: np.mean(rows, axis=0) for name, rows in norms.items()}), "a02-growth")

# %%
slopes = [np.polyfit(np.log(counts), np.log(row), 1)[0] for row in norms["all random"]]
print(f"all random: n to the power of {np.mean(slopes):.2f} +- {np.std(slopes, ddof=1):.2f}")
claim(
    "a02.4", "Random gradients of n copies add up to about sqrt(n)", "distance of the exponent from 1/2",
    [abs(slope - 0.5) for slope in slopes], "< 0.15", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# A little agreement is drowned by noise while few share the parameter, and rules when many do: beyond some hundred
# copies the middle curve turns from $\sqrt n$ to $n$. This is what a larger batch is good for: it lifts what the
# examples agree on above the noise. And since the size of such a sum says first of all how many took part, losses are
# divided by the number of words, not added up.
#
# ## The trap
# Broadcasting never complains if it can help it. Here predictions have the shape $(B, 1)$, targets $(B)$, and each of
# the $B$ predictions is silently compared with *all* targets.

# %%
targets = rng.normal(size=32)
predictions = mg.tensor(targets[:, None], requires_grad=True)  # perfect, with one dimension too many
difference = predictions - mg.tensor(targets)
(difference**2).mean().backward()
print(f"shape {difference.shape}, loss {(difference**2).mean().item():.2f}; the true loss is 0")
print(f"largest gradient of a perfect prediction: {abs(predictions.grad.data).max():.2f}, of the right shape")

# %% [markdown]
# The gradient has the right shape, since the engine dutifully sums over the copies, and training will run: towards
# predicting the mean of the targets for everything. If a loss stops at the variance of the targets (the mean square of
# their distance to their mean), look at the shapes.
#
# **Exercise.** Write the summing yourself, for all shapes: `python -m tutorials.check a02`
#
# **References.** NumPy user guide, *Broadcasting*. A. Griewank and A. Walther, *Evaluating Derivatives* (2nd edition,
# 2008), chapter 3 (the way back of a linear map is its transpose). D. E. Rumelhart, G. E. Hinton and R. J. Williams,
# *Learning representations by back-propagating errors*, Nature 323 (1986).
