# %% [markdown]
# # Question 10. Which other position schemes are there, and what speaks for and against each?
#
# Attention compares words by content, and does not see where they stand. The first Transformer adds sines and cosines
# of the place to each word; there are many other ways to tell it. Here all that the library has meet in one table.
#
# **The usual answer.** "*Learned* positions: a trained vector for each place; flexible, but not for texts longer than
# in training. *Relative* positions say how far apart two words are; they carry over to longer texts, but cost time.
# *Fixed, then learned*: begin with the sines and train on, the best of both. *Axial*: two small tables in place of a
# long one; fewer parameters, less exact. *Transformer-XL*: relative, with a memory; a longer context, but slower."
#
# **Predict.** Models are trained on texts of 16 words to say which word stood three places before. Then they read 64
# words. Rotary positions, which many of today's language models have, know distances only, and 3 is 3 everywhere. Which
# part of the answers at places 32 to 63 is right? There are 8 words; guessing gives 0.125. Write down a number.
#
# ## What there is
# $i$ is the place of the word that asks, $j$ of one that may be looked at, $x_i$ $(D,)$ the vector of a word. Each of
# $H$ heads of size $K$ has query $q_i = W_Q x_i$, key $k_j = W_K x_j$, value $v_j = W_V x_j$; $W$ are learnt. A softmax
# over $j$ of the scores $e_{ij} = q_i \cdot k_j / \sqrt K$ gives weights $\alpha_{ij}$; $z_i = \sum_j \alpha_{ij} v_j$.
#
# **Absolute: where a word stands.** Before the first layer, $x_i$ gets a vector $P_i$ $(D,)$ added.
# - **sinusoidal:** $P_i$ is fixed, pairs $\sin \omega_n i$, $\cos \omega_n i$: "clocks" that turn by
#   $\omega_n = 10000^{-2n/D}$ radians per word, $n = 0, \dots, D/2 - 1$.
# - **learned:** $P_i$ is row $i$ of a table, trained like any weight.
# - **sines, then learned:** the same table, but it starts with the sines.
# - **axial:** half of $P_i$ is learnt for row $\lfloor i / C \rfloor$, half for column $i \bmod C$, in rows of $C$.
#
# **Relative: how far apart two words are.** Inside each attention, no $P_i$.
# - **Shaw's:** $e_{ij} = q_i \cdot (k_j + a_{ij}) / \sqrt K$, $z_i = \sum_j \alpha_{ij} (v_j + a'_{ij})$: $a$, $a'$
#   $(K,)$ are rows of two learnt tables, by distance $j - i$. It is *clipped*: all beyond $\pm c$ counts as $c$.
# - **rotary:** queries and keys are turned, pair by pair, by $\theta_n i$ and $\theta_n j$ with
#   $\theta_n = 10000^{-2n/K}$. In $q_i \cdot k_j$ only the difference $\theta_n (i - j)$ is left.
# - **ALiBi:** $e_{ij} - m_h |i - j|$. The slope $m_h = 2^{-8h/H}$ of head $h = 1, \dots, H$ is fixed.
# - **T5:** $e_{ij} + w_{h,b}$, learnt for head and bucket $b$ of distances: near ones have their own, far ones share.
# - **Transformer-XL:** $(q_i \cdot k_j + q_i \cdot r_{i-j} + u \cdot k_j + v \cdot r_{i-j}) / \sqrt K$. Here
#   $r_{i-j} = W_R R_{i-j}$, the sines $R_{i-j}$ of the distance times a learnt $W_R$; $u$, $v$ $(K,)$ are learnt too.
#   And it reads a long text in **segments**: each layer keeps what it read in the last $M$ places, and looks there too.
#
# ## One harness for all
# One layer of attention, causal (a place sees itself and what was before), $D = 32$, two heads of $K = 16$, no
# feed-forward network. Two questions, a model for each: which word stood **three before** (a distance), and which is
# the **third word** of the text (a place)? Transformer-XL is tested in segments of 8 with memory 8: no new distances.

# %%
import time

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw
from tutorials.lesson import claim, fast, show
from tutorials.toys import NOTHING, Reader, look_back, small, train

SEEDS = range(fast(5, 3))
SCHEMES = {  # what it is called here: what the configuration calls it, and settings
    "none": ("none", {}),
    "sinusoidal": ("sinusoidal", {}),
    "learned": ("learned", {}),
    "sines, then learned": ("sinusoidal_init", {}),
    "axial, 8x8": ("axial", {}),
    "Shaw's, clipped to 8": ("relative", {"max_relative_distance": 8}),
    "rotary": ("rotary", {}),
    "rotary, heads of 64": ("rotary", {"head_dim": 64}),
    "ALiBi": ("alibi", {}),
    "T5, buckets to 128": ("t5", {"t5_buckets": 32, "t5_max_distance": 128}),
    "T5, buckets to 16": ("t5", {"t5_buckets": 16, "t5_max_distance": 16}),
    "Transformer-XL": ("transformer_xl", {}),
}


def task(question, **sizes):
    """Make a task: which word stood three before, or which was the third word? Asked from place 3 on."""

    def make(rng):
        ids, labels = look_back(3, **sizes)(rng)
        return ids, labels if question == "three before" else np.where(labels == NOTHING, NOTHING, ids[:, 2:3, None])

    return make


def answers(model, ids, M):
    """What the model says, (B, T), if it reads in segments of M, with a memory of M."""
    encoder, memory = model.encoder, mt.Segments(1, M)
    x = [encoder(encoder.embed(model.embed, ids[:, i : i + M]), cache=memory) for i in range(0, ids.shape[1], M)]
    return model.head(mg.cat(x, dim=1)).data.argmax(axis=-1)


STEPS = {"three before": fast(400, 250), "third word": fast(200, 100)}
right, slow, models = {}, {}, {}
for name, (positions, sizes) in SCHEMES.items():
    for question, steps in STEPS.items():
        ids, labels = task(question, T=64, batch=128)(np.random.default_rng(99))
        for seed in SEEDS:
            mg.manual_seed(seed)
            model = models[question, name, seed] = Reader(small(positions=positions, nhead=2, max_len=64, **sizes))
            losses = train(model, task(question, T=16), steps, lr=5e-3, seed=seed)
            slow[question, name, seed] = np.greater(losses, 0.5).sum()  # steps with a loss above 0.5; guessing has 2.1
            with mt.evaluating(model):
                said = answers(model, ids, M=8 if name == "Transformer-XL" else 64)
            share = (said == labels[..., 0]).mean(axis=0)  # (64,), by place, averaged over the texts
            right[question, name, seed] = [share[3:16].mean(), share[16:32].mean(), share[32:].mean()]

# %% [markdown]
# What do they cost? Processor time of a step, forwards and backwards ($B = 8$ texts of 64 words, $D = 64$, four heads),
# taken in turns with a twin without positions; the fastest turn of each counts.

# %%
ids, labels = look_back(3, T=64, batch=8)(np.random.default_rng(0))
ratios = {}
for name, (positions, sizes) in SCHEMES.items():
    pair = [Reader(small(positions=which, d_model=64, nhead=4, **sizes)) for which in (positions, "none")]
    times = np.empty((len(SEEDS), fast(15, 5), 2))
    for *turn, which in np.ndindex(times.shape):
        began = time.process_time()
        logits = pair[which](ids).flatten(0, -2)
        mg.ops.cross_entropy(logits, labels.reshape(-1), ignore_index=NOTHING).backward()
        times[*turn, which] = time.process_time() - began
    ratios[name] = np.divide(*times.min(axis=1).T)  # one for each seed

# %%
heat, costs = [], {}
for name in SCHEMES:
    three, third = (np.mean([right[question, name, seed] for seed in SEEDS], axis=0) for question in STEPS)
    heat.append([*three, np.nan, *third])  # a column is left free between the questions
    scheme = models["third word", name, 0].encoder.positions
    learnt = sum(parameter.numel() for parameter in scheme.parameters())
    costs[name] = f"{learnt:,}", f"{ratios[name].mean():.1f}x", f"{scheme.max_len or 'any'}"
with draw.figure(9, 4.4, axes_grid=False) as fig:
    axes = fig.subplots()
    axes.imshow(heat, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    for (row, column), value in np.ndenumerate(np.nan_to_num(heat)):
        colour = "white" if value > 0.6 else "black"
        axes.text(column, row, f"{value:.2f}" if value else "", ha="center", va="center", color=colour)
    for row, cells in enumerate(costs.values()):
        for column, text in zip((7.2, 8.4, 9.6), cells):
            axes.text(column, row, text, ha="center", va="center")
    heads = [*["3-15\n(seen)", "16-31\n(2x)", "32-63\n(4x)"] * 2, "numbers\nlearnt", "time of\na step", "longest\ntext"]
    axes.set_xticks([0, 1, 2, 4, 5, 6, 7.2, 8.4, 9.6], heads)
    axes.set(xlim=(-0.5, 10.2), yticks=range(len(heat)), yticklabels=SCHEMES)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    for middle, question in zip((1, 5), STEPS):
        axes.text(middle, len(heat), f"right answers: {question}", ha="center")
cells = {name: [f"{share:.2f}" for share in row] + ["|", *costs[name]] for name, row in zip(SCHEMES, heat)}
show(draw.Plot(fig, {name: " ".join(row).replace("nan", "|") for name, row in cells.items()}), "q10-table")

# %% [markdown]
# The questions are opposites. A distance all schemes but ALiBi learn, and most fail beyond. The third word is a place,
# at another distance for each $i$: only absolute schemes can tell, and they reach far.


# %%
def of(question, length, name):
    """Right answers of a scheme, for each seed; length: 0 as in training, 1 twice, 2 four times."""
    return np.array([right[question, name, seed][length] for seed in SEEDS])


(THREE, THIRD), WARM = STEPS, "sines, then learned"
RELATIVE = {  # does it carry over to longer texts?
    **dict.fromkeys(("Shaw's, clipped to 8", "Transformer-XL"), "SUPPORTED"),
    **dict.fromkeys(("rotary", "ALiBi", "T5, buckets to 16"), "REFUTED"),
}
[
    claim("q10.1", "Learned: flexible, fits what is asked", "right in the trained length, the worse question",
          np.minimum(of(THREE, 0, "learned"), of(THIRD, 0, "learned")), "> 0.9", "SUPPORTED", usual=True),
    claim("q10.2", "Learned: not for texts longer than in training", "right at twice the length, three before",
          of(THREE, 1, "learned"), "< 0.5", "SUPPORTED", usual=True, reason="rows never trained are noise"),
    claim("q10.3", "Learned: not for longer texts, even if a place is asked", "right at twice the length, third word",
          of(THIRD, 1, "learned"), "< 0.5", "REFUTED", usual=True, reason="that needs row 2 only, which was trained"),
    claim("q10.4", "Fixed, then learned: learns faster than a table of noise", "steps needed, over learned",
          [slow[THREE, WARM, seed] / slow[THREE, "learned", seed] for seed in SEEDS], "< 1", "SUPPORTED", usual=True),
    claim("q10.5", "Fixed, then learned: keeps the reach of the sines", "right at twice the length, minus sines",
          of(THREE, 1, WARM) - of(THREE, 1, "sinusoidal"), "> -0.05", "REFUTED", usual=True,
          reason="the rows seen move, the others stay: no longer one pattern"),
    claim("q10.6", "Axial: fewer parameters", "numbers learnt over those of a table, for 64, 512 and 4096 places",
          [sum(p.numel() for p in mt.Axial(n, 32).parameters()) / (32 * n) for n in (64, 512, 4096)], "< 0.2",
          "SUPPORTED", seeds=(64, 512, 4096), over="sizes", usual=True),
    claim("q10.7", "Axial: less exact", "right in the trained length, learned minus axial, the larger difference",
          np.max([of(asked, 0, "learned") - of(asked, 0, "axial, 8x8") for asked in STEPS], axis=0), "> 0.05",
          "REFUTED", usual=True),
    *[claim(f"q10.{8 + i}", f"Relative carries over to longer texts: {name}", "right at four times the length",
            of(THREE, 2, name), "> 0.95", verdict, usual=True) for i, (name, verdict) in enumerate(RELATIVE.items())],
    claim("q10.13", "Rotary carries over if its heads have enough clocks", "right at four times, heads of 64",
          of(THREE, 2, "rotary, heads of 64"), "> 0.85", "SUPPORTED"),
    claim("q10.14", "T5 does better if training fills its last bucket", "right at four times, to 16 minus to 128",
          of(THREE, 2, "T5, buckets to 16") - of(THREE, 2, "T5, buckets to 128"), "> 0", "SUPPORTED"),
    claim("q10.15", "Relative schemes can also tell the third word", "right in the trained length, best of the five",
          np.max([of(THIRD, 0, name) for name in RELATIVE], axis=0), "> 0.6", "REFUTED"),
    claim("q10.16", "Relative: takes more time", "time of a step over none, Shaw's", ratios["Shaw's, clipped to 8"],
          "> 1.2", "SUPPORTED", usual=True, reason="two more products with tables; ALiBi and T5 cost less"),
]  # fmt: skip

# %% [markdown]
# ## How far does Transformer-XL remember?
# $N$ layers, segments of $M$ words, memory $M$. Change an early word: does the first output of the last segment move?
# And does a gradient reach the words in memory?


# %%
def remember(N, seed, M=4):
    """How many words back a change is felt, and the largest gradient at the words before the segment."""
    mg.manual_seed(seed)
    sizes = {"d_model": 16, "nhead": 2, "dim_feedforward": 32, "dropout": 0.0, "num_decoder_layers": N}
    model = mt.LanguageModel(mt.TransformerConfig(src_vocab_size=50, positions="transformer_xl", **sizes))
    ids = np.arange(3, 6 * M + 3)  # all different, so that each has a gradient of its own

    def read(ids):
        memory = model.new_memory(M)
        return [model(ids[None, start : start + M], memory) for start in range(0, 6 * M, M)][-1]

    logits, old = read(ids), ids[: 5 * M]
    felt = [(read(np.where(ids == word, 49, ids)).data[0, 0] != logits.data[0, 0]).any() for word in old]
    logits.backward(np.random.default_rng(seed).normal(size=logits.shape))
    return len(old) - felt.index(True), abs(model.embed.weight.grad.numpy()[old]).max()


reach, gradient = np.array([[remember(N, seed) for seed in SEEDS] for N in (1, 2, 3)]).transpose(2, 0, 1)
[
    claim("q10.17", "Transformer-XL: a longer context, N M words", "words back over N M, for N = 1, 2, 3",
          (reach / [[4], [8], [12]]).ravel(), "== 1", "SUPPORTED", seeds=[*SEEDS] * 3, over="seeds and depths",
          usual=True),
    claim("q10.18", "What is in memory is read, but not trained", "largest gradient at the words before the segment",
          gradient.ravel(), "== 0", "SUPPORTED", seeds=[*SEEDS] * 3, over="seeds and depths"),
    claim("q10.19", "Transformer-XL: slower", "time of a step over none, in one segment", ratios["Transformer-XL"],
          "> 1.1", "SUPPORTED", usual=True),
]  # fmt: skip

# %% [markdown]
# ## What the usual answer gets wrong, where it is right, and when
# For and against, by the table (without positions, 0.33 are right near the start: there are few words to choose from):
# - **sinusoidal:** nothing to learn, any length; the third word about 0.9 right at 4x, three before about 0.3.
# - **learned:** exact, cheap in time, $D$ numbers for each place; beyond training good for a place, not for a distance.
# - **sines, then learned:** a quarter fewer steps than learned; same end, and *less* reach than the sines.
# - **axial:** 256 numbers in place of 2,048, just as exact; never-trained rows are noise here, too.
# - **Shaw's:** 1.00 at 4x; the slowest, 2.5 to 3 times "none". **Transformer-XL:** 1.00, twice the time.
# - **rotary:** nothing to learn; $K = 64$ stays at 1.00, $K = 16$ falls to about 0.3. After 19 words its two fastest
#   clocks are nearly back, by three turns and by one, and the heads look 22, 41 and 60 places back as well as 3.
# - **ALiBi:** nothing to learn, hardly worse at 4x; but "near" is all it can say, not "three before" (0.33).
# - **T5:** one number for a bucket and head; far words are many, and even small weights on them add up.
#
# **Relative** does not mean "any length". It needs distances that training showed, by clipping or a short memory (for
# T5 not even that was enough), or many clocks. For a *place* it is of no use, at least in one layer.
#
# **Exercise.** Write Shaw's distances and the rotation yourself: `python -m tutorials.check q10`
#
# **References.** Gehring et al. 2017, *Convolutional Sequence to Sequence Learning*, 3.1 (learned). Shaw et al. 2018,
# *Self-Attention with Relative Position Representations*, 3. Ho et al. 2019, *Axial Attention in Multidimensional
# Transformers*. Dai et al. 2019, *Transformer-XL*, 3. Raffel et al. 2020, *Exploring the Limits of Transfer Learning*,
# 2.1 (T5). Su et al. 2021, *RoFormer*, 3. Press et al. 2022, *Train Short, Test Long*, 3 (ALiBi).
