# %% [markdown]
# # Question 2. Why separate W_Q and W_K?
#
# Attention makes two vectors of every place $i$ of a text: a **query** $q_i = W_Q x_i$, what the place looks for, and a
# **key** $k_i = W_K x_i$, what it can be found by. ($x_i$ has $D$ numbers, $q_i$ and $k_i$ have $K$.) The **score**
# $s_{ij} = q_i \cdot k_j / \sqrt{K}$ says how much $i$ wants to look at $j$; a softmax makes weights of it.
# Would one matrix not do?
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
# 3. $s_{ii} + s_{jj} - 2 s_{ij} = |q_i - q_j|^2 / \sqrt{K} \ge 0$: a place that looks at me more than at itself
#    ($s_{ij} > s_{ii}$) has less to say for itself than I have ($s_{jj} > s_{ij} > s_{ii}$).
#
# A table of scores like this is called **symmetric and positive semidefinite**: none of its eigenvalues is negative.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from tutorials import toys
from tutorials.lesson import claim, fast, show

SEEDS = range(fast(5, 3))
T = 16  # places in a text


def at_the_start(share_qk, seed):
    """Scores (T, T) and weights of one head of 64 that has learnt nothing, on random vectors."""
    mg.manual_seed(seed)
    attention = mt.MultiHeadAttention(d_model=64, nhead=1, share_qk=share_qk).double()
    for part in (attention.q_proj, attention.k_proj):
        nn.init.xavier_uniform_(part.weight)  # the usual start: as much variance comes out as goes in
    x = mg.randn(1, T, 64).double()
    with nn.capture(attention, "scores", "pattern") as seen:
        attention(x, x, x)
    return seen["scores"].data[0, 0], seen["pattern"].data[0, 0]


starts = {(share, seed): at_the_start(share, seed) for share in (False, True) for seed in SEEDS}

# %% [markdown]
# ## See it
# Weights before any training. A row is a place that looks, a column one that is looked at.

# %%
with draw.figure(6.5, 3, axes_grid=False) as fig:
    for axes, share in zip(fig.subplots(1, 2), (False, True)):
        image = axes.imshow(starts[share, 0][1], cmap="Blues", vmin=0, vmax=1)
        axes.set_title("one matrix, $W_Q = W_K$" if share else "two matrices")
        axes.set(xlabel="looked at", ylabel="looks", xticks=(0, 5, 10, 15), yticks=(0, 5, 10, 15))
    fig.colorbar(image, ax=fig.axes, label="weight")
self_weight = {key: float(np.diag(weights).mean()) for key, (_, weights) in starts.items()}
show(draw.Plot(fig, self_weight), "q02-start")

# %%
claim(
    "q02.1", "With one matrix, who looks is looked at as much", "largest |s_ij - s_ji|",
    [abs(starts[True, seed][0] - starts[True, seed][0].T).max() for seed in SEEDS], "< 1e-12", "SUPPORTED",
    reason=f"Least eigenvalue {min(np.linalg.eigvalsh(starts[True, seed][0])[0] for seed in SEEDS):.0e}.",
)  # fmt: skip

# %%
claim(
    "q02.2", "With one matrix, everybody begins by looking at themselves", "weight on oneself, one matrix less two",
    [self_weight[True, seed] - self_weight[False, seed] for seed in SEEDS], "> 0.5", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## Measure: can it still learn?
# The task: at each place, say which token stood *one* place before, and which *three*. One layer, two heads of 16,
# nobody sees the future. "Who is one before me" is not symmetric, so one matrix should fail. We try two kinds of
# position vectors, which are added to the tokens: **sinusoidal** ones are fixed and all of the same length; **learned**
# ones are free.
#
# The third model is a proposal to save sharing (Reformer, Kitaev et al. 2020): keys are the queries brought to one
# length, $k_j = q_j / |q_j|$, and nobody may look at themselves.


# %%
class SameLength(mt.Score):
    """s = q.k / |k|: the length of a key does not count."""

    def scores(self, q, k):
        """From q (B, H, T, K) and k (B, H, T, K) to (B, H, T, T)."""
        return q @ (k / (k * k).sum(dim=-1, keepdim=True).sqrt()).mT


PAST = np.tri(T, dtype=bool)
NOT_SELF = PAST & ~np.eye(T, dtype=bool)
NOT_SELF[0, 0] = True  # the first place has nobody else
TASK = toys.look_back(1, 3, T=T)
KINDS = {"two matrices": (False, PAST), "one matrix": (True, PAST), "one, as in Reformer": (True, NOT_SELF)}


def trained(kind, positions, seed):
    """A model, and how often its two answers are right."""
    share, mask = KINDS[kind]
    mg.manual_seed(seed)
    reader = toys.Reader(toys.small(nhead=2, share_qk=share, positions=positions), questions=2)
    if kind == "one, as in Reformer":
        reader.encoder.layers[0].self_attn.score = SameLength()
    toys.train(reader, TASK, steps=500, lr=0.01, seed=seed, mask=mask)
    return reader, toys.accuracy(reader, TASK, mask=mask)


found = {
    (kind, positions, seed): trained(kind, positions, seed)
    for kind in KINDS
    for positions in ("sinusoidal", "learned")
    for seed in SEEDS
}

# %%
with draw.figure(7.5, 3) as fig:
    for axes, positions in zip(fig.subplots(1, 2, sharey=True), ("sinusoidal", "learned")):
        for question, (colour, marker) in enumerate(((draw.BLUE, "o"), (draw.VERMILLION, "s"))):
            for place, kind in enumerate(KINDS):
                shares = [found[kind, positions, seed][1][question] for seed in SEEDS]
                x = place + 0.24 * question - 0.12 + 0.02 * (np.arange(len(SEEDS)) - 1)
                axes.plot(x, shares, marker, color=colour, label=None if place else f"{(1, 3)[question]} back")
        axes.set(title=f"{positions} positions", ylim=(0, 1.05), xlim=(-0.5, 2.5))
        axes.set_xticks(range(3), ["two\nmatrices", "one\nmatrix", "one, as in\nReformer"])
    fig.axes[0].set_ylabel("share of right answers")
    fig.axes[0].legend(title="the token", loc="lower left")
show(draw.Plot(fig, {key: value[1].round(2) for key, value in found.items() if key[2] == 0}), "q02-learning")


# %%
def worse(kind, positions):
    """The share of right answers to the worse of the two questions, for each seed."""
    return np.array([found[kind, positions, seed][1].min() for seed in SEEDS])


claim(
    "q02.3", "Two matrices are more flexible than one", "worse question, two matrices less one, sinusoidal positions",
    worse("two matrices", "sinusoidal") - worse("one matrix", "sinusoidal"), "> 0.1", "SUPPORTED", usual=True,
)  # fmt: skip

# %%
for number, kind, positions, verdict in (
    (4, "one matrix", "sinusoidal", "REFUTED"),
    (5, "one matrix", "learned", "SUPPORTED"),
    (6, "one, as in Reformer", "sinusoidal", "REFUTED"),
):
    statement = f"Sharing works too ({kind}, {positions} positions)"
    values = worse(kind, positions)
    print(claim(f"q02.{number}", statement, "right, worse question", values, "> 0.95", verdict, usual=number < 6))

# %% [markdown]
# ## Why may one matrix succeed?
# With learned positions one matrix answers everything. Did we not see that it cannot? Look at what its heads do: which
# weight goes to oneself, and which to the place that the answer is taken from?


# %%
def seen_by(reader):
    """Scores and weights (B, H, T, T) of a reader on a batch of texts."""
    with nn.capture(reader, "*.scores", "*.pattern") as seen:
        reader(TASK(np.random.default_rng(7))[0])
    return (next(x.data for name, x in seen.items() if name.endswith(end)) for end in (".scores", ".pattern"))


def roles(seed):
    """Of the scores with two matrices, the share that is antisymmetric: what is new if i and j change places."""
    scores, _ = seen_by(found["two matrices", "learned", seed][0])
    return np.square(scores - scores.swapaxes(2, 3)).sum() / 4 / np.square(scores).sum()


def preference(seed):
    """With one matrix, the weight on the place 3 back less that on oneself, in the head that sees 3 back best."""
    _, weights = seen_by(found["one matrix", "learned", seed][0])
    on_self, on_third = (weights.diagonal(-k, 2, 3)[..., 3 - k :].mean(axis=(0, 2)) for k in (0, 3))
    return (on_third - on_self)[on_third.argmax()]


claim(
    "q02.7", "Looking and being found are different roles", "antisymmetric share of scores, two matrices",
    [roles(seed) for seed in SEEDS], "> 0.1", "SUPPORTED", usual=True,
)  # fmt: skip

# %%
claim(
    "q02.8", "One matrix succeeds since its heads look elsewhere after all", "weight 3 back less weight on oneself",
    [preference(seed) for seed in SEEDS], "> 0", "REFUTED",
    reason="Most weight is on oneself. But the own token is known, by the residual connection, and can be subtracted.",
)  # fmt: skip

# %% [markdown]
# The heads still look at themselves most. They take home a mixture of their own token and the wanted one. But the own
# token is known: the **residual connection** adds the input $x_i$ to what attention brings, so the linear map behind it
# can *subtract* the own token, and the wanted one is left. Sharing is healed by another part of the layer.
#
# So take that part away. One head, one question (1 back), no residual connection. Now the place before must get more
# weight than oneself, $s_{i,i-1} \ge s_{ii} + m$ with a margin $m > 0$, and then point 3 says
#
# $$s_{i-1,i-1} \;\ge\; 2 s_{i,i-1} - s_{ii} \;\ge\; s_{ii} + 2m.$$
#
# Self-scores have to fall by $2m$ with every place: long vectors at the beginning, short ones at the end. Do they?

# %%
lonely = {}
for residual in (True, False):
    for seed in SEEDS:
        mg.manual_seed(seed)
        reader = toys.Reader(toys.small(nhead=1, share_qk=True, residual=residual))
        toys.train(reader, toys.look_back(1, T=T), steps=500, lr=0.01, seed=seed)
        scores, _ = seen_by(reader)
        lonely[residual, seed] = scores[:, 0].diagonal(0, 1, 2).mean(axis=0)  # s_ii (T,)

with draw.figure(5.5, 2.8) as fig:
    axes = fig.subplots()
    for residual, colour, look in ((True, draw.BLUE, "o-"), (False, draw.VERMILLION, "s--")):
        for seed in SEEDS:
            label = ("residual" if residual else "no residual") if seed == 0 else None
            axes.plot(lonely[residual, seed], look, color=colour, ms=3, lw=1, label=label)
    axes.set(xlabel="place $i$", ylabel="score with itself, $s_{ii}$", title="one matrix, trained to look 1 back")
    axes.legend()
show(draw.Plot(fig, {key: value.round(1) for key, value in lonely.items() if key[1] == 0}), "q02-self-scores")

# %%
claim(
    "q02.9", "Without a residual connection, self-scores must fall along the text", "share of steps that go down",
    [np.mean(np.diff(lonely[False, seed]) < 0) for seed in SEEDS], "> 0.9", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## What the usual answer gets wrong, where it is right, and when
# - **Right:** two roles, two matrices. A third or so of what two matrices learn here is antisymmetric, out of reach for
#   one; and with one, everybody starts by staring at themselves.
# - **"Sharing may work too": it depends.** On the positions (free vectors: yes; sinusoids: no), and on a residual
#   connection that lets the rest of the layer subtract what attention should not have brought.
# - **Keys of one length and no self** (as in Reformer) help with sinusoids, from about 0.6 to 0.8, not all the way.
#   They were made for something else: finding places that are *alike*, which is a symmetric question.
#
# **Exercise.** What do two matrices make together? `tutorials/exercises/q02.py`; `python -m tutorials.check q02`.
#
# **References.** Vaswani et al. 2017, *Attention Is All You Need*, section 3.2.2. Kitaev, Kaiser and Levskaya 2020,
# *Reformer: The Efficient Transformer*, section 2.
