# %% [markdown]
# # Engine 3. The softmax, its derivative by hand, and how to tell that a derivative is right
#
# A network makes **scores**: numbers of any size, one for each of $n$ choices. What we want is **probabilities**:
# positive numbers that sum to 1. The **softmax** makes the one from the other. Take $e$ to the power of each score, and
# divide by the sum:
#
# $$y_i = \frac{e^{x_i}}{\sum_{j=1}^n e^{x_j}}$$
#
# It stands in every attention of a Transformer (which word should I look at?) and at its end (which word comes next?).
# If one derivative should be understood to the bottom, it is this one.
#
# The **gradient** of a number says by how much a result grows per unit by which the number grows, for very small steps.
#
# **Predict.** `x` holds five scores, and we compute the gradients of `x.softmax(-1).sum()`. What is that of the first
# score: large, small, positive, negative? Write down a number.

# %%
import numpy as np

import minigrad as mg
from minigrad import draw
from minigrad.testing import CheckError, gradcheck
from tutorials.lesson import claim, fast, show

x = mg.tensor(np.array([2.0, 1.0, 0.0, -1.0, 3.0]), requires_grad=True)
x.softmax(-1).sum().backward()
print(x.grad)

# %% [markdown]
# It is 0, or what rounding leaves of it. The five probabilities sum to 1 whatever the scores are; the sum does not
# change, so its gradient vanishes. Keep this in mind: below, bugs will hide behind it.
#
# ## First the value
# The formula as it stands breaks for a score of 1,000, since $e^{1000}$ is too large for any float. But adding the same
# number to all scores changes nothing (it cancels in the fraction). So we may subtract the largest score: the largest
# exponent is then 0.


# %%
def softmax(x):
    """Probabilities of the scores in the last dimension."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


print(softmax(np.array([1000.0, 999.0, 0.0])).round(3))

# %% [markdown]
# ## Then the derivative, by hand
# Every score moves every probability, so there are $n \times n$ slopes. Their table is called the **Jacobian**,
# $J_{ij} = \partial y_i / \partial x_j$. Call the denominator $Z$; its slope is $\partial Z / \partial x_j = e^{x_j}$.
# The quotient rule gives two cases:
#
# $$i = j: \quad \frac{e^{x_i} Z - e^{x_i} e^{x_i}}{Z^2} = y_i - y_i y_i \qquad\qquad
#   i \ne j: \quad \frac{0 - e^{x_i} e^{x_j}}{Z^2} = -\, y_i y_j$$
#
# In one line, with $\operatorname{diag}(y)$ for the table with $y$ on its diagonal and 0 elsewhere:
#
# $$J = \operatorname{diag}(y) - y\, y^\top$$
#
# ## See it
# Five scores, and the same five 4 and 16 times as large. The norm of $J$, the root of the sum of its squares, says in
# one number how much comes through.


# %%
def jacobian(y):
    """All slopes of a softmax with the result y, shape (n, n)."""
    return np.diag(y) - np.outer(y, y)


scores = np.array([0.2, -0.3, 0.0, 0.5, -0.1])
with draw.figure(8, 3.2, square=True, axes_grid=False) as fig:
    panels = fig.subplots(1, 3)
    for axes, factor in zip(panels, (1, 4, 16)):
        y = softmax(factor * scores)
        for (i, j), slope in np.ndenumerate(jacobian(y)):
            axes.text(j, i, f"{slope:+.2f}", ha="center", va="center", fontsize=draw.SMALL)
        image = axes.imshow(jacobian(y), cmap="RdBu_r", vmin=-0.3, vmax=0.3)
        title = f"scores x {factor}\nlargest y {y.max():.2f}, norm of J {np.linalg.norm(jacobian(y)):.2f}"
        axes.set(title=title, xlabel="score j", xticks=range(5), yticks=range(5))
    panels[0].set_ylabel("probability i")
    fig.colorbar(image, ax=panels, label="slope of $y_i$ by $x_j$", shrink=0.8)
show(draw.Plot(fig, {factor: jacobian(softmax(factor * scores)) for factor in (1, 4, 16)}), "a03-jacobian")

# %% [markdown]
# Three things to see. The diagonal is positive, the rest negative: who gains takes it from all others. Every row and
# every column sums to 0: probability is only moved about. And at the right, where one choice has nearly all of the
# probability, the table is nearly empty: nothing that we do to the scores has much effect. The softmax is
# **saturated**, and hardly any gradient comes through it.
#
# ## The way back, without the table
# Training makes one number small, the **loss** $L$. Going back from there, the softmax receives
# $g_i = \partial L / \partial y_i$, the gradient with respect to its result, also called the **cotangent**. It has to
# return $\partial L / \partial x_j = \sum_i g_i J_{ij}$, since every score moves every probability. Multiply it out:
#
# $$\frac{\partial L}{\partial x_j} = y_j \Big( g_j - \sum_i g_i\, y_i \Big)$$
#
# The sum is the mean of $g$, weighted with the probabilities: what counts is how far a choice is above or below it. And
# the $n \times n$ table is gone: $n$ numbers in, $n$ numbers out. This is what `minigrad/ops/softmax.py` does.


# %%
def way_back(y, g):
    """The gradient of the scores, given that of the probabilities."""
    return y * (g - (g * y).sum(axis=-1, keepdims=True))


rng = np.random.default_rng(0)
y, g = softmax(rng.normal(size=5)), rng.normal(size=5)
print("largest difference to the long way, over the table:", np.abs(way_back(y, g) - g @ jacobian(y)).max())

# %% [markdown]
# ## Is it right? Ask the definition
# Derivations have slips. The definition of a slope has none: move one score by a small $h$ to both sides, and look.
#
# $$\frac{\partial L}{\partial x_j} \approx \frac{L(x + h e_j) - L(x - h e_j)}{2h}$$
#
# ($e_j$ is 1 at place $j$, else 0.) How small is small? A Taylor series says that the error falls as $h^2$. But the
# computer rounds $L$ in the 16th digit, and this is divided by $h$: a second error that *grows* as $h$ falls.


# %%
def differences(x, g, h):
    """The gradient of L = <g, softmax(x)> from values alone."""
    steps = h * np.eye(len(x))
    return np.array([g @ (softmax(x + step) - softmax(x - step)) / (2 * h) for step in steps])


sizes = 10.0 ** np.arange(-12, 0.5, 0.5)
errors = []
for seed in range(fast(20, 5)):
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=8), rng.normal(size=8)
    exact = way_back(softmax(x), g)
    errors.append([np.linalg.norm(differences(x, g, h) - exact) / np.linalg.norm(exact) for h in sizes])
with draw.figure(5, 3.2) as fig:
    axes = fig.subplots()
    axes.loglog(sizes, np.median(errors, axis=0), "o-", ms=4, color=draw.BLUE, label=f"median of {len(errors)} seeds")
    axes.fill_between(sizes, np.min(errors, axis=0), np.max(errors, axis=0), color=draw.BLUE, alpha=0.2)
    axes.loglog(sizes, 0.3 * sizes**2, "--", color=draw.GREEN, label="grows as $h^2$: the curve is not straight")
    axes.loglog(sizes, 3e-16 / sizes, ":", color=draw.VERMILLION, label="grows as $1/h$: numbers are rounded")
    axes.set(xlabel="step h", title="error of the difference, relative", ylim=(1e-12, 1))
    axes.legend(fontsize=draw.SMALL)
show(draw.Plot(fig, {"step": sizes, "error": np.array(errors)}), "a03-step")

# %%
best = sizes[np.argmin(np.median(errors, axis=0))]
print(f"the best step is about {best:.0e}")
claim(
    "a03.1", "The way back of the softmax, derived by hand, is right", "relative error at h = 1e-5",
    [row[int(np.argmin(abs(sizes - 1e-5)))] for row in errors], "< 1e-8", "SUPPORTED",
)  # fmt: skip

# %%
apart = []
for seed in range(fast(20, 5)):
    rng = np.random.default_rng(seed)
    x, g = mg.tensor(rng.normal(size=(4, 8)), requires_grad=True), rng.normal(size=(4, 8))
    x.softmax(-1).backward(g)
    apart.append(np.abs(x.grad.data - way_back(softmax(x.data), g)).max())
claim("a03.2", "minigrad goes back the same way", "largest difference of a gradient", apart, "< 1e-12", "SUPPORTED")

# %% [markdown]
# In the valley between the two walls ten digits agree. That leaves little room for a mistake. `gradcheck` does this for
# any function, and names the place. Here somebody forgot that the denominator depends on the scores, too (`detach`
# means: take this as a constant).

# %%
gradcheck(lambda x: x.softmax(-1), [rng.normal(size=(3, 5))])  # right: says nothing
try:
    gradcheck(lambda x: x.exp() / x.exp().detach().sum(-1, keepdim=True), [rng.normal(size=(3, 5))])
except CheckError as error:
    print(error)

# %% [markdown]
# ## Why `.sum()` is blind
# `backward()` starts from one number, and the quickest way to one number is `.sum()`, that is, the cotangent
# $g = (1, \dots, 1)$. Here are six ways to get the softmax wrong. Each is tried with three cotangents: ones, as of
# `.sum()`; $g = y$, as of `(y**2).sum() / 2`; and random numbers. How many of the six are found by `.sum()`?

# %%
mistakes = {
    "returns zeros": lambda y, g: 0 * y,
    "twice too large": lambda y, g: 2 * way_back(y, g),
    "wrong sign": lambda y, g: -way_back(y, g),
    "plain mean of g": lambda y, g: y * (g - g.mean()),
    "forgets the y in front": lambda y, g: g - g @ y,
    "forgets the sum": lambda y, g: y * g,
}
cotangents = {"ones: .sum()": lambda y: np.ones_like(y), "y: (y**2).sum() / 2": lambda y: y, "random": None}
caught = {name: np.zeros((len(mistakes), 0)) for name in cotangents}
for seed in range(fast(20, 5)):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=5)
    y = softmax(x)
    for name, make in cotangents.items():
        g = rng.normal(size=5) if make is None else make(y)
        wrong = [np.abs(mistake(y, g) - differences(x, g, 1e-5)).max() > 1e-6 for mistake in mistakes.values()]
        caught[name] = np.column_stack([caught[name], wrong])
print("found with cotangent     ", *[f"{probe:<22}" for probe in cotangents])
for row, name in enumerate(mistakes):
    print(f"{name:<25}", *[f"{caught[probe][row].mean():<22.0%}" for probe in cotangents])
claim(
    "a03.3", "A test with .sum() finds a wrong softmax", "part of the mistakes that it finds",
    caught["ones: .sum()"].mean(axis=0), "> 0.5", "REFUTED", reason="for ones 0 is right, and most mistakes say 0",
)  # fmt: skip

# %%
claim(
    "a03.4", "A test with a random cotangent finds it", "part of the mistakes that it finds",
    caught["random"].mean(axis=0), ">= 1", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# One of six. The right answer for ones is 0, and 0 is what many wrong formulas say, too; even a way back that returns
# nothing but zeros passes. A random cotangent could miss these mistakes only by an accident of probability 0.
#
# Then why not the squares, which find everything here? Because other functions hold other sums fixed. **Layer
# normalisation**, also found in every layer of a Transformer, shifts and stretches each row to mean 0 and mean square
# 1: with 16 numbers in a row the squares always sum to 16.

# %%
norms = {name: [] for name in cotangents}
for seed in range(fast(20, 5)):
    rng = np.random.default_rng(seed)
    x = mg.tensor(rng.normal(size=(4, 16)), requires_grad=True)
    for name, make in cotangents.items():
        x.grad, y = None, mg.nn.functional.layer_norm(x, (16,))
        y.backward(rng.normal(size=y.shape) if make is None else make(y.data))
        norms[name].append(np.linalg.norm(x.grad.data))
ones, squares, random = norms.values()
claim(
    "a03.5", "For layer normalisation .sum() or the squares do", "norm of the right gradient, over that for random g",
    np.divide(np.maximum(ones, squares), random), "> 0.01", "REFUTED", reason="0, but for a small constant",
)  # fmt: skip

# %% [markdown]
# Here the squares are blind, too (what is left comes from a small constant that protects against division by 0). So the
# rule for every test of a derivative, in this project and elsewhere: **a random cotangent, never `.sum()`.**
#
# **Where `.sum()` is right.** In training the loss is what it is, and for a function without such a conserved quantity
# a sum is a probe like any other. But one has to know that; random numbers one need not think about.
#
# **Exercise.** The value and the way back of the *logarithm* of the softmax: `python -m tutorials.check a03`
#
# **References.** J. S. Bridle, *Probabilistic interpretation of feedforward classification network outputs* (1990),
# where the softmax has its name from. J. L. Ba, J. R. Kiros and G. E. Hinton, *Layer Normalization* (2016), section 3.
# A. Vaswani et al., *Attention Is All You Need* (2017), section 3.2.1.
