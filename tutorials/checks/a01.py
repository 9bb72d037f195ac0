"""What a01 must hold: an order in which nobody speaks too early, found without walking every route."""

import numpy as np

import minigrad as mg
from tutorials.check import close, expect

HINTS = (
    "Recursion goes too deep. Keep a list of what is still to be done, and take the last one from it in a loop.",
    "Put every node on the list twice: on its first turn put it back and its parents on top; on its second it is done.",
    "In the order in which they are done, parents come first. Turn it round. The walk is then a loop over this order.",
)
READS = 10  # of the parents of a node, on average, that are surely enough


class _Node:
    """A node that does not like to be asked for its parents again and again."""

    def __init__(self, parents=(), weights=(), budget=None):
        self._parents, self.weights = tuple(parents), tuple(weights)
        self.products = tuple([lambda g, w=w: w * g for w in weights])
        self.budget = [0] if budget is None else budget

    @property
    def parents(self):
        """The nodes that this one was made from."""
        self.budget[0] -= 1
        expect(self.budget[0] != 0, "parents are read again and again: every route is walked, not every node")
        return self._parents


def _random_graph(rng, size):
    """Nodes, each made from some of those before it, and the last from all that nobody has used."""
    nodes, used = [_Node()], set()
    for _ in range(size):
        parents = rng.integers(len(nodes), size=rng.integers(1, 4))
        used.update(parents.tolist())
        nodes.append(_Node([nodes[i] for i in parents], rng.normal(size=len(parents))))
    unused = [node for i, node in enumerate(nodes) if i not in used]
    return [*nodes, _Node(unused, rng.normal(size=len(unused)))]


def every_node_is_there_once(answer, rng):
    """The order begins with the root and leaves nothing out."""
    nodes = _random_graph(rng, rng.integers(1, 30))
    order = list(answer.topological_order(nodes[-1]))
    expect(order and order[0] is nodes[-1], "the order does not begin with the root")
    expect(len(order) == len(nodes), f"the order has {len(order)} nodes, expected {len(nodes)}")
    expect(set(order) == set(nodes), "a node is there twice, and another one is missing")


def a_node_comes_after_all_that_use_it(answer, rng):
    """That is what topological means."""
    nodes = _random_graph(rng, rng.integers(10, 40))
    place = {node: i for i, node in enumerate(answer.topological_order(nodes[-1]))}
    for node in nodes:
        for parent in node.parents:
            expect(
                place[node] < place[parent],
                f"a node at place {place[parent]} is used by one at place {place[node]}, which comes after it",
            )


def a_long_chain_is_no_problem(answer, rng):
    """Longer than Python lets functions call each other."""
    length = int(rng.integers(3000, 4000))
    root = _Node()
    for _ in range(length):
        root = _Node([root], [1.0])
    expect(len(answer.topological_order(root)) == length + 1, "the order of a long chain is not complete")


def shared_nodes_cost_nothing(answer, rng):
    """A ladder of n doublings has 2^n routes, and n + 1 nodes."""
    depth = int(rng.integers(30, 50))
    budget = [2 * READS * depth]
    root = leaf = _Node(budget=budget)
    for _ in range(depth):
        root = _Node([root, root], [0.5, 0.5], budget)
    expect(len(answer.topological_order(root)) == depth + 1, "the order of a ladder is not complete")
    close(answer.gradients(root, 1.0)[leaf], 1.0, "the gradient at the end of a ladder of x/2 + x/2")


def all_arrows_add_up(answer, rng):
    """The gradients solve g = e + W g, with the weights of all arrows in W."""
    nodes = _random_graph(rng, rng.integers(1, 30))
    number = {node: i for i, node in enumerate(nodes)}
    weights, seed = np.eye(len(nodes)), np.zeros(len(nodes))
    for node in nodes:
        for parent, weight in zip(node.parents, node.weights, strict=True):
            weights[number[parent], number[node]] -= weight
    seed[-1] = rng.normal()
    found = answer.gradients(nodes[-1], seed[-1])
    close([found[node] for node in nodes], np.linalg.solve(weights, seed), "the gradient of the nodes")


def it_walks_the_graph_of_the_engine(answer, rng):
    """The nodes of minigrad are such nodes."""
    a = mg.tensor(rng.normal(size=3), requires_grad=True)
    b = a.sin() * a
    c = (b + a) * b.tanh()
    g = rng.normal(size=3)
    found = answer.gradients(c.node, g)[a.node]
    c.backward(g)
    close(found, a.grad, "the gradient of a in b = sin(a) a; c = (b + a) tanh(b)")
