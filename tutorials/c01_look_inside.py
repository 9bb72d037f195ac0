# %% [markdown]
# # Capstone 1. Train a translator, and look inside with every instrument
#
# What does a Transformer do with "two hundred and fourteen"? We train one to write numbers in French, this one never,
# and follow it through the model, forwards and back. Each instrument answers one question, in one line of code.
#
# **The model.** An encoder reads the English words, a decoder writes the French ones. Each has $N = 2$ layers, vectors
# of $D = 32$ numbers and $H = 2$ heads in every attention; a head is one weighted look at all words. Of the 12 heads, 4
# look from French words at English ones: **cross-attention**.
#
# **The usual story.** "To write a word, the model looks at the word that it translates. And each head has its job."
#
# **Predict.** Take away the one head of the 12 that hurts most. How many of 100 new numbers are still right? And when
# the model writes *cent*, does it look at *hundred*? Write down a number, and yes or no.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from minitransformer import lens
from minitransformer.batching import pad
from minitransformer.runs import Recipe
from minitransformer.tasks import make_task
from minitransformer.vocab import BOS, EOS
from tutorials.lesson import claim, fast, show

SENTENCE, SEEDS = "two hundred and fourteen", range(fast(5, 3))
TASK = make_task("numbers", source="en", target="fr", high=999)
SPLITS = {name: [pair for pair in pairs if pair[0] != SENTENCE] for name, pairs in TASK.splits.items()}
TEST = SPLITS["random"]  # 100 numbers that are not in "train"
CONFIG = mt.TransformerConfig(
    src_vocab_size=4, d_model=32, nhead=2, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=64
)


def tokens(translator, pairs):
    """Source (B, S), what the decoder reads (B, T), and what it shall answer: the same, one place ahead."""
    src = pad([[*translator.source.encode(english), EOS] for english, _ in pairs])
    answer = pad([[*translator.target.encode(french), EOS] for _, french in pairs])
    return src, np.concatenate([np.full((len(pairs), 1), BOS), answer[:, :-1]], axis=1), answer


def train(seed, film):
    """A translator, after 400 steps or two perfect tests in a row, and its history; the film sees every 40th step."""
    training = mt.TrainConfig(steps=400, warmup=100, lr_factor=0.5, eval_every=100, seed=seed)
    trainer = Recipe(TASK, CONFIG, training).begin(SPLITS)
    while not trainer.finished:
        if trainer.steps_taken % 40 == 0:
            src, reads, answer = tokens(trainer.translator, TEST[:16])
            film.add(trainer.steps_taken, lens.saturation(trainer.translator.model, src, reads, targets=answer))
        trainer.step()
    trainer.translator.model.eval()
    return trainer.translator, trainer.history


films = [lens.Film() for _ in SEEDS]
translators, histories = zip(*[train(seed, film) for seed, film in zip(SEEDS, films)])
translator, model = translators[0], translators[0].model
print(translator.translate([SENTENCE, "ninety-nine", "eight hundred and eighty-one"]))
show(lens.loss_curves(histories[0]), "c01-loss")

# %%
exact = [each.evaluate(TEST)[0].exact_match for each in translators]
claim("c01.1", "It writes new numbers without a mistake", "exact match on 100 numbers", exact, "> 0.95", "SUPPORTED")

# %% [markdown]
# ## 1. Structure: what are the parts?
# `mg.record` writes down a run and its way back; `mg.graph` draws it, with shares of the gradient on the arrows.

# %%
src, reads, answer = tokens(translator, [(SENTENCE, "deux cent quatorze")])
english = [translator.source.tokens[i].strip() for i in src[0]]
french = [translator.target.tokens[i].strip() for i in answer[0]]


def recorded(model=model, labels=answer):
    """A run with the sentence, up to the cross-entropy of an answer, and its way back."""
    with mg.record(model) as rec:
        mg.ops.cross_entropy(model(src, reads), labels).backward()
    return rec


rec = recorded()
show(mg.graph(rec, level="layer"), "c01-graph")

# %% [markdown]
# ## 2. Attention: where does it look?
# Rows are the words as they are written, columns the English words. What does each of the four heads look at?

# %%
show(lens.attention_grid(model, src, reads, kind="cross", source=english, target=french), "c01-attention")

# %% [markdown]
# A diagonal, nearly: *deux* looks at *two*, *quatorze* at *fourteen*, and for *cent* most heads look at *hundred*. But
# not every head does so for every word. Take all test numbers, and every French word that translates one English word.

# %%
FRENCH = "deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize vingt trente cent"
ENGLISH = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen twenty thirty"
PAIRS = dict(zip(FRENCH.split(), [*ENGLISH.split(), "hundred"]))


def looks(translator):
    """Whether the largest weight is on the English word that is being written, (heads, words)."""
    src, reads, answer = tokens(translator, TEST)
    hits = []
    for head, pattern in lens.patterns(translator.model, src, reads).items():
        if "cross_attn" in head:
            hits.append([])
            for row, weights, written in zip(src, pattern, answer):
                words = [translator.source.tokens[i].strip() for i in row]
                asked = [(t, PAIRS.get(translator.target.tokens[i].strip())) for t, i in enumerate(written)]
                hits[-1] += [words[weights[t].argmax()] == word for t, word in asked if words.count(word) == 1]
    return np.array(hits)


hits = [looks(each) for each in translators]
print("each head:", [hit.mean(axis=1).round(2).tolist() for hit in hits])
[
    claim(
        "c01.2", "To write a word, the model looks at the word that it translates", "share of words, any of 4 heads",
        [hit.any(axis=0).mean() for hit in hits], "> 0.5", "SUPPORTED", usual=True, reason="for most words, that is",
    ),
    claim(
        "c01.3", "One head does all of that", "share of words, best head", [hit.mean(axis=1).max() for hit in hits],
        "> 0.99", "REFUTED", reason="the seed decides how much of it one head does; the others take the rest",
    ),
]  # fmt: skip

# %% [markdown]
# Where the best head misses, it looks beside the word, as for *cent* at *and*. The encoder has mixed the words before,
# so the vector at *and* may know of *hundred*. A map shows where the model looks, not what it finds there.
#
# ## 3. Ablation: which head does it need?
# Let one head after the other take nothing home, and count what is still right.


# %%
def without(translator, heads):
    """Exact matches on new numbers when these heads are silent."""
    with lens.ablate(translator.model, heads):
        return translator.evaluate(TEST)[0].exact_match


HEADS = lens.head_names(model)
alone = np.array([[without(each, head) for head in HEADS] for each in translators])  # (seeds, 12)
CROSS = [head for head in HEADS if "cross_attn" in head]
groups = {"last 2 heads of cross-attention": CROSS[2:], "all 4 heads of cross-attention": CROSS}
together = {name: [without(each, heads) for each in translators] for name, heads in groups.items()}
with draw.figure(7, 3.4) as fig:
    axes = fig.subplots()
    rows = {**dict(zip(HEADS, alone.T)), **together}
    for y, (name, values) in enumerate(rows.items()):
        axes.barh(y, np.mean(values), color=draw.VERMILLION if name in together else draw.SKY)
        axes.plot(values, [y] * len(values), "o", color="black", ms=3)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(title="right without this head; dots: seeds", xlim=(0, 1.05), ylim=(len(rows), -1))
show(draw.Plot(fig, rows), "c01-ablation")

# %%
least, none = alone.min(axis=1), together["all 4 heads of cross-attention"]
[
    claim("c01.4", "Without any one head it fails", "exact match, worst head", least, "< 0.8", "REFUTED", usual=True),
    claim("c01.5", "Without any cross-attention nothing is right", "exact match", none, "< 0.05", "SUPPORTED"),
]

# %% [markdown]
# Your number: whichever head is silent, nearly all are still right. Others step in: the *group* has the job.
#
# ## 4. Laboratory: what may a result depend on, and on what does it?
# The gradient of each result by each word. Above the diagonal of decoder by target it must be 0, exactly.

# %%
found = [lens.dependency(each.model, src, reads) for each in translators]
future = [len(each["decoder", "target"].leaks) for each in found]
print("by English word, row by row:", *found[0]["decoder", "source"].gradient.round(2), sep="\n")
claim("c01.6", "No French word depends on a later one", "cells that are not exactly 0", future, "== 0", "SUPPORTED")

# %% [markdown]
# Not one of the cells by source is 0: the word that is written depends on *all* English words, on some of them little.
#
# ## 5. Oscilloscope: how does a softmax change while it learns?
# An entropy of 1 is a look at all words alike, 0 a look at one. The film of the training, a row per head:

# %%
show(lens.saturation_strip(films[0], ["normalised_entropy.median"]), "c01-film")

# %%
entropy = [film["normalised_entropy.median"] for film in films]  # each (steps, attentions, heads)
across = [path.endswith("cross_attn") for path in films[0].attentions]
fall = [each[-1, across].mean() / each[0, across].mean() for each in entropy]
claim("c01.7", "Cross-attention sharpens as it learns", "entropy, end / beginning", fall, "< 0.6", "SUPPORTED")

# %% [markdown]
# ## 6. Ledgers: who sends the gradient?
# The output of the encoder is used by both decoder layers. Who sends what share of its gradient? And around every part
# $f$ there is a skip, $x + f(x)$. How much of the gradient of the English words came through how many $f$?

# %%
memory = rec["encoder.layers.1.add_norm2.add_layer_norm"]
print({rec.name(edge.child): round(edge.share, 3) for edge in memory.uses})
loss = mg.ops.cross_entropy(model(src, reads), answer)
print({n: round(share, 3) for n, share in mg.trace.crossing_shares(loss, model.src_embed.weight).items()})
runs = [recorded(each.model) for each in translators]
errors = [max(abs(sum(edge.share for edge in step.uses) - 1) for step in run.steps if step.uses) for run in runs]
claim("c01.8", "The shares of every step sum to 1", "largest error", errors, "< 1e-4", "SUPPORTED")

# %%
show(draw.residual_ledger(rec), "c01-residuals")

# %% [markdown]
# Most of it came past the parts (blue), and most of what reached the English words came through two or three of them.
#
# ## 7. Compare: what would a wrong answer change?
# Tell it that 214 is *deux cent quinze*. By how many powers of ten does the gradient of each part grow?

# %%
wrong = answer.copy()
wrong[0, 2] = translator.target.encode("quinze")[0]
show(mg.compare(rec, recorded(labels=wrong)).modules(1), "c01-compare")

# %% [markdown]
# All grow, the least of them sevenfold: no part alone knows what *fourteen* means, and all would have to unlearn it.
#
# ## 8. Provenance: where did a NaN come from?
# We plant a logarithm of 0 in the encoder: minus infinity there, NaN at the end. What was the *first* not to be finite?

# %%
with nn.patch(model, {"encoder.layers.1.ffn": lambda x: (x - x).log()}):
    print(origin := recorded().first_nonfinite())
named = [origin.step == "encoder.layers.1.ffn.log"]
claim("c01.9", "It names op and module", "named", named, "== 1", "SUPPORTED", over="")

# %% [markdown]
# ## 9. Profile: where does the work go?
# Time, bytes and operations (flops), by kind of step.

# %%
show(rec.profile(by="op"), "c01-profile")

# %% [markdown]
# ## What the usual story gets wrong, where it is right, and when
# Right: without cross-attention nothing works, and for most words some head looks at the one to be translated. Wrong:
# that each head is needed. A map of attention is where to begin to ask; an ablation answers.
#
# **Exercise.** Which heads matter, without taking any away: `python -m tutorials.check c01`
#
# **References.** P. Michel, O. Levy and G. Neubig, *Are Sixteen Heads Really Better than One?* (2019), section 3.
