"""Files for what the local runner shuffles: every element finds its own content."""

from pathlib import Path

from pipelines.beam.shuffle_files import read_part, write_parts


def test_elements_find_their_content_in_the_files_of_several_slices(tmp_path: Path) -> None:
    folder = str(tmp_path / "shuffle")
    slices = [{b"train/0": b"abc", b"train/1": b"", b"val/0": b"d"}, {b"train/0": b"efgh"}, {}]
    elements = [dict(write_parts(parts, folder)) for parts in slices]
    contents = [
        {key: read_part(part, folder) for key, part in of_slice.items()} for of_slice in elements
    ]
    assert contents == slices
    assert sorted(file.stat().st_size for file in Path(folder).iterdir()) == [4, 4]


def test_element_is_small(tmp_path: Path) -> None:
    [(_, part)] = write_parts({b"train/0": bytes(1 << 24)}, str(tmp_path))
    assert len(part) < 50
