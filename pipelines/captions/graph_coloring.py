"""Coloring a conflict graph whose colors have a capacity: bin packing with conflicts.

A graph is a list of integers: bit j of ``conflicts[i]`` says that i and j may not share a color.
A coloring is a list of groups of nodes. Both algorithms are deterministic.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

Groups = list[list[int]]


def first_fit(sizes: Sequence[int], conflicts: Sequence[int], capacity: int) -> Groups:
    """Greedy, as published: most conflicts first (of equals the last), first group that fits.

    A node larger than the capacity gets a group of its own.
    """
    order = sorted(range(len(sizes)), key=lambda i: (conflicts[i].bit_count(), i), reverse=True)
    return [g.nodes for g in _greedy(order, sizes, conflicts, capacity, _first) if g.nodes]


def best(sizes: Sequence[int], conflicts: Sequence[int], capacity: int) -> Groups:
    """The fewest groups of several greedy orders, after which single groups are dissolved.

    Stops as soon as a lower bound is met, which it is for most images. Groups are sorted by
    their first node, nodes within a group rise: a caption keeps the order of its sentences.

    Raises:
        ValueError: a node is larger than the capacity.
    """
    if any(size > capacity for size in sizes):
        raise ValueError(f"a node of size {max(sizes)} cannot fit the capacity {capacity}")
    bound = max(-(-sum(sizes) // capacity), _clique(conflicts))
    degree = [c.bit_count() for c in conflicts]
    nodes = range(len(sizes))
    orders: list[tuple[Callable[[int], tuple[int, ...]], _Choose]] = [
        (lambda i: (-sizes[i], -degree[i], i), _fullest),
        (lambda i: (-degree[i], -sizes[i], i), _fullest),
        (lambda i: (-degree[i] * capacity - sizes[i] * len(sizes), i), _fullest),
        (lambda i: (-degree[i], -i), _first),  # that of `first_fit`, so never more groups than it
    ]
    found: list[_Group] | None = None
    for key, choose in orders:
        groups = _greedy(sorted(nodes, key=key), sizes, conflicts, capacity, choose)
        while len(groups) > bound and _dissolve_one(groups, sizes, conflicts, capacity):
            pass
        if found is None or len(groups) < len(found):
            found = groups
        if len(found) <= bound:
            break
    return sorted(sorted(g.nodes) for g in found or [] if g.nodes)


class _Group:
    """Nodes of one color: ``members`` as bits, ``size`` their sum."""

    __slots__ = ("members", "nodes", "size")

    def __init__(self) -> None:
        self.nodes: list[int] = []
        self.members = 0
        self.size = 0

    def add(self, node: int, size: int) -> None:
        self.nodes.append(node)
        self.members |= 1 << node
        self.size += size

    def remove(self, node: int, size: int) -> None:
        self.nodes.remove(node)
        self.members &= ~(1 << node)
        self.size -= size


_Choose = Callable[[Iterable[_Group]], _Group | None]


def _first(groups: Iterable[_Group]) -> _Group | None:
    return next(iter(groups), None)


def _fullest(groups: Iterable[_Group]) -> _Group | None:
    return max(groups, key=lambda g: g.size, default=None)


def _fullest_first(group: _Group) -> int:
    return -group.size


def _greedy(
    order: Sequence[int],
    sizes: Sequence[int],
    conflicts: Sequence[int],
    capacity: int,
    choose: _Choose,
) -> list[_Group]:
    groups = [_Group()]
    for node in order:
        room, against = capacity - sizes[node], conflicts[node]
        group = choose(g for g in groups if g.size <= room and not g.members & against)
        if group is None:
            group = _Group()
            groups.append(group)
        group.add(node, sizes[node])
    return groups


def _clique(conflicts: Sequence[int]) -> int:
    """The size of a clique found greedily: a lower bound of the number of colors."""
    size = 0
    candidates = (1 << len(conflicts)) - 1
    for node in sorted(range(len(conflicts)), key=lambda i: (-conflicts[i].bit_count(), i)):
        if candidates >> node & 1:
            candidates &= conflicts[node]
            size += 1
    return size


def _dissolve_one(
    groups: list[_Group], sizes: Sequence[int], conflicts: Sequence[int], capacity: int
) -> bool:
    """Empties one group into the others if that can be, smallest first; whether it could.

    A node that fits nowhere may take the place of one smaller node that fits elsewhere.
    """
    for group in sorted(groups, key=lambda g: (g.size, min(g.nodes, default=-1))):
        others = [_copy(g) for g in groups if g is not group]
        nodes = sorted(group.nodes, key=lambda i: (-sizes[i], i))
        if all(_place(node, others, sizes, conflicts, capacity) for node in nodes):
            groups[:] = others
            return True
    return False


def _copy(group: _Group) -> _Group:
    copy = _Group()
    copy.nodes, copy.members, copy.size = [*group.nodes], group.members, group.size
    return copy


def _place(
    node: int,
    groups: list[_Group],
    sizes: Sequence[int],
    conflicts: Sequence[int],
    capacity: int,
) -> bool:
    against, size = conflicts[node], sizes[node]
    group = _fullest(g for g in groups if g.size + size <= capacity and not g.members & against)
    if group is not None:
        group.add(node, size)
        return True
    # Most groups are full: of hundreds, those at the end of this list can take in a node at all.
    by_size = sorted(groups, key=_fullest_first)
    most_room = capacity - by_size[-1].size if by_size else 0
    for group in groups:
        blockers = group.members & against
        if blockers.bit_count() > 1:
            continue
        swaps = [blockers.bit_length() - 1] if blockers else group.nodes
        for other in swaps:
            if group.size - sizes[other] + size > capacity or sizes[other] > most_room:
                continue
            fits = bisect_left(by_size, sizes[other] - capacity, key=_fullest_first)
            target = _first(
                g
                for g in islice(by_size, fits, None)
                if g is not group and not g.members & conflicts[other]
            )
            if target is not None:
                group.remove(other, sizes[other])
                target.add(other, sizes[other])
                group.add(node, size)
                return True
    return False
