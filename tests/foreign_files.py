"""Files that belong to others, beside those of a command: planted before it, compared after it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hypothesis import strategies as st

#: Names that a pattern, a prefix or a careless clean-up would take for a file of ours.
LOOKALIKES = (
    "train-00000-of-00001.tar.bak",
    ".train-00000-of-00001.tar.0123456789abcdef0123456789abcdef",
    "train-00000-of-00001.tar.idx",
    "train-00007-of-00009.tar",
    "old-00000-of-00001.tar",
    "train-00000-of-00001.index.parquet.old",
    ".train-00000-of-00001.index.parquet.0123456789abcdef0123456789abcdef",
    "train-00007-of-00009.index.parquet",
    ".stats.json.0123456789abcdef0123456789abcdef",
    "manifest.json~",
    "manifest.JSON",
    ".scratch",
    ".mdetr-build.json.bak",
    "mdetr-build.json",
    ".out.tmp",
    ".out.old",
    ".model.tmp",
    ".model.old",
    ".report.html.tmp",
    "step-000000001.pt.bak",
    "step-1.pt",
    "events.out.tfevents.1.host",
    "[abc]",
    "set[1]",
    "train-0000[0-9]-of-00001.tar",
    "*.tar",
    "?",
    "*",
    "**",
    "{a,b}",
    "%2e%2e",
    "100%",
    "~",
    "$HOME",
    "-rf",
    "a b",
    " lead",
    "trail ",
    "new\nline",
    "é",
    "e\u0301",
    "猫",
    "🐈.tar",
)


def names() -> st.SearchStrategy[str]:
    """Returns names of files: lookalikes, and texts of characters that patterns use, and others."""
    characters = st.one_of(
        st.sampled_from("[]?*{}!%.-_ ~$#&'\"\\"),
        st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"),
    )
    texts = st.text(characters, min_size=1, max_size=12).filter(lambda name: set(name) != {"."})
    return st.one_of(st.sampled_from(LOOKALIKES), texts)


def plant(folder: Path, file_names: Iterable[str]) -> dict[str, bytes]:
    """Writes a file, or for every third name a folder with a file, under names that are free."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(file_names):
        path = folder / name
        if not path.exists():
            if number % 3 == 2:
                path.mkdir()
                path /= name
            path.write_bytes(f"precious {number}".encode())
    return contents(folder)


def contents(folder: Path, but: Sequence[str] = ()) -> dict[str, bytes]:
    """Returns the content of every file below a folder, by its path, except those of ``but``.

    ``but`` are names of files and folders directly below it.
    """
    contents_by_path = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and relative.parts[0] not in but:
            contents_by_path[str(relative)] = path.read_bytes()
    return contents_by_path
