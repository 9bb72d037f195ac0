# %% [markdown]
# # Question 4. Why divide by sqrt(d_k)?
#
# In attention, every place of a text asks a **query** $q$, and offers a **key** $k$, both of $d_k$ numbers (or $K$, in
# other lessons). How well they match is their dot product $q \cdot k = \sum_i q_i k_i$, the **score**. A softmax turns
# the scores of one query, a **row** $s$, into positive weights of sum 1, $p_j = e^{s_j} / \sum_l e^{s_l}$. By these
# the query takes home a mean of **values** $v_j$. Vaswani et al. first divide each score by $\sqrt{d_k}$. Why?
#
# **The usual answer:** "For large $d_k$ dot products become large. They push the softmax into saturation, where its
# gradients vanish. Dividing by $\sqrt{d_k}$ keeps everything reasonable, whatever $d_k$ is."
#
# **Predict.** Take $d_k = 64$ and leave the division out. By what factor does the *average* length of a query's
# gradient change: 0.01? 0.2? 1? 4? Write it down.
#
# ## How large is a dot product?
# The usual answer skips this step. Let all $q_i$ and $k_i$ be independent, with mean 0 and variance 1 (how near a model
# is to that, card 12 tells). $E$ is the mean, and $\mathrm{Var}(x) = E[x^2] - E[x]^2$, so $E[q_i^2] = 1 + 0 = 1$. The
# mean of a product of independent numbers is the product of their means:
#
# $$E[q_i k_i] = E[q_i]\,E[k_i] = 0, \qquad
# \mathrm{Var}(q_i k_i) = E[q_i^2 k_i^2] - E[q_i k_i]^2 = E[q_i^2]\,E[k_i^2] - 0 = 1.$$
#
# The score is a sum of $d_k$ such products. If $i \ne j$, then $E[q_i k_i \cdot q_j k_j] = E[q_i k_i]\,E[q_j k_j] = 0$,
# so when the square of the sum is multiplied out, only the $d_k$ terms with $i = j$ are left:
#
# $$\mathrm{Var}(q \cdot k) = E\Big[\big(\sum_i q_i k_i\big)^2\Big] - 0 = \sum_i E[q_i^2 k_i^2] = d_k.$$
#
# The typical score is as large as its **standard deviation**, the root of the variance: $\sqrt{d_k}$. Divide by it, and
# scores have variance 1 for every $d_k$. Divided by $d_k$, they would have variance $1/d_k$, and fade.

# %%
from itertools import product

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from minitransformer import lens
from tutorials import toys
from tutorials.lesson import claim, fast, show

SIZES = (8, 16, 64, 256, 1024)  # of d_k
SEEDS = range(fast(5, 3))
NAMES = {"none": "nothing", "sqrt": "$\\sqrt{d_k}$", "d_k": "$d_k$"}  # what the scores are divided by
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
B, T = 16, 16  # texts in a batch, places in a text: queries as well as keys


def random_vectors(d_k, seed, T=T):
    """Queries, keys and values, and what to multiply the output by: all (B, 1 head, T, d_k), normal numbers."""
    mg.manual_seed(seed)
    return [mg.randn(B, 1, T, d_k) for _ in range(4)]


spread, divided = {}, {}
for d_k in SIZES:
    pairs = [random_vectors(d_k, seed)[:2] for seed in SEEDS]
    spread[d_k] = [(q @ k.mT).data.std() for q, k in pairs]
    divided[d_k] = [mt.ScaledDotProduct(d_k).scores(q, k).data.std() for q, k in pairs]
    print(f"d_k = {d_k:4}: standard deviation of q.k {np.mean(spread[d_k]):6.2f}, sqrt(d_k) {d_k**0.5:6.2f}")
[
    claim("q04.1", "The larger d_k, the larger the dot products", "standard deviation of q.k, d_k = 1024 over d_k = 16",
          np.divide(spread[1024], spread[16]), "> 7", "SUPPORTED", reason="sqrt(1024 / 16) = 8", usual=True),
    claim("q04.2", "Divided by sqrt(d_k), scores have variance 1 for every d_k", "|standard deviation - 1|, worst d_k",
          np.abs(np.array([*divided.values()]) - 1).max(axis=0), "< 0.15", "SUPPORTED", usual=True),
]  # fmt: skip

# %% [markdown]
# ## What does a softmax do to a gradient?
# Say the **loss** $L$, the number that training makes small, would change by $g_j = \partial L / \partial p_j$ per unit
# of weight $p_j$. How does it depend on the scores? Write $p_j = e^{s_j} / Z$ with $Z = \sum_l e^{s_l}$. One score
# $s_i$ moves $Z$ by $\partial Z / \partial s_i = e^{s_i}$, and $e^{s_j}$ only if $j = i$: by $\delta_{ij}\, e^{s_j}$,
# where $\delta_{ij} = 1$ if $i = j$, else 0. The rule for fractions, and then the chain rule over all weights:
#
# $$\frac{\partial p_j}{\partial s_i} = \frac{\delta_{ij}\, e^{s_j} Z - e^{s_j} e^{s_i}}{Z^2} = p_j(\delta_{ij} - p_i),
# \qquad \frac{\partial L}{\partial s_i} = \sum_j g_j \frac{\partial p_j}{\partial s_i} = (J g)_i, \quad
# J = \mathrm{diag}(p) - p\,p^\top.$$
#
# $J$ is the **Jacobian**, the table of all these slopes; $\mathrm{diag}(p)$ has $p$ on its diagonal. If one weight is 1
# and the others 0, each entry is 0, and nothing gets through. That is **saturation**. We call $|Jg| / |g|$ the **gain**
# of a row, and a row **dead** if it is below 0.001. `lens.saturation` measures both for every row, with a random $g$.
#
# ## See it
# Each curve: which share of the rows (upwards) has at most this gain (to the right)? Flat and far left is dead.


# %%
class Attention(nn.Module):
    """The attention of the paper from given queries, keys and values on, which shows its scores and weights."""

    taps = ("scores", "pattern")

    def __init__(self, d_k, scale):
        super().__init__()
        self.score = mt.ScaledDotProduct(d_k, scale)  # scale: "none", "sqrt" or "d_k"

    def forward(self, q, k, v):
        """From (B, 1, T, d_k) to (B, 1, T, d_k)."""
        return self.score(q, k, v, tap=self.tap)


rows = {}
for scale, d_k, seed in product(("none", "sqrt"), SIZES, SEEDS):
    rows[scale, d_k, seed] = lens.saturation(Attention(d_k, scale), *random_vectors(d_k, seed)[:3], seed=seed)[""]

with draw.figure(8, 3.1) as fig:
    for axes, scale in zip(fig.subplots(1, 2, sharey=True), ("none", "sqrt")):
        for d_k, colour, line in zip(SIZES, draw.COLOURS, LINES):
            gain = np.sort(np.concatenate([rows[scale, d_k, seed].gain.ravel() for seed in SEEDS]))
            axes.step(gain.clip(1e-8), np.arange(1, gain.size + 1) / gain.size, color=colour, ls=line, label=f"{d_k}")
        axes.axvline(1e-3, color=draw.GREY, lw=0.8)
        axes.text(8e-4, 0.97, "dead", ha="right", va="top", color=draw.GREY)
        axes.set(title=f"divided by {NAMES[scale]}", xlabel="gain of a row, |J g| / |g|", xscale="log", xlim=(1e-8, 1))
    fig.axes[0].set_ylabel("share of rows")
    fig.axes[1].legend(title="$d_k$", loc="center left")
show(draw.Plot(fig, {d_k: rows["none", d_k, 0].dead.mean() for d_k in SIZES}), "q04-ecdf")

# %%
dead = {key: float(of.dead.mean()) for key, of in rows.items()}
[
    claim("q04.3", "Large dot products push the softmax into saturation", "share of dead rows, d_k = 1024, not divided",
          [dead["none", 1024, seed] for seed in SEEDS], "> 0.5", "SUPPORTED", usual=True),
    claim("q04.4", "Dividing by sqrt(d_k) keeps the softmax alive for every d_k", "share of dead rows, worst d_k",
          [max(dead["sqrt", d_k, seed] for d_k in SIZES) for seed in SEEDS], "< 0.01", "SUPPORTED",
          reason="Before training, that is: see card 11.", usual=True),
]  # fmt: skip

# %% [markdown]
# ## Measure: do the gradients vanish?
# With scores $s_j = c\, q \cdot k_j$, where $c$ is the scale and $k_j$ a whole key, the gradient of the query is
# $c \sum_j (Jg)_j\, k_j$. No division does two things: it saturates rows, and it raises $c$ from $1/\sqrt{d_k}$ to 1.


# %%
def gradients(scale, d_k, seed, T=T):
    """How long the gradient of each query is, (B T,)."""
    q, k, v, weights = random_vectors(d_k, seed, T)
    Attention(d_k, scale)(q.requires_grad_(), k, v).backward(weights / d_k**0.5)  # each g_j has variance 1
    return np.linalg.norm(q.grad.numpy(), axis=-1).ravel()


lengths, numbers = {key: gradients(*key) for key in product(NAMES, SIZES, SEEDS)}, {}
with draw.figure(8, 3.0) as fig:
    for axes, of in zip(fig.subplots(1, 2, sharey=True), (np.mean, np.median)):
        for scale, colour, marker in zip(NAMES, draw.COLOURS, draw.MARKERS):
            typical = [np.mean([of(lengths[scale, d_k, seed]) for seed in SEEDS]) for d_k in SIZES]
            numbers[f"{of.__name__}, divided by {scale}"] = np.array(typical)
            axes.loglog(SIZES, typical, f"{marker}-", color=colour, label=NAMES[scale])
        axes.set(title=f"{of.__name__} length of a query's gradient", xlabel="$d_k$")
        axes.set_xticks(SIZES, SIZES)
    fig.axes[0].legend(title="divided by")
show(draw.Plot(fig, numbers), "q04-queries")

# %%
[
    claim(f"q04.{number}", statement, f"{of.__name__} length, over that divided by sqrt(d_k), d_k = {d_k}",
          [of(lengths[scale, d_k, s]) / of(lengths["sqrt", d_k, s]) for s in SEEDS], needs, verdict,
          reason=reason, usual=number == 5)
    for number, statement, of, scale, d_k, needs, verdict, reason in (
        (5, "Not divided, gradients of queries vanish on average", np.mean, "none", 64, "< 1", "REFUTED",
         "Rows that are not dead pass on sqrt(d_k) = 8 times as much."),
        (6, "Not divided, a typical query's gradient vanishes", np.median, "none", 1024, "< 0.1", "SUPPORTED", ""),
        (7, "To divide by d_k does as well", np.median, "d_k", 1024, "> 0.2", "REFUTED",
         "All weights are alike, and what comes through is multiplied by 1/d_k, a 32nd of 1/sqrt(d_k)."),
    )
]  # fmt: skip

# %%
for keys in (4, 16, 64):
    grown = [gradients("none", 64, s, keys).mean() / gradients("sqrt", 64, s, keys).mean() for s in SEEDS]
    print(f"d_k = 64, {keys} keys: mean length without the division, over that with it: {np.mean(grown):.1f}")

# %% [markdown]
# The mean grows, and the more keys there are, the more: queries torn between two keys have huge gradients. The larger
# $d_k$, the fewer they are: see the median. "Vanish" is about the *distribution*.
#
# ## Does it matter in training?
# One layer of attention with two heads, D = 64 numbers per place, must say which token stood one place before and
# which stood three before. Head sizes 8 and 128; undivided, divided by $\sqrt{d_k}$, and by $d_k$. A fourth model is
# undivided but begins with $W_Q$, the matrix that makes queries, divided by $\sqrt{d_k}$: it *starts* like the second.

# %%
RUNS = NAMES | {"none, small start": "nothing, small start"}
task, losses, before, after = toys.look_back(1, 3, T=12), {}, {}, {}


def taps(model):
    """Queries, keys and scores of a model on a batch of texts, by their names."""
    with nn.capture(model, "*.q", "*.k", "*.scores") as seen:
        model(task(np.random.default_rng(99))[0])
    return {name.rpartition(".")[2]: x.data for name, x in seen.items()}


for name, d_k, seed in product(RUNS, (8, 128), SEEDS):
    mg.manual_seed(seed)
    config = toys.small(d_model=64, nhead=2, head_dim=d_k, attention_scale=name.partition(",")[0])
    model = toys.Reader(config, questions=2)
    before[name, d_k, seed] = taps(model)
    if name == "none, small start":
        model.encoder.layers[0].self_attn.q_proj.weight.data *= d_k**-0.5
    losses[name, d_k, seed] = toys.train(model, task, steps=300, lr=0.01, seed=seed)
    after[name, d_k, seed] = taps(model)

with draw.figure(8, 3.0) as fig:
    for axes, d_k in zip(fig.subplots(1, 2, sharey=True), (8, 128)):
        for name, colour, line in zip(RUNS, draw.COLOURS, LINES):
            course = np.mean([losses[name, d_k, s] for s in SEEDS], axis=0)
            axes.plot(course, color=colour, ls=line, label=RUNS[name])
        axes.set(title=f"loss, $d_k$ = {d_k}, mean of {len(SEEDS)} seeds", xlabel="step", ylim=(0, 2.5))
    fig.axes[0].legend(title="divided by")
last = {key: float(np.mean(of[-20:])) for key, of in losses.items()}
show(draw.Plot(fig, last), "q04-training")

# %%
[
    claim(
        f"q04.{number}", f"Training suffers without the division, d_k = {d_k}", "last loss, not divided - divided",
        [last["none", d_k, s] - last["sqrt", d_k, s] for s in SEEDS], "> 0.5", verdict,
    )
    for number, d_k, verdict in ((8, 128, "SUPPORTED"), (9, 8, "REFUTED"))
]  # fmt: skip

# %%
[
    claim("q04.10", "It is enough to start like a divided one", "last loss, d_k = 128, W_Q small at the start",
          [last["none, small start", 128, s] for s in SEEDS], "< 0.5", "REFUTED",
          reason="Not divided, the same step of the optimiser moves the scores sqrt(d_k) times as far."),
    claim("q04.11", "Divided, the scores keep a standard deviation near 1", "standard deviation after training",
          [after["sqrt", 128, s]["scores"].std() for s in SEEDS], "< 2", "REFUTED",
          reason="Who wants to look at one place only needs large scores, and learns them."),
    claim("q04.12", "In the model, queries begin with variance 1", "variance of the numbers in q, d_k = 128",
          [before["sqrt", 128, s]["q"].var() for s in SEEDS], "> 0.9", "REFUTED",
          reason="W_Q begins uniform within 1/sqrt(D), variance 1/(3 D), and D products are summed: 1/3, for any d_k."),
]  # fmt: skip

# %% [markdown]
# ## What the usual answer gets wrong, where it is right, and when
# - **Right:** scores grow like $\sqrt{d_k}$, softmaxes saturate, at the start the division prevents it at every $d_k$.
# - **Wrong as said:** gradients do not vanish on average. For the queries the mean even *grows*, about fourfold at
#   $d_k = 64$; the median falls only for larger $d_k$. At 1024 three rows of four are dead.
# - **Left out:** the derivation, and its assumptions. Our model begins with $q$ and $k$ of variance 1/3; a trained head
#   may have scores far from variance 1, and be right. The division is about the start, and how far a step goes.
# - **When:** for heads of 8 it makes no difference that matters, here it is even a little slower; for 128 the undivided
#   model does not learn by steps of this size (by smaller ones it may, as Question 3 shows). Most heads have 64 to 128.
# - **Why not by $d_k$?** No row dies, but all weights are equal at first and gradients shrink with $d_k$: a slow start.
#
# **Exercise.** The gradient of a softmax, and the scale for vectors of any variance: `python -m tutorials.check q04`
#
# **References.** Vaswani et al. 2017, *Attention Is All You Need*, section 3.2.1 and its footnote on dot products.
