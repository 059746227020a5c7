"""Colors a conflict graph whose colors have a capacity: bin packing with conflicts.

A graph is a list of integers: bit j of ``conflicts[i]`` means that i and j may not share a color.
A coloring is a list of groups of nodes. Both algorithms are deterministic.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

Groups = list[list[int]]

#: The most groups that `best` checks to dissolve those of one greedy order, within a second. An
#: image of 500 sentences needs a tenth; without a limit, some of 5,000 take many minutes.
MAX_VISITS = 4_000_000

# Groups of more nodes than this have a sum of sizes that is nearly as good a lower bound.
_MAX_NODES_OF_BOUND = 8


class _Problem(NamedTuple):
    """A graph to color: the size of each node, its conflicts, the capacity of a group."""

    sizes: Sequence[int]
    conflicts: Sequence[int]
    capacity: int


class _Group:
    """Nodes of one color: ``members`` has them as bits, ``room`` is the capacity that is left.

    ``number`` is its position in the order of creation, ``smallest`` the size of its smallest node.
    """

    __slots__ = ("members", "nodes", "number", "room", "smallest")

    def __init__(self, number: int, capacity: int) -> None:
        self.number = number
        self.nodes: list[int] = []
        self.members = 0
        self.room = self.smallest = capacity


class _Move(NamedTuple):
    """A node that left a position in a group, or a group that is dissolved, for another group."""

    node: int
    source: _Group | None
    position: int
    target: _Group


class _Coloring:
    """Groups of nodes, by number and by room."""

    def __init__(self, problem: _Problem) -> None:
        self.problem = problem
        self.groups: list[_Group] = []  # ascending by number
        self.visits = 0  # groups that `fullest` checked
        # Ascending by room, then by number: the key of each group, and the group.
        self._keys: list[int] = []
        self._fullest_first: list[_Group] = []

    def first(self, node: int) -> _Group | None:
        """Returns the first group with room for a node and no conflict with it."""
        size, conflicts = self.problem.sizes[node], self.problem.conflicts[node]
        for group in self.groups:
            if size <= group.room and not group.members & conflicts:
                return group
        return None

    def fullest(self, node: int, except_for: _Group | None = None) -> _Group | None:
        """Returns the fullest group with room for a node and no conflict with it."""
        conflicts = self.problem.conflicts[node]
        start = bisect_left(self._keys, self._key(self.problem.sizes[node], 0))
        for i in range(start, len(self._keys)):
            group = self._fullest_first[i]
            if not group.members & conflicts and group is not except_for:
                self.visits += i - start
                return group
        self.visits += len(self._keys) - start
        return None

    @property
    def most_room(self) -> int:
        """The room of the group that has most."""
        return self._fullest_first[-1].room if self._fullest_first else 0

    def create(self) -> _Group:
        """Returns a new group without nodes."""
        group = _Group(len(self.groups), self.problem.capacity)
        self.groups.append(group)
        self._sort_in(group)
        return group

    def take_out(self, group: _Group) -> None:
        """Removes a group."""
        self.groups.remove(group)
        self._sort_out(group)

    def put_back(self, group: _Group) -> None:
        """Adds a group that was taken out."""
        i = bisect_left(self.groups, group.number, key=lambda other: other.number)
        self.groups.insert(i, group)
        self._sort_in(group)

    def add(self, node: int, group: _Group, position: int | None = None) -> None:
        """Adds a node to a group, at a position among its nodes or behind them."""
        self._sort_out(group)
        size = self.problem.sizes[node]
        group.nodes.insert(len(group.nodes) if position is None else position, node)
        group.members |= 1 << node
        group.room -= size
        group.smallest = min(group.smallest, size)
        self._sort_in(group)

    def remove(self, node: int, group: _Group) -> int:
        """Removes a node from a group of several; returns the position that it had.

        No search removes the only node of a group: that node fits no other group. It had a group
        made for it, and a node for which another makes room would have joined that group if it
        could, so the two do not fit one group either.
        """
        self._sort_out(group)
        position = group.nodes.index(node)
        del group.nodes[position]
        group.members ^= 1 << node
        group.room += self.problem.sizes[node]
        group.smallest = min(self.problem.sizes[other] for other in group.nodes)
        self._sort_in(group)
        return position

    def move(self, node: int, source: _Group | None, target: _Group) -> _Move:
        """Moves a node to another group; returns what undoes it. ``source`` may be none."""
        position = 0 if source is None else self.remove(node, source)
        self.add(node, target)
        return _Move(node, source, position, target)

    def undo(self, move: _Move) -> None:
        """Undoes the latest move."""
        self.remove(move.node, move.target)
        if move.source is not None:
            self.add(move.node, move.source, move.position)

    def _key(self, room: int, number: int) -> int:
        return room * len(self.problem.sizes) + number

    def _sort_in(self, group: _Group) -> None:
        key = self._key(group.room, group.number)
        i = bisect_left(self._keys, key)
        self._keys.insert(i, key)
        self._fullest_first.insert(i, group)

    def _sort_out(self, group: _Group) -> None:
        i = bisect_left(self._keys, self._key(group.room, group.number))
        del self._keys[i], self._fullest_first[i]


_Choose = Callable[[_Coloring, int], _Group | None]


def first_fit(sizes: Sequence[int], conflicts: Sequence[int], capacity: int) -> Groups:
    """Colors greedily, as published: most conflicts first (ties: last first), first fit.

    A node larger than the capacity forms a separate group.
    """
    problem = _Problem(sizes, conflicts, capacity)
    order = sorted(range(len(sizes)), key=lambda i: (conflicts[i].bit_count(), i), reverse=True)
    groups = _greedy(order, problem, _Coloring.first).groups
    return [group.nodes for group in groups if group.nodes]


def best(sizes: Sequence[int], conflicts: Sequence[int], capacity: int) -> Groups:
    """Returns the fewest groups of several greedy orders, each improved by dissolving groups.

    Stops as soon as a lower bound is reached, as for most images. Groups are sorted by their first
    node, and nodes within a group are ascending, so captions keep the order of sentences.

    Raises:
        ValueError: A node is larger than the capacity.
    """
    if any(size > capacity for size in sizes):
        raise ValueError(f"a node of size {max(sizes)} cannot fit the capacity {capacity}")
    if not sizes:
        return []
    problem = _Problem(sizes, conflicts, capacity)
    degree = [c.bit_count() for c in conflicts]
    nodes = range(len(sizes))
    orders: list[tuple[Callable[[int], tuple[int, ...]], _Choose]] = [
        (lambda i: (-sizes[i], -degree[i], i), _Coloring.fullest),
        (lambda i: (-degree[i], -sizes[i], i), _Coloring.fullest),
        (lambda i: (-degree[i] * capacity - sizes[i] * len(sizes), i), _Coloring.fullest),
        (lambda i: (-degree[i], -i), _Coloring.first),  # as `first_fit`, so never more groups
    ]
    lower_bound = max(_size_bound(sizes, capacity), _clique_size(conflicts))
    fewest: list[_Group] | None = None
    for key, choose in orders:
        coloring = _greedy(sorted(nodes, key=key), problem, choose)
        _dissolve(coloring, lower_bound)
        if fewest is None or len(coloring.groups) < len(fewest):
            fewest = coloring.groups
        if len(fewest) <= lower_bound:
            break
    return sorted(sorted(group.nodes) for group in fewest or [])


def _greedy(order: Sequence[int], problem: _Problem, choose: _Choose) -> _Coloring:
    """Adds each node to a group that it fits, as ``choose`` selects, or to a new one."""
    coloring = _Coloring(problem)
    coloring.create()  # as published, also if the first node is larger than the capacity
    for node in order:
        coloring.add(node, choose(coloring, node) or coloring.create())
    return coloring


def _size_bound(sizes: Sequence[int], capacity: int) -> int:
    """Returns a lower bound of the number of groups that ignores conflicts.

    It is the sum of the sizes as shares of the capacity, or more: at most k nodes that are larger
    than 1/(k + 1) of the capacity fit a group, so each of them counts as 1/k, one that is larger
    than 2/(k + 1) as 2/k, and so on (the dual feasible functions of Fekete and Schepers, 2001).
    """
    bound = -(-sum(sizes) // capacity)
    counts = Counter(sizes)
    for k in range(1, _MAX_NODES_OF_BOUND + 1):
        total = 0  # in units of 1 / (k * capacity)
        for size, count in counts.items():
            parts, rest = divmod(size * (k + 1), capacity)
            total += count * (parts * capacity if rest else size * k)
        bound = max(bound, -(-total // (k * capacity)))
    return bound


def _clique_size(conflicts: Sequence[int]) -> int:
    """Returns the size of a clique found greedily: a lower bound of the number of colors."""
    size = 0
    candidates = (1 << len(conflicts)) - 1
    for node in sorted(range(len(conflicts)), key=lambda i: (-conflicts[i].bit_count(), i)):
        if candidates >> node & 1:
            candidates &= conflicts[node]
            size += 1
    return size


def _dissolve(coloring: _Coloring, lower_bound: int) -> None:
    """Moves the nodes of groups into others, smallest group first, while that is possible."""
    coloring.visits = 0
    while len(coloring.groups) > lower_bound:
        by_size = sorted(coloring.groups, key=lambda group: (-group.room, min(group.nodes)))
        if not any(_dissolve_one(group, coloring) for group in by_size):
            return


def _dissolve_one(group: _Group, coloring: _Coloring) -> bool:
    """Moves all nodes of a group into others; returns whether it could, else changes nothing."""
    if coloring.visits > MAX_VISITS:
        return False
    moves: list[_Move] = []
    coloring.take_out(group)
    for node in sorted(group.nodes, key=lambda i: (-coloring.problem.sizes[i], i)):
        new_moves = _place(node, coloring) or _swap_in(node, coloring)
        moves += new_moves
        if not new_moves:
            for move in reversed(moves):
                coloring.undo(move)
            coloring.put_back(group)
            return False
    return True


def _place(node: int, coloring: _Coloring) -> list[_Move]:
    """Adds a node to the fullest group that it fits; returns the moves, none if there is none."""
    group = coloring.fullest(node)
    return [] if group is None else [coloring.move(node, None, group)]


def _swap_in(node: int, coloring: _Coloring) -> list[_Move]:
    """Adds a node to a group by moving one other node out of it; returns the moves."""
    sizes = coloring.problem.sizes
    most_room = coloring.most_room
    for group in coloring.groups:
        # Most groups are full: few have room for a node of another.
        if group.smallest > most_room or group.room + most_room < sizes[node]:
            continue
        for other in _nodes_in_the_way(node, group, coloring.problem):
            if sizes[other] > most_room:
                continue
            target = coloring.fullest(other, except_for=group)
            if target is not None:
                return [coloring.move(other, group, target), coloring.move(node, None, group)]
    coloring.visits += len(coloring.groups)
    return []


def _nodes_in_the_way(node: int, group: _Group, problem: _Problem) -> list[int]:
    """Returns the nodes of a group whose removal would each make room for another node."""
    conflicting = group.members & problem.conflicts[node]
    if conflicting.bit_count() > 1:
        return []
    candidates = [conflicting.bit_length() - 1] if conflicting else group.nodes
    missing = problem.sizes[node] - group.room
    return [other for other in candidates if problem.sizes[other] >= missing]
