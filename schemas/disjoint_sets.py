"""Disjoint sets: which names are known to be of one image."""

from collections.abc import Iterable


class DisjointSets:
    """Disjoint sets of names (union-find); a name that was never joined takes no memory.

    >>> sets = DisjointSets()
    >>> sets.join("vg/7", "coco/139")
    >>> sets.root("vg/7"), sets.root("vg/8")
    ('coco/139', 'vg/8')
    """

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        """Returns the name that stands for the set of a name: the same for all its names."""
        root = name
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while (parent := self._parent.get(name, name)) != root:
            self._parent[name] = root
            name = parent
        return root

    def join(self, a: str, b: str) -> None:
        """Unites the sets of two names."""
        low, high = sorted((self.root(a), self.root(b)))
        self._parent.setdefault(low, low)
        self._parent[high] = low

    def names(self) -> Iterable[str]:
        """Returns the names that were joined."""
        return self._parent

    def is_joined(self, name: str) -> bool:
        """Returns whether a name was ever joined."""
        return name in self._parent
