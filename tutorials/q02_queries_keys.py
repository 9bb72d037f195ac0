# %% [markdown]
# # Question 2. Why separate W_Q and W_K?
#
# Attention makes two vectors of every place $i$ of a text: a **query** $q_i = W_Q x_i$, what the place looks for, and a
# **key** $k_i = W_K x_i$, what it can be found by. ($x_i$ has $D$ numbers, $q_i$ and $k_i$ have $K$.) The **score**
# $s_{ij} = q_i \cdot k_j / \sqrt{K}$ says how much $i$ wants to look at $j$. A softmax makes weights of the scores of
# $i$, positive and with the sum 1, and $i$ takes home the mean of what the places offer, by these weights. Would one
# matrix not do?
#
# **The usual answer:** "Two matrices are more flexible, since looking and being found are different roles. Sharing one
# may work too."
#
# **Predict.** Take one matrix for both, $W_Q = W_K$, with the usual random start, and a text of 16 random vectors. How
# much of its attention does a place give to *itself*? With two matrices it is one part in 16.
#
# ## What sharing means
# With one matrix, $s_{ij} = q_i \cdot q_j / \sqrt{K}$. Three things follow, whatever is learnt:
#
# 1. $s_{ij} = s_{ji}$: if I look at you, you look at me.
# 2. $s_{ii} = |q_i|^2 / \sqrt{K}$ is not around 0, as a score of two different places is, but around $\sqrt{K}$ if the
#    numbers in $q_i$ have variance 1: everybody starts by looking at themselves.
# 3. $s_{ii} + s_{jj} - 2 s_{ij} = |q_i - q_j|^2 / \sqrt{K} \ge 0$: if place $i$ gives a higher score to $j$ than to
#    itself, $s_{ij} > s_{ii}$, then $s_{jj} \ge 2 s_{ij} - s_{ii} > s_{ij}$: that of $j$ with itself is higher still.
#
# A table of scores like this is called **symmetric and positive semidefinite**: it equals its mirror image, and none of
# its eigenvalues is negative (the $\lambda$ of all vectors $v$ that the table only stretches, $S v = \lambda v$).

# %%
from itertools import product

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from minitransformer import lens
from tutorials import toys
from tutorials.lesson import claim, fast, show

SEEDS = range(fast(5, 3))
T = 16  # places in a text


def at_the_start(share_qk, seed):
    """The weights (T, T) of one head of 64 that has learnt nothing, on random vectors."""
    mg.manual_seed(seed)
    attention = mt.MultiHeadAttention(d_model=64, nhead=1, share_qk=share_qk).double()
    for part in (attention.q_proj, attention.k_proj):
        nn.init.xavier_uniform_(part.weight)  # the usual start: as much variance comes out as goes in
    x = mg.randn(1, T, 64).double()
    return lens.patterns(attention, x, x, x)["0"][0]


starts = {each: at_the_start(*each) for each in product((False, True), SEEDS)}

# %% [markdown]
# ## See it
# Weights before any training. A row is a place that looks, a column one that is looked at.

# %%
with draw.figure(6.5, 3, axes_grid=False) as fig:
    for axes, share in zip(fig.subplots(1, 2), (False, True)):
        image = axes.imshow(starts[share, 0], cmap="Blues", vmin=0, vmax=1)
        axes.set_title("one matrix, $W_Q = W_K$" if share else "two matrices")
        axes.set(xlabel="looked at", ylabel="looks", xticks=(0, 5, 10, 15), yticks=(0, 5, 10, 15))
    fig.colorbar(image, ax=fig.axes, label="weight")
on_self = {share: np.array([np.diag(starts[share, seed]).mean() for seed in SEEDS]) for share in (False, True)}
show(draw.Plot(fig, {"on oneself, two matrices": on_self[False], "one": on_self[True]}), "q02-start")

# %%
claim(
    "q02.1", "With one matrix, everybody begins by looking at themselves", "weight on oneself, one matrix less two",
    on_self[True] - on_self[False], "> 0.5", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## Measure: can it still learn?
# With one matrix nearly all attention begins on oneself. The task: at each place, say which token stood *one* place
# before, and which *three*. One layer, two **heads** (attentions side by side), $K = 16$, $D = 32$; nobody sees the
# future. "Who is one before me" is not symmetric, so one matrix should fail. To tell places apart, vectors are added to
# the tokens: **sinusoidal** ones are fixed and all of one length; **learned** ones are free. The third model is a
# proposal to save sharing (Reformer): keys are queries of one length, $k_j = q_j / |q_j|$, and nobody sees itself.


# %%
class SameLength(mt.Score):
    """s = q.k / |k|: the length of a key does not count."""

    def scores(self, q, k):
        """From q (B, H, T, K) and k (B, H, T, K) to (B, H, T, T)."""
        return q @ (k / (k * k).sum(dim=-1, keepdim=True).sqrt()).mT


PAST, NOT_SELF = np.tri(T, dtype=bool), np.tri(T, k=-1, dtype=bool)
NOT_SELF[0, 0] = True  # the first place has nobody else
TASK = toys.look_back(1, 3, T=T)
TEXTS = TASK(np.random.default_rng(7))[0]  # (B, T), to look at
KINDS = {"two matrices": (False, PAST), "one matrix": (True, PAST), "one, as in Reformer": (True, NOT_SELF)}


def trained(kind, positions, seed, steps=500):
    """A model, and how often its two answers are right."""
    share, mask = KINDS[kind]
    mg.manual_seed(seed)
    reader = toys.Reader(toys.small(nhead=2, share_qk=share, positions=positions), questions=2)
    if kind == "one, as in Reformer":
        reader.encoder.layers[0].self_attn.score = SameLength()
    toys.train(reader, TASK, steps=steps, lr=0.01, seed=seed, mask=mask)
    return reader, toys.accuracy(reader, TASK, mask=mask)


POSITIONS = ("sinusoidal", "learned")
found = {each: trained(*each) for each in product(KINDS, POSITIONS, SEEDS)}


# %%
def worse(kind, positions):
    """The share of right answers to the worse of the two questions, for each seed."""
    return np.array([found[kind, positions, seed][1].min() for seed in SEEDS])


with draw.figure(5.5, 2.6) as fig:
    axes = fig.subplots()
    for shift, positions, colour, marker in zip((-0.08, 0.08), POSITIONS, draw.COLOURS, draw.MARKERS):
        places = np.repeat(np.arange(3) + shift, len(SEEDS))
        right = np.concatenate([worse(kind, positions) for kind in KINDS])
        axes.plot(places, right, marker, color=colour, label=f"{positions} positions")
    axes.set(ylabel="right, worse of the questions", ylim=(0, 1.05), xlim=(-0.5, 2.5))
    axes.set_xticks(range(3), KINDS)
    axes.legend(loc="lower left")
show(draw.Plot(fig, {f"{kind}, {p}": worse(kind, p) for kind, p in product(KINDS, POSITIONS)}), "q02-learning")

# %%
[
    claim(
        f"q02.{number}", statement, f"worse question, {kind} less one matrix, sinusoidal positions",
        worse(kind, "sinusoidal") - worse("one matrix", "sinusoidal"), "> 0", "SUPPORTED", usual=number == 2,
    )
    for number, kind, statement in (
        (2, "two matrices", "Two matrices are more flexible than one"),
        (3, "one, as in Reformer", "Keys of one length and no self help a single matrix"),
    )
]  # fmt: skip

# %%
[
    claim(
        f"q02.{number}", f"Sharing works too ({kind}, {positions} positions)", "right, worse question",
        worse(kind, positions), "> 0.95", verdict, usual=number < 6,
    )
    for number, kind, positions, verdict in (
        (4, "one matrix", "sinusoidal", "REFUTED"),
        (5, "one matrix", "learned", "SUPPORTED"),
        (6, "one, as in Reformer", "sinusoidal", "REFUTED"),
    )
]  # fmt: skip

# %% [markdown]
# ## What can one matrix not make?
# Both matrices act together only: $s_{ij} = x_i^\top M x_j / \sqrt{K}$ with $M = W_Q^\top W_K$, a table $(D, D)$. It is
# the sum of a symmetric part $(M + M^\top)/2$ and an **antisymmetric** one, $(M - M^\top)/2$, which changes its sign if
# $i$ and $j$ change places: "I look at you, and you not at me". Their squares add up to those of $M$. One matrix makes
# symmetric $M$ without negative eigenvalues. How much of $M$ is like that with two?


# %%
def energies(reader):
    """Shares of |M|^2 of both heads: symmetric with eigenvalues >= 0, symmetric with those < 0, antisymmetric."""
    attention = reader.encoder.layers[0].self_attn
    w_q, w_k = (part.weight.data.reshape(2, 16, -1) for part in (attention.q_proj, attention.k_proj))  # (H, K, D)
    m = w_q.swapaxes(1, 2) @ w_k  # (H, D, D)
    roots = np.linalg.eigvalsh((m + m.swapaxes(1, 2)) / 2)
    parts = roots[roots > 0], roots[roots < 0], (m - m.swapaxes(1, 2)) / 2
    return [np.square(part).sum() / np.square(m).sum() for part in parts]


shares = {"two, untrained": np.array([energies(trained("two matrices", "learned", s, steps=0)[0]) for s in SEEDS])}
for kind, positions in product(("two matrices", "one matrix"), POSITIONS):
    shares[f"{kind[:3]}, {positions}"] = np.array([energies(found[kind, positions, seed][0]) for seed in SEEDS])
with draw.figure(7, 2.4) as fig:
    axes, names = fig.subplots(), ("symmetric, eigenvalues above 0", "symmetric, below 0", "antisymmetric")
    widths = np.array([rows.mean(axis=0) for rows in shares.values()]).T
    for name, width, end, colour, hatch in zip(names, widths, widths.cumsum(axis=0), draw.COLOURS, ("", "...", "///")):
        axes.barh(list(shares), width, 0.7, end - width, label=name, color=colour, hatch=hatch)
    axes.set(xlim=(0, 1), xlabel="share of the squares of $M$; one matrix can make the blue part only")
    axes.invert_yaxis()
    fig.legend(loc="outside upper center", ncols=3)
show(draw.Plot(fig, {name: rows.mean(axis=0).round(3) for name, rows in shares.items()}), "q02-parts")

# %%
claim(
    "q02.7", "Looking and being found are different roles", "what one could make of W_Q^T W_K, trained less untrained",
    (shares["two, learned"] - shares["two, untrained"])[:, 0], "< 0", "SUPPORTED", usual=True,
)  # fmt: skip

# %% [markdown]
# ## Why may one matrix succeed?
# Given two matrices, training moves away from what one can make. Yet with learned positions one answers everything.
# Look at what its heads do: which weight goes to oneself, and which to the place that the answer is taken from?


# %%
def preference(seed):
    """With one matrix, the weight on the place 3 back less that on oneself, in the head that sees 3 back best."""
    heads = lens.patterns(found["one matrix", "learned", seed][0], TEXTS).values()  # (B, T, S) each
    on_third, on_me = max((p.diagonal(-3, 1, 2).mean(), p.diagonal(0, 1, 2)[:, 3:].mean()) for p in heads)
    return on_third - on_me


claim(
    "q02.8", "One matrix succeeds since its heads look elsewhere after all", "weight 3 back less weight on oneself",
    [preference(seed) for seed in SEEDS], "> 0", "REFUTED",
    reason="Most weight is on oneself. But the own token is known, by the residual connection, and can be subtracted.",
)  # fmt: skip

# %% [markdown]
# The heads still look at themselves most, and take home a mixture of their own token and the wanted one. But the own
# token is known: the **residual connection** adds the input $x_i$ to what attention brings, so the linear map behind it
# can *subtract* it. Sharing is healed by another part of the layer. So take that part away: one head, one question (1
# back), no residual connection. Now the place before must get more weight than oneself, $s_{i,i-1} \ge s_{ii} + m$ with
# a margin $m > 0$, and point 3 says $s_{i-1,i-1} \ge 2 s_{i,i-1} - s_{ii} \ge s_{ii} + 2m$. Scores with oneself have to
# fall by $2m$ with every place. Do they?

# %%
lonely = []
for seed in SEEDS:
    mg.manual_seed(seed)
    reader = toys.Reader(toys.small(nhead=1, share_qk=True, residual=False))
    toys.train(reader, toys.look_back(1, T=T), steps=500, lr=0.01, seed=seed)
    print(f"seed {seed}: {toys.accuracy(reader, toys.look_back(1, T=T))[0]:.0%} right")
    with nn.capture(reader, "*.scores") as seen:
        reader(TEXTS)
    lonely.append(seen["encoder.layers.0.self_attn.scores"].data.diagonal(0, 2, 3).mean(axis=(0, 1)))  # s_ii (T,)
claim(
    "q02.9", "Without a residual connection, self-scores must fall along the text", "share of steps that go down",
    np.mean(np.diff(lonely) < 0, axis=1), "> 0.9", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## What the usual answer gets wrong, where it is right, and when
# - **Right:** two roles, two matrices. Of what two make together, one could make about a quarter before training, and a
#   sixth or less after it; and with one, everybody starts by looking at themselves.
# - **"Sharing may work too": it depends.** On the positions (free vectors: yes; sinusoids: no), and on a residual
#   connection that lets the rest of the layer subtract what attention should not have brought.
# - **Keys of one length and no self** (as in Reformer) help with sinusoids, from about 0.6 to 0.8, not all the way.
#   They were made for something else: finding places that are *alike*, which is a symmetric question.
#
# **Exercise.** Which one matrix comes nearest to what two make? `python -m tutorials.check q02`
#
# **References.** Vaswani et al. 2017, *Attention Is All You Need*, 3.2.2. Kitaev et al. 2020, *Reformer*, section 2.
