# %% [markdown]
# # Question 16. Decoder self-attention against the encoder's: why the mask?
#
# Encoder and decoder both use self-attention: each place of a sentence looks at places of the same sentence, and takes
# home a weighted mean of what it finds. In the decoder a **mask** says who may look where.
#
# **The usual answer.** "In the decoder, each position sees only earlier ones. Else information leaks."
#
# But why hide what is not there? In training it is: all places learn at once, in a single pass. Place $t$ reads the
# *right* words up to $t$ and must say word $t+1$ (**teacher forcing**). And word $t+1$ stands right beside it.
#
# **Predict.** A small model learns a language of 8 words in which two earlier words determine the next. We forget the
# mask. Write down two numbers: which part of its answers is right with teacher forcing, and which part in **free
# running**, where each word it writes becomes its input? Guessing is right in 0.125 of all cases.
#
# ## See it: who depends on whom
# `lens.dependency` measures which outputs depend on which words: it looks at gradients (exactly 0, or not), and changes
# each word to see whether any bit of an output changes. Here for a Transformer that translates, untrained.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw
from minitransformer import lens
from tutorials.lesson import claim, fast, show
from tutorials.toys import NOTHING, accuracy, small, train

SEEDS = range(fast(5, 3))
src, tgt = [[5, 6, 7, 8, 2]], [[1, 9, 10, 11]]  # words are numbers; 1 is "begin", 2 is "end"


def translator(seed):
    """A small Transformer in float64, two layers on each side."""
    mg.manual_seed(seed)
    return mt.Transformer(small(vocab=19, nhead=2, num_encoder_layers=2, num_decoder_layers=2)).double().eval()


found = {seed: lens.dependency(translator(seed), src, tgt) for seed in SEEDS}
show(lens.dependency_matrices(found[0]), "q16-who")

# %% [markdown]
# Rows are outputs, columns inputs. Encoder and decoder by source: full. Encoder by target: nothing. Decoder by target:
# a triangle with its diagonal. A place sees earlier words *and the one it stands on*, as it must say the next.

# %%
claim(
    "q16.1", "In the decoder, each position sees only earlier ones", "later words that any output depends on",
    [np.triu(each["decoder", "target"].depends, k=1).sum() for each in found.values()], "== 0", "SUPPORTED", usual=True,
    reason="exactly; but itself it sees, too",
)  # fmt: skip

# %% [markdown]
# ## What the mask buys: $T$ lessons in one pass
# Let $T$ be the number of target words. Without masks, an honest training would run the decoder $T$ times, on the first
# word, the first two, the first three, and so on. With the mask, one pass gives the same $T$ results.

# %%
same = []
for seed in SEEDS:
    model, target = translator(seed), np.random.default_rng(seed).integers(3, 20, (1, 10))
    at_once = model(src, target).data
    growing = [model(src, target[:, : t + 1]).data[:, -1] for t in range(10)]
    same.append(np.abs(at_once - np.stack(growing, axis=1)).max())
claim(
    "q16.2", "One masked pass is the same as T passes over growing prefixes", "largest difference of a logit", same,
    "< 1e-10", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## The laboratory: six decoders
# A decoder without encoder (a **language model**), with one layer, is built once right and five times wrong. An
# attention has scores $(T, T)$, query $t$ by key $s$; the softmax makes each row positive with sum 1. The mistakes:
# **off by one**, $s \le t + 1$ is allowed; **missing mask**, all is; **transposed mask**, $s \ge t$ is; **mask after
# softmax**, later weights are set to 0 *after* each row was divided by its sum, later scores included; **no target
# shift**, the mask is right, but the label of place $t$ is word $t$, not $t + 1$.

# %%
V, T, END = 8, 12, 9


class MaskAfterSoftmax(mt.ScaledDotProduct):
    """Weights of later keys are 0, but their scores stand in the denominator."""

    def forward(self, q, k, v, mask=None, *rest, **settings):
        """From q, k, v (B, H, T, K) to (B, H, T, K)."""
        return (self.scores(q, k).softmax(-1) * mg.from_numpy(np.asarray(mask)).type_as(q)) @ v


EDITS = {
    "correct": lambda mask: mask,
    "off by one": lambda mask: mask | np.eye(*mask.shape[-2:], k=1, dtype=bool),
    "missing mask": np.ones_like,
    "transposed mask": lambda mask: mask.swapaxes(-1, -2),
    "mask after softmax": lambda mask: mask,
    "no target shift": lambda mask: mask,
}


def decoder(name, seed):
    """A language model; its mask is edited from outside."""
    mg.manual_seed(seed)
    model = mt.LanguageModel(small(vocab=END, activation="relu", nhead=2, num_decoder_layers=1))
    if name == "mask after softmax":
        model.decoder.layers[0].self_attn.score = MaskAfterSoftmax(head_dim=16)
    return model


named, leaks, text = {name: [] for name in EDITS}, {name: [] for name in EDITS}, np.arange(1, 8)
with draw.figure(10, 2, square=True, axes_grid=False) as fig:
    for axes, (name, edit) in zip(fig.subplots(1, 6), EDITS.items()):
        for seed in SEEDS:
            model = decoder(name, seed).double()
            with lens.with_mask(model, "*.self_attn", edit):
                labels = text if name == "no target shift" else np.append(text[1:], END)
                result = lens.dependency(model, text, labels=labels)
            depends = result["decoder", "text"].depends
            named[name].append(result.diagnosis == (None if name == "correct" else name))
            leaks[name].append(np.triu(depends, k=1).sum())
        axes.imshow(np.where(depends, 0.5, 0.0), cmap="Blues", vmin=0, vmax=1)
        axes.plot(*np.nonzero(np.triu(depends, k=1))[::-1], "X", color=draw.VERMILLION, ms=5)
        axes.set(title=name, xticks=[], yticks=[], xlabel="word", ylabel="output")
show(draw.Plot(fig, leaks), "q16-laboratory")

# %% [markdown]
# A cross is an output that depends on a later word. Masking after the softmax leaks, too: the later scores sit in the
# denominator. The last panel is clean: there the mask is right, and the answer is on the table all the same.

# %%
broken = [*EDITS][1:]
claim(
    "q16.3", "Else information leaks", "leaks (output, later word), least of the four wrong masks",
    np.min([leaks[name] for name in broken[:-1]], axis=0), "> 0", "SUPPORTED", usual=True,
)  # fmt: skip

# %%
claim(
    "q16.4", "The laboratory names each mistake, before any training", "share of the six that it names",
    np.mean([*named.values()], axis=0), ">= 1", "SUPPORTED",
)  # fmt: skip

# %% [markdown]
# ## Measure: train all six
# The language: three random words, and from then on word $t+1$ is looked up in a random table, in the row of word $t$
# and the column of word $t-2$. The honest way is to learn the table. The cheap way is to look at word $t+1$.
#
# After training we ask twice. **Teacher forced**: all places at once, with right words as input, mistake included.
# **Free running**: three words are given, nine are to be written. A later word cannot be seen, as it does not exist.
# A model can do it, we say, if at most one word in ten is wrong, and cannot if at least half are.


# %%
def language(table, shift=True, batch=32):
    """The task: texts (B, T) and the next word at every place, or with shift=False the same word."""

    def task(rng):
        text = rng.integers(1, V + 1, (batch, T))
        for t in range(3, T):
            text[:, t] = table[text[:, t - 1], text[:, t - 3]]
        if not shift:
            return text, text
        labels = np.concatenate([text[:, 1:], np.full((batch, 1), END)], axis=1)
        labels[:, :2] = NOTHING  # nobody can know the first three words
        return text, labels

    return task


def free_running(model, text):
    """Which part of the words after the first three comes out right when the model writes them."""
    written = text[:, :3]
    with mt.evaluating(model):
        while written.shape[1] < T:
            best = model(written).data[:, -1, 1 : V + 1].argmax(axis=-1) + 1
            written = np.concatenate([written, best[:, None]], axis=1)
    return (written == text)[:, 3:].mean()


forced, free, losses = {name: [] for name in EDITS}, {name: [] for name in EDITS}, {}
for seed in SEEDS:
    table = np.random.default_rng(seed).integers(1, V + 1, (V + 1, V + 1))
    text, _ = language(table, batch=256)(np.random.default_rng(99))
    for name, edit in EDITS.items():
        model, task = decoder(name, seed), language(table, shift=name != "no target shift")
        with lens.with_mask(model, "*.self_attn", edit):
            losses[name] = train(model, task, 500, lr=1e-2, seed=seed)
            forced[name].append(accuracy(model, task))
            free[name].append(free_running(model, text))
with draw.figure(9, 3.2) as fig:
    left, right = fig.subplots(1, 2)
    looks = {"correct": "-", "mask after softmax": "--"}
    for name, curve in losses.items():
        left.semilogy(curve[::10], looks.get(name, ":"), color=draw.BLUE if name in looks else draw.VERMILLION)
    left.set(title="loss, one seed; solid: correct, dashed: mask\nafter softmax, dotted: the rest", xlabel="steps / 10")
    circles = right.plot([*forced.values()], range(len(EDITS)), "o", color=draw.BLUE, mfc="none", ms=9)
    squares = right.plot([*free.values()], range(len(EDITS)), "s", color=draw.VERMILLION)
    right.axvline(1 / V, color=draw.GREY, ls=":")
    right.set_yticks(range(len(EDITS)), EDITS)
    right.set(title="right answers (dotted: guessing)", xlim=(0, 1.05))
    right.invert_yaxis()
    right.legend([circles[0], squares[0]], ["teacher forced", "free running"], loc="center")
show(draw.Plot(fig, {f"{n}, forced, free": np.mean([forced[n], free[n]], axis=1) for n in EDITS}), "q16-two-numbers")

# %%
claim(
    "q16.5", "With a leak, all seems right in training", "teacher-forced accuracy, least of the five wrong models",
    np.min([forced[name] for name in broken], axis=0), "> 0.9", "SUPPORTED",
)  # fmt: skip

# %%
claim(
    "q16.6", "With a leak, the model cannot write", "free-running accuracy, best of the five wrong models",
    np.max([free[name] for name in broken], axis=0), "< 0.5", "SUPPORTED", reason="the other four are near chance",
)  # fmt: skip

# %%
claim("q16.7", "The right model writes as well as it reads", "free running", free["correct"], "> 0.9", "SUPPORTED")

# %% [markdown]
# ## When does a leak do no harm?
# When the honest way is as easy as the cheap one. In a text that repeats itself every three words, the next word is
# also the one two places back. The model without a mask finds both ways, and one is left when the other is gone.

# %%
harmless, periodic = [], language(np.tile(np.arange(V + 1), (V + 1, 1)))  # the word of three places before
text, _ = periodic(np.random.default_rng(99))
for seed in SEEDS:
    model = decoder("missing mask", seed)
    with lens.with_mask(model, "*.self_attn", np.ones_like):
        train(model, periodic, 300, lr=5e-3, seed=seed)
        harmless.append(free_running(model, text))
claim(
    "q16.8", "A leak always ruins what the model writes", "free running without a mask, text of period three", harmless,
    "< 0.5", "REFUTED",
)  # fmt: skip

# %% [markdown]
# ## What the usual answer gets wrong, where it is right, and when
# Your two numbers: without a mask all is right with teacher forcing, free running hardly more than by guessing. The
# usual answer is right, to the bit, but three things are missing. A position sees *itself*, too. The mask serves
# *training*: one pass instead of $T$; in writing there is no future to hide. And the labels must be shifted by one.
#
# **When is a leak dangerous?** When it is easier than the honest way. Nothing in training warns you: the loss of a
# leaking model mostly falls faster. Let the model write before you believe a number.
#
# **Exercise.** A mask that does not leak, and labels that are shifted: `python -m tutorials.check q16`
#
# **References.** A. Vaswani et al., *Attention Is All You Need* (2017), sections 3.1 and 3.2.3.
