"""Solution of exercise a01."""


def topological_order(root):
    """Depth-first: a node is put down when all its parents are, and the list is read backwards."""
    down, seen, waiting = [], set(), [(root, False)]
    while waiting:
        node, its_parents_are_down = waiting.pop()
        if its_parents_are_down:
            down.append(node)
        elif node not in seen:
            seen.add(node)
            waiting += [(node, True), *[(parent, False) for parent in node.parents]]
    return down[::-1]


def gradients(root, gradient):
    """Each node in turn sends on all that it has received."""
    found = {root: gradient}
    for node in topological_order(root):
        for parent, product in zip(node.parents, node.products, strict=True):
            found[parent] = found.get(parent, 0) + product(found[node])
    return found
