"""Solution of exercise a01."""


def is_topological(order, root):
    """Each node of the list has its parents behind it; so nothing below the root can be missing."""
    place = {node: i for i, node in enumerate(order)}
    each_once = len(place) == len(order)
    return each_once and root in place and all(place.get(p, -1) > place[node] for node in order for p in node.parents)


def growth(root, leaf):
    """A node waits on the pile until all its parents are known."""
    known, pile = {leaf: 1.0}, [root]
    while pile:
        node = pile.pop()
        if node in known:
            continue
        unknown = [parent for parent in node.parents if parent not in known]
        if unknown:
            pile += [node, *unknown]
        else:
            known[node] = sum(known[parent] * slope for parent, slope in zip(node.parents, node.slopes, strict=True))
    return known[root]
