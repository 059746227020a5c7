"""Builds from corrupted raw files.

Each test runs the real build on a tiny dataset and checks ``rejected.parquet``, or the message and
that no manifest was written. Independent errors share a dataset.
"""

import os
import pickle
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.tiny import Row

Spoil = Callable[[Path], object]


class Evil:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def reasons(root: Path) -> dict[str, tuple[str, int]]:
    """Returns what was rejected: source and record -> reason and how many records were lost."""
    rows = tiny.rejected(root)
    return {f"{row.source} {row.record}": (row.reason, row.records) for row in rows}


def one_of(root: Path, record: str) -> Row:
    [row] = [row for row in tiny.rejected(root) if row.record == record]
    return row


def texts(root: Path, key: str) -> str:
    return " ".join(caption["text"] for caption in tiny.samples(root)[key]["captions"])


def test_bad_records_of_visual_genome_are_rejected(tmp_path: Path) -> None:
    """Bad texts, bad boxes, bad records and an unknown image beside a good region."""
    good = tiny.vg_region(1, "a red cat on the mat", 5, 5)
    regions = [
        good,
        tiny.vg_region(2, ""),
        tiny.vg_region(3, " \n "),
        tiny.vg_region(4, "the large dog " + "and a very small cat " * 5000),
        tiny.vg_region(5, "the blue door of a house", 500, 500),
        tiny.vg_region(6, "one empty bottle of water", width=0),
        tiny.vg_region(7, "the glass in his hand", x=None),
        tiny.vg_region(8, "a window with curtains", x="NaN"),
        tiny.vg_region(9, "a green bus in the street", x=1e300),
        tiny.vg_region(10, "the lamp beside her bed", 180, 80),  # half of it inside
        {"region_id": 11, "phrase": "no box"},
        tiny.vg_region(12, "many words but below two thousand characters " * 20, 60, 5),
        tiny.vg_region(1, "some other tree by the lake", 120, 5),
    ]
    vg = tiny.write_vg(
        tmp_path, [tiny.vg_image(1)], [tiny.vg_graph(1, *regions), {"image_id": 2}, 3]
    )
    unlisted = tiny.vg_graph(404, tiny.vg_region(20, "a bird"), tiny.vg_region(21, "a ball"))
    graphs = tmp_path / "vg/region_graphs.json"
    # Python would write infinity in a way that is not JSON; 1e999 is JSON, and no float.
    spoiled = tiny.vg_region(13, "a kite", x=12345)
    tiny.write_json(graphs, [tiny.vg_graph(1, *regions, spoiled), {"image_id": 2}, 3, unlisted])
    graphs.write_bytes(graphs.read_bytes().replace(b"12345", b"1e999"))

    assert tiny.build(tmp_path, sources={"vg": vg}) == 0
    rows = tiny.rejected(tmp_path)
    malformed = [row for row in rows if row.reason == "malformed record"]
    by_record = {row.record: row.reason for row in rows if row not in malformed}
    assert by_record["2"] == by_record["3"] == "caption too short"
    assert by_record["4"] == "caption too long"
    assert by_record["9"] == "bad box"
    by_caption = {row.record: row.reason for row in rows if row.record.startswith("vg/")}
    assert by_caption == {
        "vg/5": "box outside the image",
        "vg/6": "empty box",
        "vg/12": "caption too long",
        "vg/1": "duplicate id",
        "vg/404": "unknown image",
    }
    # Four regions, and two elements that are not images with regions, by their position.
    regions_of_1 = {f"1/regions/{i}" for i in (6, 7, 10, 13)}
    assert {row.record for row in malformed} == regions_of_1 | {"1", "2"}
    assert all("region_graphs.json" in row.detail for row in malformed)
    assert one_of(tmp_path, "vg/404").records == 2

    [caption] = tiny.samples(tmp_path)["vg/1"]["captions"]
    assert {part["record"] for part in caption["provenance"]} == {"1", "10"}
    assert [180, 80, 200, 100] in [region["box"] for region in caption["regions"]]


def test_bad_records_of_coco_and_gqa_are_rejected(tmp_path: Path) -> None:
    """Unknown objects and images, bad boxes, bad text, and names that leave the image root."""
    coco = tiny.write_coco(
        tmp_path,
        [
            tiny.coco_image(9),
            tiny.coco_image(10, file_name="../../secret.jpg"),
            tiny.coco_image(11, file_name="/etc/passwd"),
            tiny.coco_image(12, width=2**70),
            tiny.coco_image(13, width="x"),
        ],
        [
            tiny.coco_annotation(90, 9),
            tiny.coco_annotation(91, 9, None),
            tiny.coco_annotation(92, 9, [10, 10, None, 5]),
            tiny.coco_annotation(93, 9, [900, 10, 20, 20]),
            tiny.coco_annotation(94, 9, ["NaN", 1, 2, 3]),
            tiny.coco_annotation(100, 10),
            tiny.coco_annotation(110, 11),
            {**tiny.coco_annotation(95, 9), "category_id": 2**70},
        ],
        [
            tiny.reference(9, 90, {1: "the left cat", 2: "", 3: "?!", 4: "x" * 100_000}),
            tiny.reference(9, 90, {1: "the left cat again", 5: "a \ud800 surrogate"}),
            tiny.reference(9, 91, {6: "no box"}),
            tiny.reference(9, 93, {7: "far outside"}),
            tiny.reference(9, 999, {8: "no such object"}),
            tiny.reference(404, 90, {9: "no such image"}),
            tiny.reference(10, 100, {10: "climbs out of the folder"}),
            tiny.reference(11, 110, {11: "an absolute name"}),
            {"image_id": 9},
        ],
    )
    (tmp_path / "secret.jpg").write_bytes(tiny.image_file())
    annotated = {"question": {"1": "o1"}}
    gqa = tiny.write_gqa(
        tmp_path,
        {
            "50": tiny.gqa_question("1", "Is the cat red?", annotations={"question": {"2": "o1"}}),
            "51": tiny.gqa_question("2", "Is there a dog?"),  # an image without a scene graph
            "52": tiny.gqa_question("1", "Is it big?", annotations={"question": {"40": "o1"}}),
            "53": tiny.gqa_question("1", "Is that so?", annotations={"question": {"1": "gone"}}),
            "54": tiny.gqa_question("../1", "Is this a path?"),
            "55": tiny.gqa_question("1", ""),
            "56": {"imageId": "1"},
            "57": tiny.gqa_question("1", "Is Zoë here?", annotations=annotated),
        },
        {"1": tiny.scene_graph(o1=(10, 10, 50, 50))},
    )
    # Text that is not UTF-8, in one record.
    questions = tmp_path / "gqa/questions.json"
    questions.write_bytes(questions.read_bytes().replace(b"Zo\\u00eb", b"Zo\xeb"))

    assert tiny.build(tmp_path, sources={"coco": coco, "gqa": gqa}) == 0
    rows = tiny.rejected(tmp_path)
    reasons_of_records = {
        f"{r.source} {r.record}": r.reason for r in rows if r.reason != "malformed record"
    }
    assert reasons_of_records == {
        "coco refcoco/2": "no words",
        "coco refcoco/3": "no words",
        "coco refcoco/4": "text too long",
        "coco refcoco/5": "not Unicode text",
        "coco refcoco/1": "duplicate id",
        "coco 91": "no usable box",
        "coco 92": "no usable box",
        "coco refcoco/6": "unknown object",
        "coco refcoco/7": "box outside the image",
        "coco refcoco/8": "unknown object",
        "coco coco/404": "unknown image",
        "coco coco/10": "unsafe image name",
        "coco coco/11": "unsafe image name",
        "coco coco/12": "bad image size",
        "gqa vg/2": "unknown image",
        "gqa 52": "no such words",
        "gqa gqa/53": "unknown object",
        "gqa 54": "bad image id",
        "gqa 55": "no words",
    }
    malformed = sorted((r.source, r.detail) for r in rows if r.reason == "malformed record")
    assert [source for source, _ in malformed] == ["coco"] * 4 + ["gqa"] * 2
    assert any("UTF-8" in detail for _, detail in malformed)
    # A box or a row of the image table is not a record: the records that it loses are counted.
    no_records = [row for row in rows if row.records == 0]
    lost = {"malformed record", "no usable box", "bad image size"}
    assert {row.reason for row in no_records} == lost
    assert sum(row.records for row in rows) == len(rows) - len(no_records) == len(rows) - 6
    assert texts(tmp_path, "coco/9") == "the left cat."
    assert texts(tmp_path, "vg/1") == "Is the cat red?"
    assert set(tiny.samples(tmp_path)) == {"coco/9", "vg/1"}


def test_bad_files_of_flickr30k_are_rejected(tmp_path: Path) -> None:
    boxes = (
        "<object><name>1</name><bndbox><xmin>10</xmin><ymin>10</ymin><xmax>50</xmax>"
        "<ymax>50</ymax></bndbox></object><object><name>2</name><bndbox><xmin>NaN</xmin>"
        "<ymin>10</ymin><xmax>50</xmax><ymax>50</ymax></bndbox></object>"
    )
    sentences = ["[/EN#1/people A man] sits .", "[/EN#1/people A man", "[/EN#2/other a hat] ."]
    flickr = tiny.write_flickr30k(tmp_path, {1: sentences, 2: ["a"], 3: ["b"] * 4}, boxes)
    (tmp_path / "flickr30k/Annotations/2.xml").write_text("<annotation><size>")
    (tmp_path / "flickr30k/Annotations/3.xml").unlink()
    with (tmp_path / "flickr30k/train.txt").open("ab") as file:
        file.write(b"../1\n\xff\n77\n")
    assert tiny.build(tmp_path, sources={"flickr30k": flickr}) == 0
    reasons_found = reasons(tmp_path)
    assert reasons_found.pop("flickr30k 1") == ("no usable box", 0)
    assert reasons_found.pop("flickr30k 1#1") == ("malformed record", 1)
    assert reasons_found.pop("flickr30k 1#2") == ("all boxes lost", 1)
    assert reasons_found.pop("flickr30k 2") == ("malformed record", 1)
    assert reasons_found.pop("flickr30k 3") == ("unreadable file", 4)
    assert reasons_found.pop("flickr30k 77") == ("unreadable file", 5)
    assert set(reasons_found) == {"flickr30k '../1'", "flickr30k '\\ufffd'"}
    assert {reason for reason, _ in reasons_found.values()} == {"bad image id"}
    assert texts(tmp_path, "flickr30k/1") == "A man sits ."
    assert list(tiny.samples(tmp_path)) == ["flickr30k/1"]


def test_bad_image_files_are_rejected(tmp_path: Path) -> None:
    from tests.pipelines.io.test_images import png_header

    ids = range(1, 9)
    vg = tiny.write_vg(
        tmp_path,
        [tiny.vg_image(i) for i in ids],
        [tiny.vg_graph(i, tiny.vg_region(i, f"a cat number {i}")) for i in ids],
    )
    folder = tmp_path / "vg/images"
    good = tiny.image_file()
    (folder / "2.jpg").write_text("<html>Not found</html>")
    (folder / "3.jpg").write_bytes(png_header(50_000, 50_000))
    (folder / "4.jpg").write_bytes(good[: len(good) // 2])
    (folder / "5.jpg").write_bytes(tiny.image_file(100, 200))
    (folder / "6.jpg").unlink()
    (folder / "7.jpg").unlink()
    (folder / "7.jpg").mkdir()
    (folder / "8.jpg").write_bytes(b"")
    assert tiny.build(tmp_path, sources={"vg": vg}) == 0
    assert reasons(tmp_path) == {
        "vg vg/2": ("not an image", 1),
        "vg vg/3": ("image too large", 1),
        "vg vg/4": ("truncated image", 1),
        "vg vg/5": ("image of another size", 1),
        "vg vg/6": ("image missing", 1),
        "vg vg/7": ("unreadable image", 1),
        "vg vg/8": ("not an image", 1),
    }
    assert list(tiny.samples(tmp_path)) == ["vg/1"]


def test_undecodable_image_is_rejected_where_hashes_are_compared(tmp_path: Path) -> None:
    vg = tiny.write_vg(
        tmp_path,
        [tiny.vg_image(1), tiny.vg_image(2), tiny.vg_image(3)],
        [tiny.vg_graph(i, tiny.vg_region(i, f"a cat number {i}")) for i in (1, 2, 3)],
    )
    (tmp_path / "vg/images/2.jpg").write_bytes(tiny.undecodable_png())
    tiny.write(tmp_path / "held_out.txt", b"3\n")
    status = tiny.build(
        tmp_path,
        sources={"vg": vg},
        exclude={"phrasecut": {"ids": ["held_out.txt"], "of": "vg"}},
        near_duplicates={"action": "exclude"},
    )
    assert status == 0
    assert reasons(tmp_path) == {"vg vg/2": ("not an image", 1)}
    assert list(tiny.samples(tmp_path)) == ["vg/1"]


def test_image_with_5000_captions_takes_bounded_time_and_memory(tmp_path: Path) -> None:
    regions = [
        tiny.vg_region(i, f"object {i} of many", i % 150, i // 150, width=8, height=8)
        for i in range(5000)
    ]
    vg = tiny.write_vg(tmp_path, [tiny.vg_image(1)], [tiny.vg_graph(1, *regions)])
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert tiny.build(tmp_path, sources={"vg": vg}) == 0
    assert time.monotonic() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 << 20  # KiB
    sample = tiny.samples(tmp_path)["vg/1"]
    lost = sum(row.records for row in tiny.rejected(tmp_path))
    assert sum(len(c["provenance"]) for c in sample["captions"]) > 4000
    assert lost < 500


# --- the build stops ------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def zip_and_truncate(path: Path) -> None:
    with zipfile.ZipFile(f"{path}.zip", "w") as archive:
        archive.write(path, path.name)
    path.unlink()
    truncate(Path(f"{path}.zip"))


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("vg/region_graphs.json", truncate, "region_graphs.json: expected a JSON list: Input"),
        ("vg/region_graphs.json", zip_and_truncate, "json.zip: not a readable zip file"),
        ("vg/region_graphs.json", lambda p: p.write_bytes(b""), "empty file; expected a JSON list"),
        ("vg/region_graphs.json", lambda p: p.write_bytes(b"{}"), "expected a JSON list"),
        ("vg/image_data.json", lambda p: p.write_bytes(b'"x"'), "image_data.json: expected a JSON"),
        ("coco/instances.json", lambda p: p.write_bytes(b'{"images": []}'), '"annotations"'),
        ("coco/refs.p", truncate, "refs.p: not a pickle, or a truncated one"),
        ("coco/refs.p", lambda p: p.write_bytes(pickle.dumps({})), "expected a list"),
    ],
)
def test_wrong_file_fails_the_build_with_a_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], file: str, spoil: Spoil, message: str
) -> None:
    graphs = [tiny.vg_graph(1, tiny.vg_region(1, "a red cat"))]
    sources = {
        "vg": tiny.write_vg(tmp_path, [tiny.vg_image(1)], graphs),
        "coco": tiny.write_coco(
            tmp_path,
            [tiny.coco_image(9)],
            [tiny.coco_annotation(90, 9)],
            [tiny.reference(9, 90, {1: "a cat"})],
        ),
    }
    spoil(tmp_path / file)
    assert tiny.build(tmp_path, sources=sources) == 1
    error = capfd.readouterr().err
    assert error.startswith("mdetr-build: error: ")
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "shards/manifest.json").exists()


def test_pickle_that_would_run_code_fails_the_build(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "it_ran"
    coco = tiny.write_coco(tmp_path, [tiny.coco_image(9)], [], [Evil(mark)])
    assert tiny.build(tmp_path, sources={"coco": coco}) == 1
    assert not mark.exists()
    assert "refs.p: the pickle asks for posix.mkdir, which is not plain data" in (
        capfd.readouterr().err
    )
    assert not (tmp_path / "shards/manifest.json").exists()
    pickle.loads((tmp_path / "coco/refs.p").read_bytes())  # as an ordinary unpickler reads it
    assert mark.exists()


def half_bad(root: Path) -> dict[str, Any]:
    regions = [tiny.vg_region(i, f"a cat number {i}") for i in range(4)]
    regions += [tiny.vg_region(4, ""), tiny.vg_region(5, ""), tiny.vg_region(6, "...")]
    return tiny.write_vg(root, [tiny.vg_image(1)], [tiny.vg_graph(1, *regions)])


def test_more_rejected_than_reject_limit_fails_the_build(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert tiny.build(tmp_path, sources={"vg": half_bad(tmp_path)}, reject_limit=0.4) == 1
    error = capfd.readouterr().err
    assert "3 of 7 captions of vg were rejected" in error
    assert "reject_limit of 40.00%" in error
    assert "caption too short (2), no words (1)" in error or "caption too short (3)" in error
    assert "for example" in error
    assert not (tmp_path / "shards/manifest.json").exists()
    assert f"{tmp_path}/shards/rejected.parquet has the rejected rows" in error
    assert [row.record for row in tiny.rejected(tmp_path)] == ["4", "5", "6"]
    assert not list((tmp_path / "shards").glob("*.tar"))  # it failed before any shard was written
    assert tiny.build(tmp_path, sources={"vg": half_bad(tmp_path)}, reject_limit=0.43) == 0
    assert (tmp_path / "shards/manifest.json").exists()


def test_strict_fails_at_the_first_rejected_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert tiny.build(tmp_path, "--strict", sources={"vg": half_bad(tmp_path)}) == 1
    error = capfd.readouterr().err
    assert error.startswith("mdetr-build: error: vg 4: caption too short")
    assert not (tmp_path / "shards/manifest.json").exists()
