# %% [markdown]
# # Question 17. Where is the parallelism? Can the decoder be parallel?
#
# A processor with thousands of units is of use only where thousands of things need not **wait** for one another. A
# Transformer reads a **source** with its **encoder**, and its **decoder** writes a **target**, word after word.
#
# **The usual answer:** "All positions, heads and the feed-forward network are computed in parallel, and so are the
# layers. Decoding is serial, some methods change that."
#
# **Predict.** Operations are a **chain** if each needs the result of the one before. In a model with one layer the
# longest chain through the decoder has 86 operations, while it *reads* a target of 4 words. How long is it with 16
# words? With four layers? And when it *writes* 16 words? Write down three numbers.
#
# ## The smallest code
# Every operation on tensors is recorded on a **tape**, in order, with its arguments. So we know who waits for whom. Let
# $c_i$ be the longest chain that ends with operation $i$; if it uses the results of the operations $j \in U_i$, then
#
# $$c_i = 1 + \max_{j \in U_i} c_j, \qquad \text{the longest of all: } \max_i c_i .$$
#
# One walk along the tape gives it (`toys.critical_path`; the exercise is to write it). It is called the **critical
# path**: with as many processors as you like, this is the time that remains. A matrix product counts as one operation.
# `flops` counts the additions and multiplications of all, the **work**: the time that one processor needs.

# %%
from functools import partial
from timeit import repeat

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw
from tutorials import toys
from tutorials.lesson import claim, fast, show

SEEDS = range(fast(5, 3))
LENGTHS = (1, 2, 4, 8, 16)  # n, words of the target


def model(layers=1, heads=2):
    """A small Transformer for four words, 3 to 6; 1 and 2 begin and end a text."""
    depth = {"num_encoder_layers": layers, "num_decoder_layers": layers}
    return mt.Transformer(toys.small(6, nhead=heads, activation="relu", max_len=32, **depth)).eval()


def cost(module, n, make):
    """Of the calls of make(), with n results in all: longest chains, work, milliseconds, and the results (n, D)."""
    seconds, rows = min(repeat(lambda: [call() for call in make()], number=1, repeat=5)), []
    for call in (calls := make()):
        with mg.record(module, detail="definition") as rec:
            new = call().data[0, -(n // len(calls)) :]
        rows.append((toys.critical_path(rec), sum(step.flops for step in rec.steps if not step.is_leaf), new))
    chains, work, results = zip(*rows)
    return sum(chains), sum(work), 1000 * seconds, np.concatenate(results)


# %% [markdown]
# Three ways through the decoder. In training the whole target is known, and the decoder reads it **in one pass** (a
# mask hides from each place what comes after). Writing, it must know word $t$ before it can begin with $t + 1$. It may
# read all again for each word, **n growing passes**, or keep the keys and values that attention has made of earlier
# words, and compute only what is new: a **KV cache**. The choice of a word is not on the tape, so we add up the calls.


# %%
def ways(net, n):
    """Longest chain, work, milliseconds and logits (n, V) of three ways to get n words through the decoder."""
    rng = np.random.default_rng(n)
    src, tgt = rng.integers(3, 7, (1, 8)), rng.integers(3, 7, (1, n))
    memory, mask = net.encode(src), net.padding_mask(src)

    def calls(first, cache=None):
        return [partial(net.decode, tgt[:, :t], memory, mask, cache) for t in range(first, n + 1)]

    return {
        "one pass": cost(net, n, lambda: calls(n)),
        "growing passes": cost(net, n, lambda: calls(1)),
        "KV cache": cost(net, n, lambda: calls(1, net.new_cache())),
    }


small = model()
found = {n: ways(small, n) for n in LENGTHS}
LOOKS = {"one pass": (draw.BLUE, "o-"), "growing passes": (draw.VERMILLION, "s-"), "KV cache": (draw.GREEN, "^--")}
with draw.figure(9, 3) as fig:
    titles = ("longest chain, operations", "work, flops", "time here, milliseconds")
    for part, (axes, title) in enumerate(zip(fig.subplots(1, 3), titles)):
        for name, (colour, look) in LOOKS.items():
            axes.plot(LENGTHS, [found[n][name][part] for n in LENGTHS], look, color=colour, label=name)
        axes.set(xscale="log", yscale="log", xlabel="words n", title=title)
        axes.set_xticks(LENGTHS, LENGTHS)
        axes.minorticks_off()
    axes.legend()
numbers = {f"{name}: chain, work, time": np.array([each[name][:3] for each in found.values()]) for name in LOOKS}
show(draw.Plot(fig, numbers), "q17-chains")

# %% [markdown]
# Left: reading is as fast for 16 words as for one, with processors enough: a chain of 86. Writing takes one for each
# word, 1391 in all. **The cache does not shorten it**: its line lies on that of the growing passes. It saves *work*.
# Right, the clock: a model as small as this spends its time on *starting* operations, not on what they do. So the time
# goes by the chain, and a cache costs more than it saves. (Not with large matrices, I expect; try $D = 512$.)
#
# ## Measure: what does the chain grow with?

# %%
ffn = mt.FeedForward(d_model=32, dim_feedforward=64)
words = {n: found[n]["one pass"][0] for n in LENGTHS}
heads = {number: ways(model(heads=number), 4)["one pass"][0] for number in (1, 2, 4, 8)}
ffns = {n: cost(ffn, n, lambda n=n: [lambda: ffn(mg.randn(1, n, 32))])[0] for n in LENGTHS}
layers = {depth: ways(model(depth), 4)["one pass"][0] for depth in (1, 2, 3, 4)}
[
    claim(
        f"q17.{number}", statement, "longest chain of one pass, over that with one",
        [chains[n] / chains[1] for n in chains if n > 1], "== 1", verdict, seeds=[n for n in chains if n > 1],
        over=over, usual=True, reason=reason,
    )
    for number, statement, chains, over, verdict, reason in (
        (1, "Positions are computed in parallel", words, "lengths", "SUPPORTED", "those of the decoder in training"),
        (2, "Heads are computed in parallel", heads, "numbers of heads", "SUPPORTED", ""),
        (3, "The feed-forward network takes all positions in parallel", ffns, "lengths", "SUPPORTED", ""),
        (4, "Layers are computed in parallel", layers, "depths", "REFUTED", "each needs the result of the one below"),
    )
]  # fmt: skip

# %%
apart, still = [], []
for seed in SEEDS:
    mg.manual_seed(seed)
    net, rng = model(), np.random.default_rng(seed)
    one_pass, *others = (way[-1] for way in ways(net, 16).values())
    apart.append(max(np.abs(other - one_pass).max() for other in others))
    tgt, memory = rng.integers(3, 7, (1, 16)), net.encode(rng.integers(3, 7, (1, 8)))
    says = lambda *parts: net.decode(np.concatenate(parts, axis=1), memory).data[0, -1]  # noqa: B023, E731
    still.append(sum(np.array_equal(says(tgt[:, :t], [[3]]), says(tgt[:, :t], [[4]])) for t in range(16)))
[
    claim("q17.5", "All three say the same", "largest difference of a logit, 16 words", apart, "< 1e-5", "SUPPORTED"),
    claim(
        "q17.6", "Decoding is serial", "calls, of 16, that say the same if the word just chosen is another", still,
        "== 0", "SUPPORTED", usual=True, reason="a call needs the word of the call before, so their chains add up",
    ),
]  # fmt: skip

# %%
ratio = {n: np.divide(found[n]["KV cache"][:2], found[n]["growing passes"][:2]) for n in LENGTHS}
[
    claim(
        "q17.7", "A KV cache changes that: it shortens the chain", "longest chain with cache over that without",
        [ratio[n][0] for n in LENGTHS], "< 1", "REFUTED", seeds=LENGTHS, over="lengths", usual=True,
    ),
    claim(
        "q17.8", "A KV cache saves more than half of the work", "work with cache over work without, 4, 8, 16 words",
        [ratio[n][1] for n in (4, 8, 16)], "< 0.5", "SUPPORTED", seeds=[4, 8, 16], over="lengths",
    ),
]  # fmt: skip

# %% [markdown]
# ## A way out: guess, and let the guess be corrected
# Greedy decoding, always the most probable word, solves $y_t = f_t(y_1, \dots, y_{t-1})$, one equation after the other.
# **Jacobi's method** guesses all $y_t$, puts the guess into all right-hand sides at once (*one* pass: it reads), takes
# what comes out as the next guess, and stops when nothing changes. The first word is right after one call, the second
# after two at the latest, and so on: never more calls than words, and the same text. Fewer calls, if a model can say
# later words without knowing its own earlier ones. We train two models. One **copies** its source of 8 words. The
# other writes **running sums**: $y_t = (y_{t-1} + x_t)$ modulo 4, for words $x_t$ that are the numbers 0 to 3. Which
# needs fewer calls for nine words (the end is one)? We also put random words in the place of its own earlier ones, and
# count those that come out right all the same ("alone"). There are four words, so 0.25 is guessing.


# %%
TASKS = {
    "copy": (toys.writing(lambda x: x, vocab=4, T=8), 300, 1e-2),
    "running sums": (toys.writing(lambda x: x.cumsum(axis=1) % 4, vocab=4, T=8), 900, 5e-3),
}
right, calls, differ, alone = ({name: [] for name in TASKS} for _ in range(4))
for name, (task, steps, lr) in TASKS.items():
    for seed in SEEDS:
        mg.manual_seed(seed)
        net = model()
        toys.train(toys.Pair(net), task, steps, lr=lr, seed=seed)
        (src, tgt), labels = task(np.random.default_rng(99))
        written = [mt.greedy(net, text[None], max_len=9)[0] for text in src]
        found_by = [mt.jacobi(net, text[None], max_len=9, window=9) for text in src]
        right[name].append(np.mean([np.array_equal(y, label) for y, label in zip(written, labels)]))
        calls[name].append(np.mean([by.calls / len(y) for y, by in zip(written, found_by)]))
        differ[name].append(sum(not np.array_equal(y, by.tokens[0]) for y, by in zip(written, found_by)))
        tgt[:, 1:] = np.random.default_rng(98).integers(3, 7, tgt[:, 1:].shape)
        with mt.evaluating(net):
            alone[name].append((net(src, tgt).data.argmax(axis=-1) == labels)[:, 1:-1].mean())
    ways_to_write = partial(mt.greedy, net, src[:1], max_len=9), partial(mt.jacobi, net, src[:1], max_len=9, window=9)
    with_cache, by_jacobi = (min(repeat(write, number=1, repeat=10)) for write in ways_to_write)
    print(f"{name}: time of Jacobi's method over that of a KV cache: {by_jacobi / with_cache:.1f}")
with draw.figure(6, 2.8) as fig:
    axes = fig.subplots()
    for name, colour, marker in zip(TASKS, (draw.BLUE, draw.VERMILLION), "os"):
        axes.plot(alone[name], calls[name], marker, color=colour, ms=7, label=name)
    axes.set(xlabel="right without its own earlier words", xlim=(0, 1), ylabel="calls for each word", ylim=(0, 1.05))
    axes.legend(fontsize=draw.SMALL, loc="lower right")
numbers = {f"{task}: right, right alone, calls": np.array([right[task], alone[task], calls[task]]) for task in TASKS}
show(draw.Plot(fig, numbers), "q17-jacobi")

# %%
[
    claim(
        "q17.9", "Jacobi's method writes what greedy decoding writes", "texts of 64 that differ",
        [a + b for a, b in zip(*differ.values())], "== 0", "SUPPORTED",
    ),
    claim(
        "q17.10", "Some methods change that: fewer calls than words (copy)", "calls for each word", calls["copy"],
        "< 0.9", "SUPPORTED", usual=True, reason="each word is in the source; most need not know the one before",
    ),
    claim(
        "q17.11", "Some methods change that: fewer calls than words (running sums)", "calls for each word",
        calls["running sums"], "< 0.9", "REFUTED", usual=True, reason="each needs the one before; the rest is luck",
    ),
]  # fmt: skip

# %% [markdown]
# ## Many machines, on paper
# One more direction: texts. Each of $p$ machines takes $B / p$ texts of a batch of $B$ and computes their gradient. The
# mean of these is the gradient of the batch (if no BatchNorm mixes the texts).
#
# The price is an **all-reduce**: to add up $p$ gradients of $P$ numbers and tell everybody. Machines stand in a ring,
# each cuts its gradient into $p$ parts. In $p - 1$ rounds each hands a part on to the next, which adds its own; $p - 1$
# more hand sums around. Each sends $2 P (p - 1) / p$ numbers. If $R$ numbers a second go over a wire, and a
# step takes one machine the time $C$, it takes $p$ machines
#
# $$\frac{C}{p} + \frac{2 P}{R} \cdot \frac{p - 1}{p}.$$
#
# The first part shrinks, the second does not: beyond $p = 1 + C R / 2 P$ it is the larger one. That is **Amdahl's
# law**: if a share $s$ of the time cannot be divided, one is at most $1 / (s + (1 - s) / p)$ times as fast. Here
# $s = 2 P / R C$, exactly. The paper's base model has $P$ = 65 million; with $R$ = 250 million a second (1 GB) the
# second part is half a second.
#
# ## What the usual answer gets wrong, where it is right, and when
# - **Right:** positions, heads, feed-forward network; in training those of the decoder too, as the target is known.
# - **Wrong:** layers. They wait for each other: four layers have a chain of 326. (A *pipeline* lets layer 2 work on one
#   text while layer 1 works on the next. More texts at a time, no text sooner.)
# - **Writing is serial**, and a KV cache leaves it so: it saves work. Guess and correct gives the same text in fewer
#   calls **when** words depend on the source more than on each other (copied, nine words took about five calls), and
#   hardly fewer when each needs the last (running sums: nearly nine). It pays only where processors are idle.
#
# Chains count a sum of $n$ numbers as one operation. Really it takes $\log_2 n$ additions after each other, at best.
#
# **Exercise.** Find a critical path, and decode by Jacobi's method: `python -m tutorials.check q17`
#
# **References.** Vaswani et al. 2017, *Attention Is All You Need*, section 4 and table 1. Santilli et al. 2023,
# *Accelerating Transformer Inference for Translation via Parallel Decoding*, section 3. Amdahl 1967, *Validity of the
# Single Processor Approach to Achieving Large Scale Computing Capabilities*.
