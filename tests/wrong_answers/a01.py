"""Wrong answers to a01."""

from tutorials.solutions import a01


def recursive(root):
    """Depth-first by recursion: right, but not for long chains."""
    down, seen = [], set()

    def visit(node):
        if node not in seen:
            seen.add(node)
            for parent in node.parents:
                visit(parent)
            down.append(node)

    visit(root)
    return down[::-1]


def as_they_are_met(root):
    """Breadth-first: a node may come before one that uses it."""
    order = [root]
    for node in order:
        order += [parent for parent in dict.fromkeys(node.parents) if parent not in order]
    return order


def every_route(root):
    """Without a set of what has been seen."""
    order, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        order = [other for other in order if other is not node] + [node]
        waiting += node.parents
    return order


def impatient(root, gradient):
    """Sends on what arrives first."""
    found, waiting = {}, [(root, gradient)]
    while waiting:
        node, g = waiting.pop()
        is_first = node not in found
        found[node] = found.get(node, 0) + g
        if is_first:
            waiting += [(parent, product(g)) for parent, product in zip(node.parents, node.products, strict=True)]
    return found


def forgets_the_second_arrow(root, gradient):
    """The last arrow that arrives replaces the others."""
    found = {root: gradient}
    for node in a01.topological_order(root):
        for parent, product in zip(node.parents, node.products, strict=True):
            found[parent] = product(found[node])
    return found


WRONG = {
    "recursion": {"topological_order": recursive},
    "breadth-first": {"topological_order": as_they_are_met},
    "walks every route": {"topological_order": every_route},
    "does not wait": {"gradients": impatient},
    "does not add": {"gradients": forgets_the_second_arrow},
}
