# %% [markdown]
# # Question 19. Learning rate and dropout: how, where, and at test time?
#
# The **learning rate** says how far an optimiser moves the parameters in one step. **Dropout** sets numbers inside the
# model to 0, chosen at random while it trains, so that it cannot rely on any single one.
#
# **The usual answer.** "The rate is $d_{model}^{-0.5} \min(step^{-0.5}, step \cdot warmup^{-1.5})$, first up, then
# down. Dropout is on the attention weights, on the output of each sublayer, and on the sum of embedding and position;
# 0.1 to 0.3 is right. At test time it is off."
#
# **Predict.** A model of 6 layers that learns well with a warm-up is trained without. What is its loss, if guessing has
# 2.77? Another one learns from 48 texts, and after 300 steps 45 % of its answers to new texts are right. Now dropout is
# 0.5 instead of 0. How many are right after 300 steps, and after 900? Write down three numbers.
#
# ## The formula
# Let $w$ be the warm-up, in steps. Which of the two numbers is smaller? Multiply both by $step^{0.5}\, w^{1.5}$:
# $step \cdot w^{-1.5} < step^{-0.5} \iff step^{1.5} < w^{1.5} \iff step < w.$
# So the rate grows in a straight line until step $w$, and then falls as $1/\sqrt{step}$. At step $w$ is the **peak**,
# $(d_{model}\, w)^{-0.5}$. Longer warm-up: a slower start *and* a lower peak. In the paper: $d_{model}$ 512, $w$ 4000.

# %%
import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw, nn
from tutorials import toys
from tutorials.lesson import claim, fast, show

SEEDS, COLOURS = range(3), (draw.BLUE, draw.VERMILLION, draw.GREEN)
with draw.figure(7, 2.7) as fig:
    axes = fig.subplots()
    for (D, w), colour, line in zip(((512, 4000), (512, 8000), (1024, 4000)), COLOURS, ("-", "--", ":")):
        axes.plot([mt.noam(D, w)(taken) for taken in range(20000)], color=colour, ls=line, label=f"{D}, {w}")
        axes.plot(w, (D * w) ** -0.5, "o", color=colour)
    axes.set(xlabel="step", ylabel="learning rate", ylim=(0, 8e-4))
    axes.legend(title="$d_{model}$, warm-up")
show(draw.Plot(fig, {w: (512 * w) ** -0.5 for w in (4000, 8000)}), "q19-formula")

# %%
error = []
for seed in SEEDS:
    rng = np.random.default_rng(seed)
    D, w, step = rng.integers(1, 2000), rng.integers(1, 5000), rng.integers(1, 20000, 1000)
    written = D**-0.5 * np.minimum(step**-0.5, step * w**-1.5)
    error.append(max(abs([mt.noam(D, w)(taken) for taken in step - 1] / written - 1)))
claim(
    "q19.1", "The rate is as the usual answer writes it, for any D, warm-up and step", "largest relative difference",
    error, "< 1e-12", "SUPPORTED", usual=True,
)  # fmt: skip

# %% [markdown]
# ## See it: learning rate, warm-up, and where the norm stands
# To tell the two apart we use another schedule: in a straight line up to any peak, in any number of steps, then down to
# 0. The task: which of 16 tokens stood one place before? The model: $N = 6$ layers, D = 32 numbers for each token. Each
# layer has two **sublayers** $f$, attention and a feed-forward network (FFN), in **post-norm**, as in the paper,
# $\mathrm{norm}(x + f(x))$, or **pre-norm**, $x + f(\mathrm{norm}(x))$. Shown: last loss; guessing: $\ln 16 = 2.77$.

# %%
task = toys.look_back(1, vocab=16, T=12, batch=16)


def last_loss(seed, lr, warmup, norm_first=False, shrink=1.0):
    """The mean loss of the last ten steps; the matrices of the six layers start multiplied by `shrink`."""
    mg.manual_seed(seed)
    settings = {"d_model": 32, "nhead": 2, "num_decoder_layers": 6, "dim_feedforward": 128, "dropout": 0.0}
    model = mt.LanguageModel(mt.TransformerConfig(src_vocab_size=17, norm_first=norm_first, **settings))
    for module in model.decoder.modules():
        if isinstance(module, nn.Linear):
            module.weight.data *= shrink
    return float(np.mean(toys.train(model, task, fast(160, 140), lr=lr, warmup=warmup, seed=seed)[-10:]))


RATES, WARMUPS = fast((0.002, 0.004, 0.008), (0.008,)), fast((1, 20, 100), (1, 100))
loss = {
    norm: np.array([[[last_loss(s, lr, w, norm == "pre-norm") for s in SEEDS] for w in WARMUPS] for lr in RATES])
    for norm in ("post-norm", "pre-norm")
}
with draw.figure(7.5, 3, axes_grid=False) as fig:
    for axes, (norm, losses) in zip(fig.subplots(1, 2, sharey=True), loss.items()):
        means = losses.mean(axis=-1)
        axes.imshow(means, vmin=0, vmax=np.log(16), cmap="Blues", aspect="auto")
        for (row, column), value in np.ndenumerate(means):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 1.6 else "black")
        axes.set(title=norm, xlabel="steps of warm-up", ylabel="peak rate")
        axes.set(xticks=range(len(WARMUPS)), xticklabels=WARMUPS, yticks=range(len(RATES)), yticklabels=RATES)
show(draw.Plot(fig, {norm: losses.mean(axis=-1) for norm, losses in loss.items()}), "q19-map")

# %%
[
    claim(
        f"q19.{number}", f"The rate must first go up ({norm}, N = 6, peak 0.008)", "last loss, no warm-up - 100 steps",
        loss[norm][-1, 0] - loss[norm][-1, -1], "> 0.5", verdict, usual=True,
    )
    for number, norm, verdict in ((2, "post-norm", "SUPPORTED"), (3, "pre-norm", "REFUTED"))
]  # fmt: skip

# %% [markdown]
# Adam, the optimiser, divides each gradient by its usual size. Its first step is $\mathrm{lr} \cdot g / |g|$: every
# parameter moves a full step, be the reason good or not. After a post-norm only a direction is left, and if $f(x)$ is
# large beside $x$, such steps may turn it for good. Then small matrices should help. We halve all of them at the start:

# %%
claim(
    "q19.4", "Post-norm needs the warm-up, however its weights start", "last loss, no warm-up, weights halved",
    [last_loss(seed, 0.008, 1, shrink=0.5) for seed in SEEDS], "> 0.5", "REFUTED", reason="Compare card 2.",
)  # fmt: skip

# %% [markdown]
# And the formula as it stands, in a training as short as this? Its warm-up must be short: say 60 steps. With D = 32 the
# peak is $(32 \cdot 60)^{-0.5} = 0.023$, thirty times that of the paper's base model. Up to there both schedules agree.

# %%
claim(
    "q19.5", "The formula gives a good rate for any model and length of training", "last loss, peak at step 60, 0.023",
    [last_loss(seed, mt.noam(32, 60)(59), 60) for seed in SEEDS], "< 0.5", "REFUTED", usual=True,
)  # fmt: skip

# %% [markdown]
# ## Dropout: where?
# With a probability $p$ a number becomes 0, otherwise it is divided by $1 - p$. So its mean stays what it was:
# $p \cdot 0 + (1 - p) \cdot x / (1 - p) = x$. A task to learn by heart: the token *three* places before, in 48 texts
# and no others. Who is right on new ones? Dropout is 0.1 at each place, at all three, and inside the FFN.

# %%
PLACES = {  # attention weights, sublayer outputs, embedding + position, inside the FFN
    "nowhere": (0, 0, 0, 0), "weights": (1, 0, 0, 0), "sublayers": (0, 1, 0, 0), "embedding": (0, 0, 1, 0),
    "all three": (1, 1, 1, 0), "inside FFN": (0, 0, 0, 1),
}  # fmt: skip


def few(seed, n=48):
    """The task with always the same n texts, 16 of them at a time."""
    ids, labels = toys.look_back(3, T=12, batch=n)(np.random.default_rng(500 + seed))
    return lambda rng: (ids[(chosen := rng.integers(n, size=16))], labels[chosen])


def trained(seed, place, p, steps=300, texts=None):
    """Two layers with dropout p at such places, trained; and how often they are right on new texts."""
    mg.manual_seed(seed)
    model = toys.Reader(toys.small(num_encoder_layers=2, nhead=2, activation="relu"))
    on_weights, on_sublayers, model.encoder.dropout.p, inside = p * np.array(PLACES[place])
    for layer in model.encoder.layers:
        layer.self_attn.dropout = on_weights
        layer.add_norm1.dropout.p = layer.add_norm2.dropout.p = on_sublayers
        layer.ffn.dropout.p = inside
    toys.train(model, texts or few(seed), steps, lr=5e-3, seed=seed)
    return model, toys.accuracy(model, toys.look_back(3, T=12))[0]


placed = {place: [trained(seed, place, 0.1) for seed in SEEDS] for place in PLACES}
right = {place: np.array([share for _, share in runs]) for place, runs in placed.items()}
with draw.figure(7, 2.8) as fig:
    axes = fig.subplots()
    axes.bar([*right], [shares.mean() for shares in right.values()], color=draw.SKY)
    axes.plot([*right], [*right.values()], "o", color="black", ms=4)
    axes.set(ylabel="right on new texts", ylim=(0, 1.05), xlabel="where dropout is (0.1)")
show(draw.Plot(fig, {place: shares.mean().round(2) for place, shares in right.items()}), "q19-places")

# %%
[
    claim(
        f"q19.{number}", f"Dropout helps: {place}", "right on new texts, with 0.1 there - without any",
        right[place] - right["nowhere"], f"> {gain}", verdict, usual=place != "inside FFN",
    )
    for number, place, gain, verdict in (
        (6, "weights", 0.03, "SUPPORTED"), (7, "sublayers", 0.03, "SUPPORTED"), (8, "embedding", 0.03, "SUPPORTED"),
        (9, "all three", 0.3, "SUPPORTED"), (10, "inside FFN", 0.1, "REFUTED"),
    )
]  # fmt: skip

# %% [markdown]
# ## How much, and for how long?

# %%
AMOUNTS = (0.0, 0.1, 0.2, 0.3, 0.5)
KINDS = {"300 steps": (300,), "900 steps": (900,), "300 steps, all new": (300, toys.look_back(3, T=12, batch=16))}
amounts = {("300 steps", 0.0): right["nowhere"], ("300 steps", 0.1): right["all three"]} | {
    (kind, p): np.array([trained(seed, "all three", p, *settings)[1] for seed in SEEDS])
    for kind, settings in KINDS.items()
    for p in (AMOUNTS[2:] if kind == "300 steps" else fast((0.0, 0.1, 0.3, 0.5), (0.5,)))
}
with draw.figure(6, 2.8) as fig:
    axes = fig.subplots()
    for kind, colour, look in zip(KINDS, COLOURS, ("o-", "s--", "^:")):
        points = {p: np.mean(shares) for (of, p), shares in amounts.items() if of == kind}
        axes.plot([*points], [*points.values()], look, color=colour, label=kind)
    axes.set(xlabel="dropout p at the three places", ylabel="right on new texts", ylim=(0, 1.05), xticks=AMOUNTS)
    axes.legend()
show(draw.Plot(fig, {f"{kind}, p = {p}": np.mean(s).round(2) for (kind, p), s in amounts.items()}), "q19-amounts")

# %%
best = np.maximum(amounts["300 steps", 0.0], amounts["300 steps", 0.5])
one, two, three = (amounts["300 steps", p] for p in (0.1, 0.2, 0.3))
[
    claim(
        f"q19.{number}", statement, f"right on new texts{what}", values, needs, verdict, usual=number < 14,
        reason="It also slows learning, and 300 steps are few." if number == 13 else "",
    )
    for number, statement, what, values, needs, verdict in (
        (11, "0.1 is right (48 texts, 300 steps)", " - best of 0 and 0.5", one - best, "> 0.2", "SUPPORTED"),
        (12, "0.2 is right (48 texts, 300 steps)", " - best of 0 and 0.5", two - best, "> 0.2", "SUPPORTED"),
        (13, "0.3 is as right as 0.1 (48 texts, 300 steps)", ", 0.3 - 0.1", three - one, "> -0.05", "REFUTED"),
        (14, "0.5 is too much (48 texts, 900 steps)", "", amounts["900 steps", 0.5], "< 0.9", "REFUTED"),
        (15, "0.5 is too much (300 steps, all new)", "", amounts["300 steps, all new", 0.5], "< 0.9", "SUPPORTED"),
    )
]  # fmt: skip

# %% [markdown]
# ## In training and at test time
# Dropout keeps the mean, not the spread. A row of attention weights $a_1 \dots a_S$ still has the sum 1 *on average*,
# but each $a_j$ brings the variance $a_j^2\, p / (1 - p)$ to it. If one key has all the weight, the sum is 1.11 with
# $p = 0.1$, or 0 and the row is gone. We draw 400 dropouts of each row of the trained models.

# %%
text, labels = toys.look_back(3, T=12, batch=256)(np.random.default_rng(7))
means, whole, repeats, better = [], [], [], []
for model, share in placed["all three"]:
    with mt.evaluating(model), nn.capture(model, "*.pattern") as seen:
        repeats.append(abs(model(text).data - model(text).data).max())
    rows = mg.cat([pattern[:8].reshape(-1, 12) for pattern in seen.values()])  # of eight texts, (rows, 12 keys)
    sums = np.array([nn.Dropout(0.1)(rows).data.sum(axis=1) for _ in range(400)])
    means.append(abs(sums.mean() - 1))
    whole.append((abs(sums - 1) < 1e-3).mean())
    left_on = model.train()(text).data.argmax(axis=-1)
    better.append(share - (left_on == labels).sum() / (labels != toys.NOTHING).sum())

# %%
[
    claim(f"q19.{number}", statement, statistic, values, needs, verdict, usual=usual)
    for number, statement, statistic, values, needs, verdict, usual in (
        (16, "Dropout keeps the mean", "|mean sum of a row - 1|", means, "< 0.01", "SUPPORTED", False),
        (17, "Each row still sums to 1", "share of sums that are 1", whole, "> 0.5", "REFUTED", False),
        (18, "At test it is off", "largest difference of two calls of eval()", repeats, "== 0", "SUPPORTED", True),
        (19, "At test it should be off", "right with it off - left on", better, "> 0", "SUPPORTED", True),
    )
]

# %% [markdown]
# **What the usual answer gets wrong, where it is right, and when.** Your three numbers: about 2.8, nothing learnt;
# about 30 % after 300 steps; all after 900. The three places are right: each helps, all three help most. So is "off at
# test". The formula has the right *shape*; its *height* does not carry over to short trainings of small models. A
# warm-up was vital for post-norm only, at a high rate, with large weights. Of "0.1 to 0.3" here 0.1 and 0.2 were right:
# dropout slows learning, so how much is right depends on your time, and on how many texts there are.
#
# **Exercise.** Write the rate, and dropout: `python -m tutorials.check q19`
#
# **References.** Vaswani et al. 2017, *Attention Is All You Need*, sections 5.3 and 5.4. Srivastava et al. 2014,
# *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*. Xiong et al. 2020, *On Layer Normalization in the
# Transformer Architecture*, section 3. Liu et al. 2020, *Understanding the Difficulty of Training Transformers*.
