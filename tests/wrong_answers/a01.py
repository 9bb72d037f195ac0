"""Wrong answers to a01."""

from itertools import pairwise


def only_neighbours(order, root):
    """Looks at the next node in the list only."""
    return order[0] is root and all(node not in other.parents for node, other in pairwise(order))


def what_is_there_is_in_order(order, root):
    """Does not see that a node is missing."""
    place = {node: i for i, node in enumerate(order)}
    right = all(place.get(parent, len(order)) > place[node] for node in order for parent in node.parents)
    return len(place) == len(order) and right


def twice_is_right(order, root):
    """Does not see that a node is there twice."""
    place = {node: i for i, node in enumerate(order)}
    return root in place and all(place.get(parent, -1) > place[node] for node in order for parent in node.parents)


def recursive(root, leaf):
    """Right, but not for long chains."""
    known = {leaf: 1.0}

    def find(node):
        if node not in known:
            known[node] = sum(find(parent) * slope for parent, slope in zip(node.parents, node.slopes, strict=True))
        return known[node]

    return find(root)


def every_route(root, leaf):
    """Adds up over the routes, one by one."""
    total, waiting = 0.0, [(root, 1.0)]
    while waiting:
        node, slope = waiting.pop()
        total += slope * (node is leaf)
        waiting += [(parent, slope * along) for parent, along in zip(node.parents, node.slopes, strict=True)]
    return total


def one_arrow_per_parent(root, leaf):
    """Of two arrows from the same parent one is lost."""
    known, pile = {leaf: 1.0}, [root]
    while pile:
        node = pile.pop()
        arrows = dict(zip(node.parents, node.slopes, strict=True))
        unknown = [parent for parent in arrows if parent not in known]
        if unknown:
            pile += [node, *unknown]
        elif node not in known:
            known[node] = sum(known[parent] * slope for parent, slope in arrows.items())
    return known[root]


def does_not_wait(root, leaf):
    """A parent that is not known yet counts as 0."""
    met, waiting = [root], [root]
    while waiting:
        for parent in waiting.pop(0).parents:
            if parent not in met:
                met.append(parent)
                waiting.append(parent)
    known = {leaf: 1.0}
    for node in reversed(met):
        if node is not leaf:
            known[node] = sum(
                known.get(parent, 0.0) * slope for parent, slope in zip(node.parents, node.slopes, strict=True)
            )
    return known[root]


def without_the_root(order, root):
    """Nothing is too early, but the root need not be there."""
    place = {node: i for i, node in enumerate(order)}
    right = all(place.get(parent, -1) > place[node] for node in order for parent in node.parents)
    return len(place) == len(order) and right


def not_empty(order, root):
    """The root need not be there, but something."""
    return bool(order) and without_the_root(order, root)


def empty_is_right(order, root):
    """Nothing stands in the wrong place."""
    return not order or (order[0] is root and without_the_root(order, root))


def leaves_have_no_parents(root, leaf):
    """0 for what is made from nothing, or 1 if it is the leaf, which may have been made from others, however."""
    known, pile = {}, [root]
    while pile:
        node = pile.pop()
        unknown = [parent for parent in node.parents if parent not in known]
        if unknown:
            pile += [node, *unknown]
        elif node not in known:
            pairs = zip(node.parents, node.slopes, strict=True)
            known[node] = sum(known[parent] * slope for parent, slope in pairs) if node.parents else float(node is leaf)
    return known[root]


WRONG = {
    "compares neighbours only": {"is_topological": only_neighbours},
    "misses a missing node": {"is_topological": what_is_there_is_in_order},
    "misses a double": {"is_topological": twice_is_right},
    "recursion": {"growth": recursive},
    "walks every route": {"growth": every_route},
    "one arrow per parent": {"growth": one_arrow_per_parent},
    "does not wait": {"growth": does_not_wait},
    "may miss the root": {"is_topological": without_the_root},
    "may miss the root, if there is a node": {"is_topological": not_empty},
    "nothing is in order": {"is_topological": empty_is_right},
    "a leaf has no parents": {"growth": leaves_have_no_parents},
}
