"""Exercise a01: an order, and the walk in the other direction.

Here a node is any object with two attributes: `parents`, a tuple of nodes (the same one may be there twice), and
`slopes`, a tuple of as many numbers: by how much the node grows per unit by which the parent grows, along this arrow.
There are no running numbers. Chains may be thousands of nodes long, and nodes may be shared again and again.
"""


def is_topological(order, root):
    """Whether a list of nodes holds `root` and all nodes from which it was made, each once, and none too early.

    A node is too early if it stands before a node that has it as a parent. No other nodes are in the list.
    """
    raise NotImplementedError


def growth(root, leaf):
    """By how much `root` grows per unit by which `leaf` grows; 0 if it does not depend on it.

    Found forwards: how much a node grows is the sum, over its arrows, of what its parent grows times the slope; `leaf`
    grows by 1. Nothing is sent back.
    """
    raise NotImplementedError
