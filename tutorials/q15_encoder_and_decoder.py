# %% [markdown]
# # Question 15. How do encoder and decoder interact?
#
# A Transformer that translates has two halves. The **encoder** reads the source sentence, $S$ tokens. The **decoder**
# writes the target, $T$ tokens, one after the other. Where do they meet? And how did it go before Transformers?
#
# **The usual answer.** "They meet in cross-attention: the queries Q come from the decoder, the keys K and the values V
# from the encoder's output."
#
# The encoder's output is one vector per source token, a table $M$ $(S, D)$, called the **memory**. The decoder has
# $x$ $(T, D)$. Cross-attention (with one head, for short) is
#
# $$z = \mathrm{softmax}\left(\frac{Q K^\top}{\sqrt{d_k}}\right) V, \qquad
#   Q = x W_Q, \quad K = M W_K, \quad V = M W_V.$$
#
# Each target place has a **query** ($d_k$ numbers); each source token a **key**, by which it is found, and a **value**,
# what it says. Row $t$ of the softmax tells how much of every source token goes to the target place $t$.
#
# **Predict.** Training changes the encoder only through the memory, and the gradient arrives there in two ways: through
# the keys ("be found more easily") and through the values ("say something else"). In a model with random weights, what
# share of the gradient comes through the keys? And after training? Write down two numbers.

# %%
import time

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from minitransformer import lens
from tutorials import toys
from tutorials.lesson import claim, fast, show

V, T, STEPS = 8, 6, 180  # words, the numbers 3 to 10 (1 begins a sentence, 2 ends it); words in a sentence; of training
SEEDS = range(fast(5, 3))


def transformer(seed, N=1):
    """N layers in each half, two heads."""
    mg.manual_seed(seed)
    settings = {"nhead": 2, "activation": "relu", "positions": "sinusoidal", "num_encoder_layers": N}
    return mt.Transformer(toys.small(V + 2, **settings, num_decoder_layers=N))


source, target = np.array([[5, 6, 7, 8, 9]]), np.array([[1, 9, 8]])
models = [transformer(seed, N=2).double().eval() for seed in SEEDS]
found = [lens.dependency(model, source, target, seed=seed) for seed, model in enumerate(models)]

# %% [markdown]
# ## See it: what depends on what
# Down are results, across tokens. A circle on blue: the gradient is not exactly 0, or another token changes the result.

# %%
show(lens.dependency_matrices(found[0]), "q15-dependency")

# %% [markdown]
# The encoder sees *nothing* of the target: it is a one-way street.
#
# ## Measure: where do Q, K and V come from?
# We change one source token and look at the queries; then one target token, and look at keys and values.


# %%
def change(model, names, sources, targets):
    """How much the named numbers inside the model change from the first pair of sentences to the second."""
    seen = []
    for pair in zip(sources, targets):
        with nn.capture(model, *names) as taps:
            model(*pair)
        seen.append([taps[name].data for name in names])
    return max(np.abs(one - other).max() for one, other in zip(*seen))


q_first, q_second, kv = [], [], []
sources, targets = (source, np.where(source == 7, 4, source)), (target, np.where(target == 1, 4, target))
for model in models:
    first, second = (f"decoder.layers.{number}.cross_attn" for number in (0, 1))
    q_first.append(change(model, [f"{first}.q"], sources, (target, target)))
    q_second.append(change(model, [f"{second}.q"], sources, (target, target)))
    kv.append(change(model, [f"{at}.{name}" for at in (first, second) for name in "kv"], (source, source), targets))
[
    claim(
        "q15.1", "Keys and values come from the encoder's output", "their change with the target, two layers", kv,
        "== 0", "SUPPORTED", usual=True, reason="all layers of the decoder look at one memory, the last output",
    ),
    claim(
        "q15.2", "The queries come from the decoder", "their change with the source, first layer", q_first, "== 0",
        "SUPPORTED", usual=True,
    ),
    claim(
        "q15.3", "So queries know nothing of the source", "their change with the source, second layer", q_second,
        "== 0", "REFUTED", reason="what the first layer fetched is in x: the second asks a better question",
    ),
]  # fmt: skip

# %%
[
    claim(
        f"q15.{number}", statement, "pairs of places where it is otherwise",
        [(each[pair].depends != so).sum() for each in found], "== 0", "SUPPORTED",
    )
    for number, statement, pair, so in (
        (4, "The encoder sees nothing of the target", ("encoder", "target"), False),
        (5, "Each of its places sees the whole source", ("encoder", "source"), True),
        (6, "Each place of the decoder sees the whole source", ("decoder", "source"), True),
        (7, "It sees the target up to itself", ("decoder", "target"), np.tri(target.shape[1], dtype=bool)),
    )
]  # fmt: skip

# %% [markdown]
# ## The ancestor
# Before the Transformer, both halves were **recurrent networks**: one vector, the state, is changed by one token after
# the other (here by a GRU, a cell with gates that decide what to keep). At first the decoder got the last state of the
# encoder and nothing else: a whole sentence in one vector. Then Bahdanau, Cho and Bengio let it look back, with
#
# $$e_{tj} = v^\top \tanh(W s_{t-1} + U h_j), \qquad c_t = \sum_j \mathrm{softmax}(e_t)_j \, h_j.$$
#
# $W$, $U$ and $v$ are learnt. $s_{t-1}$, the decoder's state, is the query; $h_j$, the encoder's state at place $j$, is
# a value, and $U h_j$ its key. $c_t$ is what the decoder takes home. The same street, with another score.
#
# The task: write the sentence backwards. All have about equally many parameters, equal steps and learning rates. In
# "GRU alone" weights of attention are set to 0: the old way. "Right" is the share of words that are right when it
# writes alone; above 0.9 it can do it. Guessing gives $(6/8 + 1)/7 = 0.25$: the end is certain.


# %%
def gru(seed):
    """One recurrent layer in each half, with attention between them."""
    mg.manual_seed(seed)
    return mt.GRUSeq2Seq(mt.GRUConfig(src_vocab_size=V + 3, d_model=24, hidden_size=24, attention_size=24))


backwards = toys.writing(lambda x: x[:, ::-1], V, T)


def key_share(model):
    """The share of the gradient at the memory that comes through the keys, if it starts at random at the logits."""
    rng = np.random.default_rng(0)
    with mg.record(model) as rec, nn.capture(model, "*cross_attn.k"):  # one who looks inside: no fused operations
        logits = model(*backwards(rng)[0])
        logits.backward(rng.standard_normal(logits.shape).astype(logits.dtype))
    (edge,) = [row for row in rec.ledger("*cross_attn.k_proj.linear") if row.parent.startswith("encoder")]
    return edge.share


def train(make, edits, seed, steps=STEPS):
    """Train; the loss of every step, seconds of the processor, how much is right when it writes alone, the model."""
    model, began = make(seed), time.process_time()
    with nn.patch(model, edits):
        losses = toys.train(toys.Pair(model), backwards, steps, lr=5e-3, seed=seed)
        seconds = time.process_time() - began
        (src, _), labels = backwards(np.random.default_rng(1_000))
        written = mt.greedy(model, src, max_len=T + 1)
    written = np.pad(written, ((0, 0), (0, T + 1 - written.shape[1])))
    return losses, seconds, float((written == labels).mean()), model


KINDS = {
    "Transformer": (transformer, {}, draw.BLUE, "-"),
    "GRU + attention": (gru, {}, draw.ORANGE, "--"),
    "GRU alone": (gru, {"decoder.attention.pattern": lambda weights: 0 * weights}, draw.VERMILLION, ":"),
}
at_start = [key_share(transformer(seed)) for seed in SEEDS]
_ = [train(make, {}, 0, steps=3) for make in (transformer, gru)]  # so that no clock runs while kernels are compiled
runs = {name: [train(make, edits, seed) for seed in SEEDS] for name, (make, edits, *_) in KINDS.items()}
right = {name: [run[2] for run in rows] for name, rows in runs.items()}

# A step of the ancestor takes longer, as it reads and writes word by word. Once more, then, with equal time.
seconds = {name: sum(run[1] for run in rows) for name, rows in runs.items()}
steps = round(STEPS * seconds["Transformer"] / seconds["GRU + attention"])
equal_time = [train(gru, {}, seed, steps) for seed in SEEDS]
with draw.figure(8, 3) as fig:
    panels = fig.subplots(1, 2, sharey=True)
    for name, (_, _, colour, style) in KINDS.items():
        curve = np.mean([run[0] for run in runs[name]], axis=0)
        panels[0].plot(curve, color=colour, ls=style, label=f"{name}: {np.mean(right[name]):.0%} right")
    for name, rows in (("Transformer", runs["Transformer"]), ("GRU + attention", equal_time)):
        for run in rows:
            panels[1].plot(np.linspace(0, 1, len(run[0])), run[0], color=KINDS[name][2], ls=KINDS[name][3], lw=1)
    panels[0].set(xlabel="step", ylabel="loss", title="equal parameters, equal steps")
    panels[1].set(xlabel="share of the Transformer's time", title="equal parameters, equal time")
    panels[1].text(0.98, 2.5, f"GRU, {steps} steps:\n{np.mean([r[2] for r in equal_time]):.0%} right", ha="right")
    panels[0].legend(fontsize=draw.SMALL)
right["GRU + attention, equal time"] = [run[2] for run in equal_time]
show(draw.Plot(fig, {name: np.array(shares) for name, shares in right.items()}), "q15-training")

# %%
claim("q15.8", "The ancestor solves it, too", "right, equal steps", right["GRU + attention"], "> 0.9", "SUPPORTED")

# %%
claim(
    "q15.9", "It is the attention that does it, not the recurrence", "accuracy with attention minus without",
    list(np.subtract(right["GRU + attention"], right["GRU alone"])), "> 0.5", "SUPPORTED",
    reason="of the 0.75 between guessing and all, attention brings more than 0.5",
)  # fmt: skip

# %%
claim(
    "q15.10", "With equal time, the ancestor solves it as well", "right, in the Transformer's seconds",
    right["GRU + attention, equal time"], "> 0.9", "REFUTED", reason="it can do less than half of the steps",
)  # fmt: skip

# %% [markdown]
# Seconds differ from machine to machine. What cannot be programmed away is the longest chain of operations, each
# waiting for the one before. Is it longer for sentences twice as long? If not, the ratio is 1; if each word waits, 2.


# %%
def chain(model, T):
    """The longest chain of operations that wait for each other, forwards, for sentences of T tokens."""
    with mg.record(model, detail="definition") as rec:
        model(np.full((1, T), 5), np.full((1, T), 5))
    return toys.critical_path(rec)


growth = {make: [chain(make(0), 2 * n) / chain(make(0), n) for n in (6, 12, 24)] for make in (transformer, gru)}
claim(
    "q15.11", "The recurrence is a chain that grows with the text", "chain for 2 n words / for n, n = 6, 12, 24, GRU",
    growth[gru], "> 1.5", "SUPPORTED", seeds=[6, 12, 24], over="lengths",
    reason=f"of the Transformer: {growth[transformer]}",
)  # fmt: skip

# %% [markdown]
# ## The two ways into the memory: your two numbers

# %%
trained = [key_share(model) for *_, model in runs["Transformer"]]
[
    claim(
        "q15.12", "At the start the encoder learns mostly through the values", "share of the gradient through the keys",
        at_start, "< 0.5", "SUPPORTED", reason="scores are small, weights nearly equal: it matters little who is found",
    ),
    claim(
        "q15.13", "Training moves it to the keys", "share of the gradient through the keys, trained minus at the start",
        list(np.subtract(trained, at_start)), "> 0.2", "SUPPORTED", reason=f"{np.mean(trained):.2f} now",
    ),
]  # fmt: skip

# %% [markdown]
# **What the usual answer gets wrong, where it is right, and when.** It is right, word for word. It leaves out: each
# layer of the decoder asks anew, from the second on with queries that know of the source, and all ask one memory, the
# *last* output of the encoder. The memory never sees the target. And the idea is older than the Transformer: with as
# many *steps* the ancestor does as well here, in the same *time* it does not. *Writing*, both go word by word.
#
# **Exercise.** Cross-attention, and the two ways of its gradient: `python -m tutorials.check q15`
#
# **References.** A. Vaswani et al., *Attention Is All You Need* (2017), sections 3.1 and 3.2.3. D. Bahdanau, K. Cho and
# Y. Bengio, *Neural Machine Translation by Jointly Learning to Align and Translate* (2015), section 3. I. Sutskever,
# O. Vinyals and Q. V. Le, *Sequence to Sequence Learning with Neural Networks* (2014).
