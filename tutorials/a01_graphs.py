# %% [markdown]
# # Engine 1. Tensors and graphs: in which order does a gradient travel?
#
# To train a network is to ask, for millions of numbers at once: *if I made you a little larger, by how much would the
# loss grow?* The **loss** is one number that says how wrong the network is; the answer is the **gradient**. More
# precisely, it is a rate: the growth of the loss divided by the step, for a very small step. Here you see how all
# gradients are found in a single walk through the computation, and why it must visit things in the right order.
#
# A **tensor** is an array of numbers that remembers how it was made. `requires_grad=True` says: I shall want to know
# the gradient here. Take one number, and double it twice, `b = a + a` and `c = b + b`.
#
# **Predict.** Write down the gradient of `c` with respect to `a`: by how much does `c` grow if `a` grows by 1?
#
# ## See it
# `mg.record` writes down all that happens inside, and `mg.graph` draws it. Values flow along the arrows, gradients
# against them. `c.backward()` computes all gradients.

# %%
from collections import Counter

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import draw
from tutorials.lesson import claim, fast, show

with mg.record() as rec:
    a = mg.tensor([3.0], requires_grad=True)
    b = a + a
    c = b + b
    c.backward()
show(mg.graph(rec, title="b = a + a; c = b + b"), "a01-graph")

# %% [markdown]
# Every operation leaves a **node** behind, a box in the picture. A node knows its operation, its **parents** (the nodes
# of the inputs, one for each argument, so `b + b` has the same parent twice), and for each parent a small function that
# knows the slope. `a` was made by no operation; such a node is a **leaf**, and gradients end there.
#
# Read the picture from below. `c`, our loss here, has gradient 1: if it grows by 1, it grows by 1. Two arrows lead from
# `b` to `c`, because `b` is used twice. Each brings a gradient of 1 back, so `b` has 2. Two arrows lead from `a` to
# `b`, each brings this 2 back, and `a` has **4**. Of course: $c = 4a$. (From above, the boxes are our `a`, `b` and `c`.
# On an arrow stand the name of the argument, which is `a` or `b` in every `add`, the shape of what is passed, and the
# part of the sum that comes back along it. The small print is for larger graphs; Engine 5 explains it.)
#
# In symbols, write $\bar x$ for the gradient of the loss with respect to $x$. Each use of $x$ is an arrow from $x$ to
# some node $u$, and each arrow brings back the gradient of $u$ times the slope along the arrow. They add up:
#
# $$\bar x = \sum_{\text{arrows } x \to u} \bar u \, \frac{\partial u}{\partial x}$$
#
# That is the chain rule. What it does not say is *when*: $\bar x$ must be complete before it is sent on. Let us see
# what becomes of someone who does not wait.
#
# ## Two walks that do not wait
# `node.products` are the small functions, one per parent: gradient of the node in, its product with the slope out.
# **Eager** sends on whatever arrives, at once. **Impatient** sends on what arrives first, and only adds up the rest.


# %%
def eager(node, g, gradients):
    """Send on every gradient as it arrives; returns how many calls that took."""
    gradients[node] = gradients.get(node, 0) + g
    return 1 + sum(eager(parent, product(g), gradients) for parent, product in zip(node.parents, node.products))


def impatient(node, g, gradients):
    """Send on the first gradient that arrives; returns how many calls that took."""
    is_first = node not in gradients
    gradients[node] = gradients.get(node, 0) + g
    onward = zip(node.parents, node.products) if is_first else ()
    return 1 + sum(impatient(parent, product(g), gradients) for parent, product in onward)


def ladder(depth):
    """A tensor, and what becomes of it when it is doubled `depth` times by x + x."""
    start = end = mg.tensor([1.0], requires_grad=True)
    for _ in range(depth):
        end = end + end
    return start, end


depths = [*range(1, fast(17, 13))]  # the second number is for a quick run, with TUTORIALS_FAST=1
calls, found = {"eager": [], "impatient": []}, {"eager": [], "impatient": []}
for depth in depths:
    start, end = ladder(depth)
    for walk in (eager, impatient):
        gradients = {}
        calls[walk.__name__].append(walk(end.node, np.ones(1), gradients))
        found[walk.__name__].append(float(gradients[start.node][0]))

# %%
with draw.figure(8, 3) as fig:
    left, right = fig.subplots(1, 2)
    left.semilogy(depths, np.exp2(depths), color=draw.GREY, lw=5, alpha=0.4, label="the truth, $2^n$")
    left.semilogy(depths, found["eager"], "o", ms=4, color=draw.BLUE, label="eager")
    left.semilogy(depths, found["impatient"], "s", ms=4, color=draw.VERMILLION, label="impatient")
    left.set(title="gradient of the first tensor", xlabel="doublings n")
    right.semilogy(depths, calls["eager"], "o-", ms=4, color=draw.BLUE, label="eager: calls")
    right.semilogy(depths, np.add(depths, 1), "^-", ms=4, color=draw.GREEN, label="nodes that there are")
    right.set(title="work", xlabel="doublings n")
    left.legend()
    right.legend()
show(draw.Plot(fig, {"depth": depths, "calls": calls, "gradient": found}), "a01-walks")

# %% [markdown]
# Impatient is quick, and wrong from the second doubling on: at every node on the way it leaves half behind, and says 2
# whatever the depth. Eager is right, but every doubling doubles its work, since it walks every *route* from the end to
# the start: $2^n$ routes through $n+1$ nodes.
#
# Is that far-fetched? A **Transformer**, the network that this project is about, is full of forks: each of its
# *residual connections* $x + f(x)$ uses $x$ twice. Let us count the routes in one with six layers on either side, as in
# the original paper, from the loss to the very first parameter, the table with a vector for each source word. To count,
# one need not walk: the routes to a node are those to all nodes that use it, added up. That is the chain rule with all
# slopes 1. (`claim` prints a card: the verdict and what is claimed; what was measured, and what it would have to be.)

# %%
config = mt.TransformerConfig(src_vocab_size=20, d_model=16, nhead=2, num_encoder_layers=6, num_decoder_layers=6)
model = mt.Transformer(config)
words, so_far, labels = np.array([[5, 6, 7, 8, 2]]), np.array([[1, 9, 10]]), np.array([[9, 10, 2]])
loss = mg.ops.cross_entropy(model(words, so_far), labels)
tape = mg.trace.of_tape(loss, model)  # all nodes below the loss, in the order in which they were made
routes = Counter({tape.steps[-1]: 1})
for step in reversed(tape.steps):
    for arrow in step.inputs:
        routes[arrow.parent] += routes[step]
count = routes[tape["src_embed.weight"]]
print(f"{len(tape.steps)} nodes, {count:,} routes from the loss to the embedding")
claim(
    "a01.1", "Walking every route is out of the question for a Transformer", "routes per node",
    [count / len(tape.steps)], "> 100000", "SUPPORTED", over="",
    reason="and here a whole attention is one node: the finer the nodes, the more routes",
)  # fmt: skip

# %% [markdown]
# ## The walk that waits
# So: visit each node **once**, and only when all nodes that use it have been visited. An order of the nodes with this
# property is called **topological**. Once we have one, the walk is a loop, and no recursion can go too deep.


# %%
def in_order(order, g):
    """Each node in turn sends on all it has received."""
    gradients = {order[0]: g}
    for node in order:
        for parent, product in zip(node.parents, node.products):
            gradients[parent] = gradients.get(parent, 0) + product(gradients[node])
    return gradients


# %% [markdown]
# Where does such an order come from? There are three classical answers.
#
# 1. **Order of creation.** A node can only use nodes that exist already, so whoever uses it is younger. From the
#    youngest to the oldest is topological, for free. A running number on each node, its `serial`, is enough to sort by.
# 2. **Depth-first search.** Follow parents as far down as they go. Put a node down when all its parents have been put
#    down. Parents then come before the nodes that use them; read it backwards.
# 3. **Kahn's algorithm.** Count the uses of every node. Take a node without open uses, strike out its arrows, go on.


# %%
def by_creation(root):
    """Collect all nodes below the root; the youngest first."""
    nodes, waiting = {root}, [root]
    while waiting:
        new = set(waiting.pop().parents) - nodes
        nodes |= new
        waiting += new
    return sorted(nodes, key=lambda node: -node.serial)


def depth_first(root):
    """A node is put down after its parents; backwards."""
    down, seen, waiting = [], set(), [(root, False)]
    while waiting:
        node, its_parents_are_down = waiting.pop()
        if its_parents_are_down:
            down.append(node)
        elif node not in seen:
            seen.add(node)
            waiting += [(node, True), *[(parent, False) for parent in node.parents]]
    return down[::-1]


def kahn(root):
    """A node is ready when no open use is left."""
    uses = Counter(parent for node in by_creation(root) for parent in node.parents)
    order, ready = [], [root]
    while ready:
        order.append(ready.pop())
        for parent in order[-1].parents:
            uses[parent] -= 1
            if uses[parent] == 0:
                ready.append(parent)
    return order


# %% [markdown]
# ## Measure
# Random programs: 40 steps, each on two results chosen at random from those before it, and in the end the sum of all.
# Are the three orders the same? Do the gradients agree, with each other and with the engine? And then a chain of 5,000
# sines, too long for recursion: Python allows only so many calls within calls.


# %%
def random_program(seed, length=40):
    """A leaf of 4 numbers, and the sum of `length` random steps that begin at it."""
    rng = np.random.default_rng(seed)
    values = [mg.tensor(rng.normal(size=4), requires_grad=True)]
    for _ in range(length):
        x, y = (values[i] for i in rng.integers(len(values), size=2))
        values.append((x + y, x * y, x.tanh(), x.sin() - y)[rng.integers(4)].tanh())
    return values[0], sum(values[1:], values[0])


moved, apart, bits = [], [], []
for seed in range(fast(20, 5)):
    leaf, end = random_program(seed)
    orders = [order(end.node) for order in (by_creation, depth_first, kahn)]
    results = np.array([in_order(order, np.ones(4))[leaf.node] for order in orders])
    end.backward(np.ones(4))
    moved.append(np.mean([len({*nodes}) > 1 for nodes in zip(*orders)]))
    apart.append(np.abs(results - leaf.grad.data).max() / np.abs(leaf.grad.data).max())
    bits.append((results == results[0]).all())
end = mg.tensor([1.0], requires_grad=True)
for _ in range(5000):
    end = end.sin()
try:
    eager(end.node, np.ones(1), {})
except RecursionError as error:
    print(f"eager: {error}; in order: {len(in_order(kahn(end.node), np.ones(1)))} nodes, no problem")
print(f"orders differ at {np.mean(moved):.0%} of the places; gradients agree to the last bit in {sum(bits)} programs")
claim(
    "a01.2", "Three topological orders give the same gradients", "largest relative difference to the engine's", apart,
    "< 1e-12", "SUPPORTED", reason="but not to the last bit: (x + y) + z and x + (y + z) are rounded differently",
)  # fmt: skip

# %% [markdown]
# The orders have little in common, and the gradients are the same, but for rounding: nobody spoke too early.
# `backward` in `minigrad/core.py` takes the order of creation: of the nodes that have received something, the youngest.
#
# **Where not waiting is right.** Where every node is used only once, the first gradient that arrives is also the last,
# and eager and impatient are the same walk, right and quick. It is sharing that breaks them.
#
# **Exercise.** Tell a topological order from a wrong one. Then the other direction: by how much does a node grow per
# unit by which a leaf grows? This can be found on the way *forwards*, and one has to wait there, too. Write both in
# `tutorials/exercises/a01.py`, then `python -m tutorials.check a01`; with `--hint 1` it gives a hint.
#
# **References.** A. B. Kahn, *Topological sorting of large networks*, Communications of the ACM 5 (1962). A. G. Baydin
# et al., *Automatic differentiation in machine learning: a survey*, JMLR 18 (2018), sections 3.1 (forwards), 3.2
# (back). A. Vaswani et al., *Attention Is All You Need* (2017), section 3.1 (layers and residual connections).
