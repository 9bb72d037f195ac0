# %% [markdown]
# # Question 11. What do residual connections do?
#
# Every part $f$ of a Transformer layer (attention, feed-forward network) is wrapped in a **residual connection**, or
# skip: handed on is not $f(x)$ but $x + f(x)$. It costs no parameter, and without it nothing works. Why?
#
# **The usual answer.** "Residuals stop gradients from vanishing. They make training faster, and allow deeper networks.
# And they keep the information of the input."
#
# **Predict.** An encoder with $N = 8$ layers and random weights, with the **norms** of the paper: after each skip every
# vector is shifted and stretched to mean 0 and mean square 1. Take the skips away. By what factor does the gradient of
# the *first* layer shrink? And how different from each other are $T = 12$ different tokens after four layers, if 1
# means as different as can be, and 0 that all have become one vector? Write down two numbers.

# %%
import numpy as np

import minigrad as mg
from minigrad import draw
from tutorials import toys
from tutorials.lesson import claim, fast, show

B, T, V = 8, 12, 8  # batch, tokens in a text, words of the vocabulary


def reader(N, residual, seed=0, causal=False, **changes):
    """N layers, vectors of D = 32 numbers, two heads; `causal`: a token sees itself and what was before."""
    mg.manual_seed(seed)
    settings = {"num_encoder_layers": N, "residual": residual, "activation": "relu", "nhead": 2}
    return toys.Reader(toys.small(V, **(settings | changes)), causal=causal)


def states(model, ids):
    """What leaves the last layer, (B, T, D)."""
    return model.encoder(model.encoder.embed(model.embed, ids))


def spread(x):
    """How much the tokens of a text differ from their mean, in parts of their size."""
    return np.linalg.norm(x - x.mean(axis=1, keepdims=True)) / np.linalg.norm(x)


ids = np.random.default_rng(0).integers(1, V + 1, (B, T))
for residual in (True, False):
    spreads = [f"{spread(states(reader(N, residual).double(), ids).data):.1e}" for N in (1, 2, 3, 4)]
    print("skips   " if residual else "no skips", "after 1, 2, 3, 4 layers:", *spreads)

# %% [markdown]
# The second answer first: $3 \cdot 10^{-16}$, nothing but rounding. After four layers nobody can tell the tokens apart.
# Look closer: with and without feed-forward networks (FFN), norms, the mask of a decoder. Weights are random, and
# gradients start from random numbers at the top. $W_Q$, $W_K$, $W_V$ make of a token its query, key and value.
#
# ## See it


# %%
def at_the_start(model, seed):
    """Spread of the tokens, and norms of the gradients of W_V in the first layer and of W_Q in the last."""
    rng = np.random.default_rng(seed)
    y = states(model.double(), rng.integers(1, V + 1, (B, T)))
    y.backward(rng.standard_normal(y.shape))
    first, last = model.encoder.layers[0].self_attn, model.encoder.layers[-1].self_attn
    weights = first.v_proj.weight, last.q_proj.weight
    return [spread(y.data), *[np.linalg.norm(weight.grad.data) for weight in weights]]


seeds, depths = range(fast(10, 3)), (1, 2, 4, 8)
kinds = {
    "as in the paper": {"residual": True},
    "no skips": {"residual": False},
    "no skips, no FFN": {"residual": False, "activation": "none"},
    "no skips, causal": {"residual": False, "causal": True},
    "no norms": {"residual": True, "norm": "none"},
    "no norms, no skips": {"residual": False, "norm": "none"},
}
start = {  # (N, seed, 3)
    name: np.array([[at_the_start(reader(N, seed=seed, **changes), seed) for seed in seeds] for N in depths])
    for name, changes in kinds.items()
}
lines = [*zip(kinds, (draw.BLUE, draw.VERMILLION, draw.ORANGE, draw.PURPLE, draw.SKY, draw.GREEN), "osvDP^")]
titles = ("how much tokens differ", "gradient of $W_V$, first layer", "gradient of $W_Q$, last layer")
with draw.figure(9, 3.6) as fig:
    panels = fig.subplots(1, 3)
    for number, (axes, title) in enumerate(zip(panels, titles)):
        for name, colour, marker in lines[:4] if number == 0 else [*lines[:2], *lines[4:]]:
            style = {"color": colour, "marker": marker, "ms": 5, "ls": "-" if kinds[name]["residual"] else "--"}
            middle = np.exp(np.log(np.maximum(start[name][:, :, number], 1e-18)).mean(axis=1))
            axes.plot(depths, middle, label=name, **style)
        axes.set(xscale="log", yscale="log", xlabel="layers N", title=title, xticks=depths, xticklabels=depths)
        axes.minorticks_off()
        axes.legend(fontsize=draw.SMALL, loc="lower left")
show(draw.Plot(fig, {name: numbers.mean(axis=1) for name, numbers in start.items()}), "q11-start")

# %% [markdown]
# ## Left: without skips the tokens become one
# Attention takes means. Each token goes home with a mean of all tokens, and means differ less than what they are the
# means of. Once tokens differ by little, say $\varepsilon$, so do the queries and so do the keys: the *weights* of two
# queries differ by about $\varepsilon^2$. Weights sum to 1, so only what differs in the values counts, $\varepsilon$
# again: two results differ by about $\varepsilon^3$, and it goes from 0.2 to 0.002 to 0.000000002. This is **rank
# collapse**: the matrix of all tokens ends with equal rows, which is rank 1. FFN and norm work on each token alone, and
# do not stop it. The skip does: $x + f(x)$ contains $x$. With the mask of a decoder the fall is slower, since each
# token takes the mean of another set, those before it.
#
# ## Middle: and the gradient of the first layer?
# The chain rule, for $x_{n+1} = f_n(x_n)$ and $x_{n+1} = x_n + f_n(x_n)$, with $J_n$ the table of all slopes of $f_n$:
#
# $$\frac{\partial x_N}{\partial x_0} = J_{N-1} \cdots J_1 J_0 \qquad\text{and}\qquad
#   (I + J_{N-1}) \cdots (I + J_1)(I + J_0)$$
#
# A product of many small things is very small; with the skip there is a 1 in each factor. For the model *without norms*
# that is right: $10^{-7}$ against $10^2$. But the paper's model has norms. A norm stretches a vector of size $c$ by
# $1/c$, and on the way back its gradient, too. So the smallness cancels. Your first number: it does not shrink.


# %%
def against(name, other, number):
    """At N = 8 a number of one kind of model divided by that of another, for every seed."""
    return list(start[name][-1, :, number] / start[other][-1, :, number])


claim(
    "q11.1", "In the paper's model (with norms), residuals stop the first layer's gradient from vanishing",
    "gradient of the first W_V at N = 8, without skips / with", against("no skips", "as in the paper", 1), "< 0.01",
    "REFUTED", usual=True, reason="the norms already do: what is too small forwards, they stretch, and backwards too",
)  # fmt: skip

# %%
claim(
    "q11.2", "Without norms, residuals stop the first layer's gradient from vanishing", "W_V, N = 8, without / with",
    against("no norms, no skips", "no norms", 1), "< 0.01", "SUPPORTED", usual=True,
)  # fmt: skip

# %% [markdown]
# ## Right: what really vanishes
# The gradient of the *last* layer's $W_Q$, the one nearest to the loss, with no long product on its way.
# For one query, the softmax with weights $p_s$ sends to the score of key $s$ the gradient
# $p_s (g \cdot v_s - \sum_u p_u\, g \cdot v_u)$: how much better than the average is the value $v_s$, seen from the
# gradient $g$ of the result? If all tokens are alike, all values are alike, and nothing is better than the average. The
# gradient is 0 whatever $g$ is. The model cannot learn *where to look* because there is nothing to choose from.

# %%
claim(
    "q11.3", "Without residuals the tokens of an encoder become one (rank collapse)", "spread after 4 layers",
    list(start["no skips"][2, :, 0]), "< 1e-6", "SUPPORTED",
)  # fmt: skip

# %%
claim(
    "q11.4", "Without residuals the last layer gets no gradient for W_Q", "last W_Q at N = 8, without skips / with",
    against("no skips", "as in the paper", 2), "< 1e-6", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## Is the input still there?
# From the states of the last layer a linear map, fitted by least squares on 768 tokens, has to say which of the 8 words
# stood there; it is judged on 768 others. Guessing gives 0.125. Here is a mask (causal), with the slower collapse.


# %%
def readable(model, seed):
    """How many tokens a linear map can read off the last states."""
    rng = np.random.default_rng(100 + seed)
    words = rng.integers(1, V + 1, (2, 64, T))
    x, new = (np.insert(states(model, half).data.reshape(64 * T, -1), 0, 1.0, axis=1) for half in words)
    fitted = np.linalg.lstsq(x, np.eye(V + 1)[words[0].ravel()], rcond=None)[0]
    return ((new @ fitted).argmax(axis=1) == words[1].ravel()).mean()


read = {on: [[readable(reader(N, on, s, causal=True), s) for s in seeds] for N in depths] for on in (True, False)}
for on, rows in read.items():
    print("skips   " if on else "no skips", {N: f"{np.mean(row):.2f}" for N, row in zip(depths, rows)})
claim(
    "q11.5", "Residuals keep the information of the input", "words readable at N = 8, with skips minus without",
    list(np.subtract(read[True][-1], read[False][-1])), "> 0.5", "SUPPORTED", usual=True,
)  # fmt: skip

# %% [markdown]
# ## Train it
# The task: at every place, say which token stood one place before. One layer is enough, so every layer more is only a
# way to lose something. The same learning rate for all.

# %%
task = toys.look_back(1, vocab=V, T=T, batch=16)
layers, runs = fast((1, 2, 4, 6), (1, 2, 4)), range(fast(5, 3))
losses, right, trained = {}, {}, {}
for N in layers:
    for on in (True, False):
        for seed in runs:
            model = reader(N, on, seed, causal=True)
            losses[N, on, seed] = toys.train(model, task, fast(250, 160), lr=5e-3, seed=seed)
            right[N, on, seed] = toys.accuracy(model, task)[0]
            trained[N, on] = model
with draw.figure(2.3 * len(layers), 2.8) as fig:
    for axes, N in zip(fig.subplots(1, len(layers), sharey=True), layers):
        for on, colour, style in ((True, draw.BLUE, "-"), (False, draw.VERMILLION, "--")):
            curves = np.array([losses[N, on, seed] for seed in runs])
            label = f"{'skips' if on else 'no skips'}: {np.mean([right[N, on, s] for s in runs]):.0%} right"
            axes.plot(curves.mean(axis=0), color=colour, ls=style, label=label)
            axes.fill_between(range(curves.shape[1]), curves.min(0), curves.max(0), color=colour, alpha=0.2, lw=0)
        axes.set(title=f"N = {N}", xlabel="step", ylim=(0, 2.7))
        axes.axhline(np.log(V), color=draw.GREY, lw=0.8, ls=":")
        axes.legend(fontsize=draw.SMALL, loc="upper right")
    fig.axes[0].set_ylabel("loss (dotted: guessing)")
show(draw.Plot(fig, {f"N {N}, skips {on}, seed {s}": row for (N, on, s), row in losses.items()}), "q11-training")

# %%
first_below = {key: np.argmax(np.array(row) < 1.0) if min(row) < 1.0 else np.inf for key, row in losses.items()}
claim(
    "q11.6", "Residuals make training faster (two layers, which both learn)", "steps needed, without skips / with",
    [first_below[2, False, s] / first_below[2, True, s] for s in runs], "> 1.1", "SUPPORTED", usual=True,
)  # fmt: skip

# %%
deepest = layers[-1]
claim(
    "q11.7", "Residuals allow deeper networks", f"accuracy at N = {deepest}, with skips minus without",
    [right[deepest, True, s] - right[deepest, False, s] for s in runs], "> 0.5", "SUPPORTED", usual=True,
)  # fmt: skip

# %% [markdown]
# ## The ledger: which way did the gradient come?
# The gradient of $x$ came past $f$ and through it, each with a share (if negative, it works against the rest).
# Multiplied out, all $(I + J_n)$ are $2^{2N}$ ways. How many parts do they cross? At first mostly 0; trained, 1 or 2.

# %%
records, shares, (ids, labels) = {}, {}, task(np.random.default_rng(0))
for name, model in {"at the start": reader(4, True, causal=True), "trained": trained[4, True]}.items():
    with mg.record(model) as records[name]:
        loss = mg.ops.cross_entropy(model(ids).flatten(0, -2), labels.reshape(-1), ignore_index=toys.NOTHING)
        crossed = mg.trace.crossing_shares(loss, model.embed.weight)
        shares[name] = {count: round(share, 3) for count, share in crossed.items()}
        loss.backward()
show(draw.residual_ledger(records), "q11-ledger")
# %%
show(draw.path_shares(shares, "the embedding"), "q11-paths")

# %% [markdown]
# **What the usual answer gets wrong, where it is right, and when.** Faster, deeper, and the input is kept: all three
# right, from two layers on; with one layer it trains as well without. But the first reason of the usual answer does not
# hold here: in a model with norms the gradient of the first layer does not vanish without skips. It arrives in full
# size, and carries nothing, since all tokens got the same. It holds in models without norms: deep stacks, each layer of
# which makes things smaller. In a Transformer the skip keeps tokens apart, so that attention has something to choose.
#
# **Exercise.** Sort all ways of a gradient by how many parts they cross: `python -m tutorials.check q11`
#
# **References.** K. He, X. Zhang, S. Ren and J. Sun, *Deep Residual Learning for Image Recognition* (2016), sections 1
# and 3, who say themselves that with normalisation vanishing gradients are an unlikely reason (section 4.1). A. Veit,
# M. Wilber and S. Belongie, *Residual Networks Behave Like Ensembles of Relatively Shallow Networks* (2016). Y. Dong,
# J.-B. Cordonnier and A. Loukas, *Attention is not all you need: pure attention loses rank doubly exponentially with
# depth* (2021).
