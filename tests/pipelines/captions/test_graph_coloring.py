"""Coloring conflict graphs whose colors have a capacity."""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.captions import graph_coloring
from pipelines.captions.graph_coloring import Groups, best, first_fit

CAPACITY = 20
Problem = tuple[list[int], list[int]]


@st.composite
def problems(draw: st.DrawFn, max_size: int = 14) -> Problem:
    """Sizes that fit the capacity, and a random symmetric conflict graph."""
    smallest, largest = draw(st.sampled_from([(1, CAPACITY), (1, 8), (4, 12), (6, 14)]))
    sizes = draw(st.lists(st.integers(smallest, largest), max_size=max_size))
    conflicts = [0] * len(sizes)
    if len(sizes) > 1:
        node = st.integers(0, len(sizes) - 1)
        for a, b in draw(st.lists(st.tuples(node, node), max_size=40)):
            if a != b:
                conflicts[a] |= 1 << b
                conflicts[b] |= 1 << a
    return sizes, conflicts


def assert_coloring(groups: Groups, sizes: Sequence[int], conflicts: Sequence[int]) -> None:
    """Checks that each node is in one group, without conflicts, overflow or empty groups."""
    assert sorted(node for group in groups for node in group) == list(range(len(sizes)))
    for group in groups:
        assert group
        assert sum(sizes[node] for node in group) <= CAPACITY
        assert not any(conflicts[a] >> b & 1 for a in group for b in group)


@given(problems())
def test_first_fit_is_a_coloring(problem: Problem) -> None:
    assert_coloring(first_fit(*problem, CAPACITY), *problem)


@given(problems())
def test_best_is_a_coloring_with_no_more_groups_than_first_fit(problem: Problem) -> None:
    groups = best(*problem, CAPACITY)
    assert_coloring(groups, *problem)
    assert len(groups) <= len(first_fit(*problem, CAPACITY))


@given(problems())
def test_colorings_are_deterministic(problem: Problem) -> None:
    assert best(*problem, CAPACITY) == best(*problem, CAPACITY)
    assert first_fit(*problem, CAPACITY) == first_fit(*problem, CAPACITY)


def fewest_groups(sizes: list[int], conflicts: list[int]) -> int:
    """Returns the number of groups of an optimal coloring, by trying all of them."""

    def search(node: int, groups: list[tuple[int, int]]) -> int:
        if node == len(sizes):
            return len(groups)
        counts = [search(node + 1, [*groups, (sizes[node], 1 << node)])]
        for i, (size, members) in enumerate(groups):
            if size + sizes[node] <= CAPACITY and not members & conflicts[node]:
                larger = (size + sizes[node], members | 1 << node)
                counts.append(search(node + 1, [*groups[:i], larger, *groups[i + 1 :]]))
        return min(counts)

    return search(0, [])


@given(problems(max_size=7))
def test_lower_bounds_are_at_most_the_optimum(problem: Problem) -> None:
    sizes, conflicts = problem
    optimum = fewest_groups(sizes, conflicts)
    assert graph_coloring._size_bound(sizes, CAPACITY) <= optimum
    assert graph_coloring._clique_size(conflicts) <= optimum
    assert optimum <= len(best(sizes, conflicts, CAPACITY))


def test_lower_bound_counts_nodes_of_which_few_fit_a_group() -> None:
    """Five nodes of 7: two in a group, though their sum would fit two groups."""
    assert graph_coloring._size_bound([7] * 5, CAPACITY) == 3
    assert graph_coloring._size_bound([11] * 3, CAPACITY) == 3
    assert graph_coloring._size_bound([10] * 4, CAPACITY) == 2
    assert graph_coloring._size_bound([], CAPACITY) == 0
    assert graph_coloring._size_bound([1] * 41, CAPACITY) == 3
    assert (
        graph_coloring._size_bound([11] * 90, 90) == 12
    )  # eight fit a group: 90 / 8, not 990 / 90


@given(problems(), st.integers(0, 30))
def test_coloring_whose_search_ends_early_is_valid(problem: Problem, max_visits: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_coloring, "MAX_VISITS", max_visits)
        groups = best(*problem, CAPACITY)
    assert_coloring(groups, *problem)
    assert len(groups) <= len(first_fit(*problem, CAPACITY))


@given(problems())
def test_best_sorts_groups_and_their_nodes(problem: Problem) -> None:
    groups = best(*problem, CAPACITY)
    assert groups == sorted(sorted(group) for group in groups)


def plain_greedy(sizes: list[int], conflicts: list[int], capacity: int) -> Groups:
    """Colors in the published order: most conflicts first, the last one first among ties."""
    degree = [bin(c).count("1") for c in conflicts]
    groups: Groups = []
    for _, node in sorted(zip(degree, range(len(sizes)), strict=True), reverse=True):
        for group in groups:
            fits = sum(sizes[i] for i in group) + sizes[node] <= capacity
            if fits and not any(conflicts[node] >> i & 1 for i in group):
                group.append(node)
                break
        else:
            groups.append([node])
    return groups


@given(problems())
def test_first_fit_is_the_published_greedy(problem: Problem) -> None:
    assert first_fit(*problem, CAPACITY) == plain_greedy(*problem, CAPACITY)


class PlainColoring:
    """What `best` does to one greedy order, on plain lists: nothing is kept up to date."""

    def __init__(self, problem: Problem, order: Iterable[int], is_first_fit: bool) -> None:
        self.sizes, self.conflicts = problem
        self.groups: dict[int, list[int]] = {0: []}  # by the number of their creation
        self.visits = 0
        for node in order:
            fitting = [n for n in sorted(self.groups) if self.fits(node, self.groups[n])]
            number = (fitting or [None])[0] if is_first_fit else self.fullest(node)
            self.groups.setdefault(len(self.groups) if number is None else number, []).append(node)

    def room(self, nodes: list[int]) -> int:
        return CAPACITY - sum(self.sizes[i] for i in nodes)

    def fits(self, node: int, nodes: list[int]) -> bool:
        has_conflict = any(self.conflicts[node] >> i & 1 for i in nodes)
        return self.sizes[node] <= self.room(nodes) and not has_conflict

    def fullest(self, node: int, except_for: int | None = None) -> int | None:
        by_room = sorted((self.room(nodes), number) for number, nodes in self.groups.items())
        large_enough = [number for room, number in by_room if room >= self.sizes[node]]
        for visits, number in enumerate(large_enough):
            if number != except_for and self.fits(node, self.groups[number]):
                self.visits += visits
                return number
        self.visits += len(large_enough)
        return None

    def dissolve(self, lower_bound: int, max_visits: int) -> None:
        self.visits = 0
        is_smaller = True
        while is_smaller and len(self.groups) > lower_bound:
            is_smaller = False
            for _, _, number in sorted((-self.room(g), min(g), n) for n, g in self.groups.items()):
                if self.visits <= max_visits and self.dissolve_one(number):
                    is_smaller = True
                    break

    def dissolve_one(self, number: int) -> bool:
        before = {n: list(nodes) for n, nodes in self.groups.items()}
        nodes = self.groups.pop(number)
        if all(self.insert(node) for node in sorted(nodes, key=lambda i: (-self.sizes[i], i))):
            return True
        self.groups = before
        return False

    def insert(self, node: int) -> bool:
        number = self.fullest(node)
        if number is not None:
            self.groups[number].append(node)
            return True
        most_room = max(map(self.room, self.groups.values()), default=0)
        for number in sorted(self.groups):
            nodes = self.groups[number]
            for other in nodes:
                rest = [i for i in nodes if i != other]
                if self.sizes[other] <= most_room and self.fits(node, rest):
                    target = self.fullest(other, except_for=number)
                    if target is not None:
                        self.groups[target].append(other)
                        self.groups[number] = [*rest, node]
                        return True
        self.visits += len(self.groups)
        return False


@given(problems(max_size=30), st.integers(0, 60) | st.just(graph_coloring.MAX_VISITS))
@settings(max_examples=300)
def test_dissolving_is_that_of_plain_lists(problem: Problem, max_visits: int) -> None:
    """Group by group, node by node, with the same number of groups that were checked."""
    nodes = range(len(problem[0]))
    assume(nodes)
    coloring = graph_coloring._greedy(
        nodes, graph_coloring._Problem(*problem, CAPACITY), graph_coloring._Coloring.first
    )
    plain = PlainColoring(problem, nodes, is_first_fit=True)
    plain.dissolve(0, max_visits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_coloring, "MAX_VISITS", max_visits)
        graph_coloring._dissolve(coloring, 0)
    assert [g.nodes for g in coloring.groups] == [g for _, g in sorted(plain.groups.items())]
    assert coloring.visits == plain.visits


def plain_size_bound(sizes: list[int]) -> int:
    """Adds up shares of the capacity as exact fractions."""
    bounds = [Fraction(sum(sizes), CAPACITY)]
    for k in range(1, 9):
        parts = [Fraction(size * (k + 1), CAPACITY) for size in sizes]
        shares = [p / (k + 1) if p.denominator == 1 else Fraction(math.floor(p), k) for p in parts]
        bounds.append(sum(shares, Fraction()))
    return max(map(math.ceil, bounds))


def plain_clique_size(conflicts: list[int]) -> int:
    clique: list[int] = []
    for node in sorted(range(len(conflicts)), key=lambda i: (-conflicts[i].bit_count(), i)):
        if all(conflicts[node] >> i & 1 for i in clique):
            clique.append(node)
    return len(clique)


@given(problems(max_size=24))
def test_lower_bounds_are_those_of_fractions_and_of_a_list(problem: Problem) -> None:
    sizes, conflicts = problem
    assert graph_coloring._size_bound(sizes, CAPACITY) == plain_size_bound(sizes)
    assert graph_coloring._clique_size(conflicts) == plain_clique_size(conflicts)


def plain_best(problem: Problem, max_visits: int) -> Groups:
    sizes, conflicts = problem
    degree = [c.bit_count() for c in conflicts]
    keys: list[Callable[[int], tuple[float, ...]]] = [
        lambda i: (-sizes[i], -degree[i], i),
        lambda i: (-degree[i], -sizes[i], i),
        lambda i: (-degree[i] * CAPACITY - sizes[i] * len(sizes), i),
        lambda i: (-degree[i], -i),
    ]
    lower_bound = max(plain_size_bound(sizes), plain_clique_size(conflicts))
    fewest: Groups | None = None
    for key in keys:
        coloring = PlainColoring(problem, sorted(range(len(sizes)), key=key), key is keys[-1])
        coloring.dissolve(lower_bound, max_visits)
        if fewest is None or len(coloring.groups) < len(fewest):
            fewest = list(coloring.groups.values())
        if len(fewest) <= lower_bound:
            break
    return sorted(sorted(group) for group in fewest or [])


@given(problems(max_size=30), st.integers(0, 60) | st.just(graph_coloring.MAX_VISITS))
@settings(max_examples=300)
def test_best_is_the_search_on_plain_lists(problem: Problem, max_visits: int) -> None:
    """Group by group, so that a shard has the same captions whatever makes the search faster."""
    assume(problem[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_coloring, "MAX_VISITS", max_visits)
        assert best(*problem, CAPACITY) == plain_best(problem, max_visits)


@pytest.mark.parametrize(
    "problem",
    [
        ([5, 8, 5, 4, 4, 3, 7, 6, 9], [276, 8, 25, 294, 165, 408, 0, 48, 41]),
        ([1, 1, 4, 6, 8, 6, 1, 5, 8], [384, 0, 0, 0, 0, 0, 0, 1, 1]),
        ([10, 12, 4, 7, 7, 6, 7, 5], [0, 44, 18, 34, 4, 10, 128, 64]),
        ([4, 9, 9, 2, 6, 5, 6, 4, 2, 7], [52, 136, 65, 546, 161, 153, 132, 370, 640, 264]),
        (
            [8, 5, 12, 12, 10, 6, 10, 4, 8, 7, 10, 6],
            [10, 113, 272, 129, 102, 18, 2322, 264, 196, 0, 0, 64],
        ),
    ],
)
def test_orders_of_best_are_those_of_plain_lists(problem: Problem) -> None:
    """Few problems need the later orders: these give other groups if one of them changes."""
    assert best(*problem, CAPACITY) == plain_best(problem, graph_coloring.MAX_VISITS)


def test_first_fit_gives_a_node_larger_than_the_capacity_a_group_of_its_own() -> None:
    assert first_fit([30, 5, 5], [0, 0, 0], CAPACITY) == [[2, 1], [0]]
    assert first_fit([5, 5, 30], [0, 0, 0], CAPACITY) == [[1, 0], [2]]


def test_best_refuses_a_node_larger_than_the_capacity() -> None:
    with pytest.raises(ValueError, match="size 30 cannot fit the capacity 20"):
        best([5, 30], [0, 0], CAPACITY)


def test_best_beats_first_fit_where_large_nodes_must_go_first() -> None:
    sizes, conflicts = [12, 12, 8, 8], [0, 0, 0, 0]
    assert len(first_fit(sizes, conflicts, CAPACITY)) == 3
    assert best(sizes, conflicts, CAPACITY) == [[0, 2], [1, 3]]


def test_best_tries_the_published_order_too() -> None:
    sizes, conflicts = [41, 19, 40, 21, 55, 23], [0] * 6
    assert best(sizes, conflicts, 100) == [[0, 1, 2], [3, 4, 5]]


def test_best_moves_nodes_to_dissolve_a_group() -> None:
    # No conflicts; a total of 40 fills two groups exactly, which greedy orders by size miss.
    assert len(best([9, 8, 7, 6, 5, 5], [0] * 6, CAPACITY)) == 2


def test_no_nodes_make_no_groups() -> None:
    assert best([], [], CAPACITY) == [] == first_fit([], [], CAPACITY)
