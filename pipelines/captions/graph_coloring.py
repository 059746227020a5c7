"""Colors a conflict graph whose colors have a capacity: bin packing with conflicts.

A graph is a list of integers: bit j of ``conflicts[i]`` means that i and j may not share a color.
A coloring is a list of groups of nodes. Both algorithms are deterministic.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

Groups = list[list[int]]


class _Problem(NamedTuple):
    """A graph to color: the size of each node, its conflicts, the capacity of a group."""

    sizes: Sequence[int]
    conflicts: Sequence[int]
    capacity: int


class _Group:
    """Nodes of one color: ``members`` has them as bits, ``size`` is the sum of their sizes."""

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

    def copy(self) -> "_Group":
        group = _Group()
        group.nodes, group.members, group.size = [*self.nodes], self.members, self.size
        return group


_Choose = Callable[[Iterable[_Group]], _Group | None]


def first_fit(sizes: Sequence[int], conflicts: Sequence[int], capacity: int) -> Groups:
    """Colors greedily, as published: most conflicts first (ties: last first), first fit.

    A node larger than the capacity forms a separate group.
    """
    problem = _Problem(sizes, conflicts, capacity)
    order = sorted(range(len(sizes)), key=lambda i: (conflicts[i].bit_count(), i), reverse=True)
    return [group.nodes for group in _greedy(order, problem, _first) if group.nodes]


def best(sizes: Sequence[int], conflicts: Sequence[int], capacity: int) -> Groups:
    """Returns the fewest groups of several greedy orders, each improved by dissolving groups.

    Stops as soon as a lower bound is reached, as for most images. Groups are sorted by their first
    node, and nodes within a group are ascending, so captions keep the order of sentences.

    Raises:
        ValueError: A node is larger than the capacity.
    """
    if any(size > capacity for size in sizes):
        raise ValueError(f"a node of size {max(sizes)} cannot fit the capacity {capacity}")
    problem = _Problem(sizes, conflicts, capacity)
    lower_bound = max(-(-sum(sizes) // capacity), _clique_size(conflicts))
    degree = [c.bit_count() for c in conflicts]
    nodes = range(len(sizes))
    orders: list[tuple[Callable[[int], tuple[int, ...]], _Choose]] = [
        (lambda i: (-sizes[i], -degree[i], i), _fullest),
        (lambda i: (-degree[i], -sizes[i], i), _fullest),
        (lambda i: (-degree[i] * capacity - sizes[i] * len(sizes), i), _fullest),
        (lambda i: (-degree[i], -i), _first),  # as `first_fit`, so never more groups
    ]
    fewest: list[_Group] | None = None
    for key, choose in orders:
        groups = _greedy(sorted(nodes, key=key), problem, choose)
        while len(groups) > lower_bound and _dissolve_one(groups, problem):
            pass
        if fewest is None or len(groups) < len(fewest):
            fewest = groups
        if len(fewest) <= lower_bound:
            break
    return sorted(sorted(group.nodes) for group in fewest or [] if group.nodes)


def _first(groups: Iterable[_Group]) -> _Group | None:
    return next(iter(groups), None)


def _fullest(groups: Iterable[_Group]) -> _Group | None:
    return max(groups, key=lambda group: group.size, default=None)


def _greedy(order: Sequence[int], problem: _Problem, choose: _Choose) -> list[_Group]:
    """Adds each node to a group that it fits, as ``choose`` selects, or to a new one."""
    groups = [_Group()]
    for node in order:
        group = choose(_groups_that_fit(node, groups, problem))
        if group is None:
            group = _Group()
            groups.append(group)
        group.add(node, problem.sizes[node])
    return groups


def _groups_that_fit(node: int, groups: Iterable[_Group], problem: _Problem) -> Iterator[_Group]:
    """Yields the groups with room for a node and no conflict with it."""
    max_size, conflicts = problem.capacity - problem.sizes[node], problem.conflicts[node]
    return (g for g in groups if g.size <= max_size and not g.members & conflicts)


def _clique_size(conflicts: Sequence[int]) -> int:
    """Returns the size of a clique found greedily: a lower bound of the number of colors."""
    size = 0
    candidates = (1 << len(conflicts)) - 1
    for node in sorted(range(len(conflicts)), key=lambda i: (-conflicts[i].bit_count(), i)):
        if candidates >> node & 1:
            candidates &= conflicts[node]
            size += 1
    return size


def _dissolve_one(groups: list[_Group], problem: _Problem) -> bool:
    """Moves all nodes of one group into others, smallest group first; returns whether it could."""
    for group in sorted(groups, key=lambda g: (g.size, min(g.nodes, default=-1))):
        others = [other.copy() for other in groups if other is not group]
        nodes = sorted(group.nodes, key=lambda i: (-problem.sizes[i], i))
        if all(_place(node, others, problem) or _swap_in(node, others, problem) for node in nodes):
            groups[:] = others
            return True
    return False


def _place(node: int, groups: list[_Group], problem: _Problem) -> bool:
    """Adds a node to the fullest group that it fits; returns whether there is one."""
    group = _fullest(_groups_that_fit(node, groups, problem))
    if group is None:
        return False
    group.add(node, problem.sizes[node])
    return True


def _swap_in(node: int, groups: list[_Group], problem: _Problem) -> bool:
    """Adds a node to a group by moving one other node out of it; returns whether it could."""
    sizes, conflicts, capacity = problem
    # Most groups are full: only those at the end of this list have room for a node.
    by_size = sorted(groups, key=_fullest_first)
    most_room = capacity - by_size[-1].size if by_size else 0
    for group in groups:
        for other in _nodes_in_the_way(node, group, problem):
            if sizes[other] > most_room:
                continue
            first = bisect_left(by_size, sizes[other] - capacity, key=_fullest_first)
            target = _first(
                g
                for g in islice(by_size, first, None)
                if g is not group and not g.members & conflicts[other]
            )
            if target is not None:
                group.remove(other, sizes[other])
                target.add(other, sizes[other])
                group.add(node, sizes[node])
                return True
    return False


def _nodes_in_the_way(node: int, group: _Group, problem: _Problem) -> list[int]:
    """Returns the nodes of a group whose removal would each make room for another node."""
    conflicting = group.members & problem.conflicts[node]
    if conflicting.bit_count() > 1:
        return []
    candidates = [conflicting.bit_length() - 1] if conflicting else group.nodes
    room = problem.capacity - group.size - problem.sizes[node]
    return [other for other in candidates if problem.sizes[other] + room >= 0]


def _fullest_first(group: _Group) -> int:
    return -group.size
