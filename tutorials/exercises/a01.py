"""Exercise a01: the walk that waits.

Here a node is any object with two attributes: `parents`, a tuple of nodes (the same one may be there twice), and
`products`, a tuple of as many functions. Given the gradient of the node, a product returns the gradient for its parent.
There are no running numbers. Chains may be thousands of nodes long, and nodes may be shared again and again.
"""


def topological_order(root):
    """All nodes from which `root` was made and `root` itself, once each, in a list that begins with `root`.

    Every node comes after all nodes that have it as a parent.
    """
    raise NotImplementedError


def gradients(root, gradient):
    """The gradient of every node, a dict from node to gradient, given that of `root`."""
    raise NotImplementedError
