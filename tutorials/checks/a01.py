"""What a01 must hold: a right order is told from a wrong one, and what travels forwards waits, too."""

import numpy as np

from tutorials.check import close, expect

HINTS = (
    "An order: note the place of each node in a dict. Then every arrow can be looked at on its own.",
    "Growth: a node must wait for all its parents. Put what waits on a list, its unknown parents on top, and go on.",
    "Look at the last node of the list. Are all its parents known? Take it off and add up. Else put them on top of it.",
)
READS = 10  # of the parents of a node, on average, that are surely enough


class _Node:
    """A node that does not like to be asked for its parents again and again."""

    def __init__(self, parents=(), slopes=(), budget=None):
        self._parents, self.slopes = tuple(parents), tuple(slopes)
        self.budget = [0] if budget is None else budget

    @property
    def parents(self):
        """The nodes that this one was made from."""
        self.budget[0] -= 1
        expect(self.budget[0] != 0, "parents are read again and again: every route is walked, not every node")
        return self._parents


def _random_graph(rng, size):
    """Nodes in the order of creation, each made from some of those before it, the last from all that nobody has used.

    The nodes 0 and 1 are made from nothing.
    """
    nodes, used = [_Node(), _Node()], set()
    for _ in range(size):
        parents = rng.integers(len(nodes), size=rng.integers(1, 4))
        used.update(parents.tolist())
        nodes.append(_Node([nodes[i] for i in parents], rng.normal(size=len(parents))))
    unused = [node for i, node in enumerate(nodes) if i not in used]
    return [*nodes, _Node(unused, rng.normal(size=len(unused)))]


def the_youngest_first_is_topological(answer, rng):
    """The order of creation, backwards."""
    nodes = _random_graph(rng, rng.integers(1, 30))[::-1]
    expect(answer.is_topological(nodes, nodes[0]), "the youngest node first: that is topological, and was refused")


def one_that_comes_too_early_is_found(answer, rng):
    """A node changes places with one that uses it, perhaps far behind."""
    nodes = _random_graph(rng, rng.integers(5, 30))[::-1]
    user = int(rng.choice([i for i, node in enumerate(nodes) if node.parents]))
    used = nodes.index(nodes[user].parents[0])
    moved = [*nodes]
    moved.insert(user, moved.pop(used))
    message = f"a node at place {user} is used by the one at place {user + 1}, and the order was accepted"
    expect(not answer.is_topological(moved, nodes[0]), message)


def one_that_is_missing_or_there_twice_is_found(answer, rng):
    """Each node, once."""
    nodes = _random_graph(rng, rng.integers(5, 30))[::-1]
    for i in (0, int(rng.integers(1, len(nodes)))):
        name, without = f"node at place {i}" if i else "root", nodes[:i] + nodes[i + 1 :]
        expect(not answer.is_topological(without, nodes[0]), f"without the {name} the order was accepted")
    expect(not answer.is_topological([], nodes[0]), "an empty list, without the root, was accepted")
    expect(not answer.is_topological([*nodes, nodes[-1]], nodes[0]), "with a node twice the order was accepted")


def all_arrows_add_up(answer, rng):
    """How much each node grows solves t = e + W t, with the slopes of all arrows in W; e is 1 at the leaf."""
    nodes = _random_graph(rng, rng.integers(1, 30))
    number = {node: i for i, node in enumerate(nodes)}
    for leaf in (*nodes[:2], nodes[rng.integers(len(nodes))], nodes[-1]):
        left, right = np.eye(len(nodes)), np.zeros(len(nodes))
        for node in nodes:
            for parent, slope in zip(node.parents, node.slopes, strict=True):
                left[number[node], number[parent]] -= slope
        right[number[leaf]] = 1.0
        what = f"the growth of the last of {len(nodes)} nodes with number {number[leaf]}"
        close(answer.growth(nodes[-1], leaf), np.linalg.solve(left, right)[-1], what)
    close(answer.growth(nodes[-1], _Node()), 0.0, "the growth of a root that does not depend on the leaf")


def a_long_chain_is_no_problem(answer, rng):
    """Longer than Python lets functions call each other."""
    leaf = root = _Node()
    slopes = np.exp(0.01 * rng.normal(size=rng.integers(3000, 4000)))
    for slope in slopes:
        root = _Node([root], [slope])
    close(answer.growth(root, leaf), slopes.prod(), "the growth at the end of a long chain")


def shared_nodes_cost_nothing(answer, rng):
    """A ladder of n doublings has 2^n routes, and n + 1 nodes."""
    depth = int(rng.integers(30, 50))
    budget = [2 * READS * depth]
    root = leaf = _Node(budget=budget)
    for _ in range(depth):
        root = _Node([root, root], [0.5, 0.5], budget)
    close(answer.growth(root, leaf), 1.0, "the growth at the end of a ladder of x/2 + x/2")
