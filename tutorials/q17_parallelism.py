# %% [markdown]
# # Question 17. Where is the parallelism? Can the decoder be parallel?
#
# A processor with thousands of units is of use only where thousands of things need not **wait** for one another. A
# Transformer reads a **source** text with its **encoder**, and its **decoder** writes a **target** text, word after
# word.
#
# **The usual answer:** "All positions, heads and the feed-forward network are computed in parallel, and so are the
# layers. Decoding is serial, some methods change that."
#
# **Predict.** We call two operations a chain if the second needs the result of the first. In a model with one layer the
# longest chain through the decoder has some 80 operations, while it reads a target of 4 words. How long is it with 16
# words? With four layers? And when it *writes* 16 words?
#
# ## The smallest code
# Every operation on tensors is recorded with its arguments. So we know who waits for whom, and the longest chain is
# found by walking once over the record. It is called the **critical path**: with as many processors as you like, this
# is the time that remains. A matrix product counts as one operation, be it large or small. `flops` counts the additions
# and multiplications of all, the **work**: the time that one processor needs.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from tutorials import toys
from tutorials.lesson import claim, fast, show

SEEDS = range(fast(5, 3))
LENGTHS = (2, 4, 8, 16)  # n, words of the target


def model(layers=1, heads=2):
    """A small Transformer for four words, 4 to 7; 1 and 2 begin and end a text."""
    sizes = {"d_model": 32, "nhead": heads, "dim_feedforward": 64, "dropout": 0.0, "positions": "learned"}
    depth = {"num_encoder_layers": layers, "num_decoder_layers": layers, "max_len": 32}
    return mt.Transformer(mt.TransformerConfig(src_vocab_size=8, **sizes, **depth)).eval()


def cost(module, call):
    """Of a call: operations in the longest chain, and the work of all."""
    with mg.record(module, detail="definition") as rec:
        call()
    length = {}
    for step in rec.steps:
        own = 0 if step.is_leaf or step.outside else 1
        length[step] = own + max((length[edge.parent] for edge in step.inputs), default=0)
    return np.array([max(length.values()), sum(step.flops for step in rec.steps if not step.is_leaf)])


# %% [markdown]
# Three ways through the decoder. In training the whole target is known, and the decoder reads it **in one pass** (a
# mask hides from each place what comes after). Writing, it must know word $t$ before it can begin with $t + 1$. It may
# read all again for each word, **n growing passes**, or keep the keys and values that attention has made of earlier
# words, and compute only what is new: a **KV cache**. The choice of a word is not on the tape, so we add up the calls.


# %%
def ways(net, n):
    """Longest chain and work, (2,), of three ways to get n words through the decoder."""
    rng = np.random.default_rng(n)
    src, tgt = rng.integers(4, 8, (1, 8)), rng.integers(4, 8, (1, n))
    memory, mask, cache = net.encode(src), net.padding_mask(src), net.new_cache()
    parts = [tgt[:, : t + 1] for t in range(n)]
    return {
        "one pass": cost(net, lambda: net.decode(tgt, memory, mask)),
        "growing passes": sum(cost(net, lambda part=part: net.decode(part, memory, mask)) for part in parts),
        "KV cache": sum(cost(net, lambda part=part: net.decode(part, memory, mask, cache)) for part in parts),
    }


small = model()
found = {n: ways(small, n) for n in LENGTHS}
LOOKS = {"one pass": (draw.BLUE, "o-"), "growing passes": (draw.VERMILLION, "s-"), "KV cache": (draw.GREEN, "^--")}
with draw.figure(7.5, 3) as fig:
    for part, (axes, title) in enumerate(zip(fig.subplots(1, 2), ("longest chain", "work"))):
        for name, (colour, look) in LOOKS.items():
            axes.plot(LENGTHS, [found[n][name][part] for n in LENGTHS], look, color=colour, label=name)
        axes.set(xscale="log", yscale="log", xlabel="words n", ylabel="operations", title=title)
        axes.set_xticks(LENGTHS, LENGTHS)
        axes.minorticks_off()
    axes.legend()
show(draw.Plot(fig, found), "q17-chains")

# %% [markdown]
# Left: reading is as fast for 16 words as for 2, if only there are processors enough. Writing takes a chain for every
# word. **The cache does not shorten it**: left, its line lies on that of the growing passes. It saves *work*, right.
#
# ## Measure
# What does the chain grow with? Words, heads, layers, one at a time. (The seeds of these cards are what we vary.)

# %%
READ, WRITE = ([found[n][name][0] for n in LENGTHS] for name in ("one pass", "KV cache"))
claim(
    "q17.1", "Positions are computed in parallel, in training also those of the decoder", "longest chain of one pass, "
    "n words over 2 words", [chain / READ[0] for chain in READ[1:]], "== 1", "SUPPORTED", seeds=LENGTHS[1:],
    usual=True,
)  # fmt: skip

# %%
one_head = ways(model(heads=1), 4)["one pass"][0]
claim(
    "q17.2", "Heads are computed in parallel", "longest chain of 2, 4, 8 heads over that of one",
    [ways(model(heads=heads), 4)["one pass"][0] / one_head for heads in (2, 4, 8)], "== 1", "SUPPORTED",
    seeds=[2, 4, 8], usual=True,
)  # fmt: skip

# %%
ffn = mt.FeedForward(d_model=32, dim_feedforward=64)
chains = [cost(ffn, lambda n=n: ffn(mg.randn(1, n, 32)))[0] for n in (1, *LENGTHS)]
claim(
    "q17.3", "The feed-forward network works at all positions in parallel", "its chain at n words over that at one",
    [chain / chains[0] for chain in chains[1:]], "== 1", "SUPPORTED", seeds=LENGTHS, usual=True,
)  # fmt: skip

# %%
deep = {layers: ways(model(layers), 4)["one pass"][0] for layers in (1, 2, 4)}
print({layers: int(chain) for layers, chain in deep.items()})
claim(
    "q17.4", "Layers are computed in parallel", "longest chain of 2 and of 4 layers over that of one",
    [deep[layers] / deep[1] for layers in (2, 4)], "< 1.5", "REFUTED", seeds=[2, 4], usual=True,
    reason="Each layer needs the result of the one below: depth is what a Transformer cannot do at once.",
)  # fmt: skip

# %%
claim(
    "q17.5", "Decoding is serial", "longest chain of n words with a cache, over n times that of one pass",
    [chain / (n * READ[0]) for n, chain in zip(LENGTHS, WRITE)], "> 0.9", "SUPPORTED", seeds=LENGTHS, usual=True,
)  # fmt: skip

# %%
ratio = {n: found[n]["KV cache"] / found[n]["growing passes"] for n in LENGTHS}
claim(
    "q17.6", "A KV cache changes that: it shortens the chain", "longest chain with cache over that without",
    [ratio[n][0] for n in LENGTHS], "< 0.9", "REFUTED", seeds=LENGTHS, usual=True,
)  # fmt: skip

# %%
claim(
    "q17.7", "A KV cache saves work", "work with cache over work without, 8 and 16 words",
    [ratio[n][1] for n in (8, 16)], "< 0.7", "SUPPORTED", seeds=[8, 16],
)  # fmt: skip

# %% [markdown]
# ## A way out: guess, and let the guess be corrected
# Greedy decoding, always the most probable word, solves $y_t = f_t(y_1, \dots, y_{t-1})$, one equation after the other.
# **Jacobi's method** guesses all $y_t$, puts the guess into all right-hand sides at once (*one* pass: it reads), takes
# what comes out as the next guess, and stops when nothing changes. The first word is right after one call, the second
# after two at the latest, and so on: never more calls than words, and the same text. Fewer calls, if a model can say
# later words without knowing its own earlier ones. We train two models. One **copies** its source of 12 words. The
# other writes **running sums**: $y_t = (y_{t-1} + x_t)$ modulo 4, for words $x_t$ that are the numbers 0 to 3.


# %%
class Taught(nn.Module):
    """A Transformer that is given source and target as one argument, which is how `toys.train` trains."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, pair):
        """From tokens ((B, S), (B, T)) to logits (B, T, V)."""
        return self.net(*pair)


def writing(rule):
    """The task to write rule(x) for words x (32, 12)."""

    def task(rng):
        x = rng.integers(0, 4, (32, 12))
        y, end = rule(x) + 4, np.full((32, 1), 2)
        return (x + 4, np.concatenate([end - 1, y], axis=1)), np.concatenate([y, end], axis=1)

    return task


TASKS = {
    "copy": (writing(lambda x: x), 500, 1e-2),
    "running sums": (writing(lambda x: x.cumsum(axis=1) % 4), 1000, 5e-3),
}
right, calls, differ = ({name: [] for name in TASKS} for _ in range(3))
for name, (task, steps, lr) in TASKS.items():
    for seed in SEEDS:
        mg.manual_seed(seed)
        net = model()
        toys.train(Taught(net), task, steps, lr=lr, seed=seed)
        (src, _), labels = task(np.random.default_rng(99))
        written = [mt.greedy(net, text[None], max_len=13)[0] for text in src]
        found_by = [mt.jacobi(net, text[None], max_len=13, window=13) for text in src]
        right[name].append(np.mean([np.array_equal(y, label) for y, label in zip(written, labels)]))
        calls[name].append(np.mean([by.calls / len(y) for y, by in zip(written, found_by)]))
        differ[name].append(sum(not np.array_equal(y, by.tokens[0]) for y, by in zip(written, found_by)))
with draw.figure(6, 1.8) as fig:
    axes = fig.subplots()
    for row, (name, colour, marker) in enumerate(zip(TASKS, (draw.BLUE, draw.VERMILLION), "os")):
        axes.plot(calls[name], [row] * len(SEEDS), marker, color=colour, ms=6)
    axes.axvline(1, color=draw.GREY, ls="--")
    axes.set_yticks(range(len(TASKS)), list(TASKS))
    axes.set(xlabel="calls of Jacobi for each word (dashed: greedy)", xlim=(0, 1.05), ylim=(1.5, -0.5))
show(draw.Plot(fig, {"calls": calls, "right": right}), "q17-jacobi")

# %%
claim(
    "q17.8", "Jacobi's method writes what greedy decoding writes", "texts of 64 that differ",
    [a + b for a, b in zip(*differ.values())], "== 0", "SUPPORTED",
)  # fmt: skip

# %%
claim(
    "q17.9", "Some methods change that: fewer calls than words (copy)", "calls for each word", calls["copy"], "< 0.75",
    "SUPPORTED", usual=True, reason="each word is in the source; place t need not know what was written before",
)  # fmt: skip

# %%
claim(
    "q17.10", "Some methods change that: fewer calls than words (running sums)", "calls for each word",
    calls["running sums"], "< 0.75", "REFUTED", usual=True, reason="each word needs the one before; the rest is luck",
)  # fmt: skip

# %% [markdown]
# ## Many machines, on paper
# There is one more direction: texts. Give each of $p$ machines $B / p$ texts of a batch of $B$, let each compute its
# gradient, and take the mean. That is the gradient of the batch (if no BatchNorm mixes the texts): a mean of all is the
# mean of the means of equal parts.
#
# Say that a step takes one machine the time $C$. To pass a gradient of $P$ numbers around a ring of $p$ machines that
# send $R$ numbers a second takes $2 P (p - 1) / (p R)$. Then a step takes
#
# $$\frac{C}{p} + \frac{2 P}{R} \cdot \frac{p - 1}{p}.$$
#
# The first part shrinks, the second does not: more machines help up to about $p = C R / 2 P$. Larger batches (larger
# $C$) are divided well, large models on slow wires badly.
#
# ## What the usual answer gets wrong, where it is right, and when
# - **Right:** positions, heads, feed-forward network: the chain does not know how many there are. In training this
#   holds for the decoder too, since the target is known and a mask does what waiting would.
# - **Wrong:** layers. They wait for each other; twice as deep is twice as long. (A *pipeline* lets layer 2 work on one
#   text while layer 1 works on the next. More texts at a time, no text sooner.)
# - **Writing is serial**, and a KV cache leaves it so: it saves work. Guess and correct gives the same text in fewer
#   calls **when** words depend on the source more than on each other, and hardly fewer when each needs the last. It
#   pays only where processors are idle: every call computes all places that are open.
#
# Chains count a sum of $n$ numbers as one operation. Really it takes $\log_2 n$ additions after each other, at best.
#
# **Exercise.** Find a critical path, and decode by Jacobi's method: `python -m tutorials.check q17`
#
# **References.** Vaswani et al. 2017, *Attention Is All You Need*, section 4 and table 1. Santilli et al. 2023,
# *Accelerating Transformer Inference for Translation via Parallel Decoding*.
