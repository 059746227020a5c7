"""A source whose images are in no other dataset."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from pipelines.build import main as build
from pipelines.io.slices import Input, Slice
from pipelines.sources.base import Context, SliceItem, Source
from schemas import GroundedCaption, ImageInfo, ImageRecord, RawCounts, Region, Rejected
from shards.format import manifest
from tests.end_to_end.test_golden import samples

RECIPE = """
name = "web"
images = "none"
reject_limit = 1.0

[splits]
train = {{ shards = 3, allow_empty = true }}
val = {{ shards = 2 }}

[sources.web]
reader = "tests.end_to_end.test_unique_images:Web"
pages = "pages.json"
{exclude}
"""


class Page(msgspec.Struct):
    id: int
    split: str
    text: str


class Web(Source):
    namespace: ClassVar[str] = "web"
    unique_images: ClassVar[bool] = True

    pages: str

    def paths(self) -> list[str]:
        return [self.pages]

    def image_tables(self) -> list[Input]:
        return [Input(self.pages, "list")]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        for page in msgspec.json.decode(raw_slice.content, type=list[Page]):
            yield ImageInfo(f"web/{page.id}", "web", f"{page.id}.jpg", 100, 80)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [Input(self.pages, "list")]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        pages = msgspec.json.decode(raw_slice.content, type=list[Page])
        yield RawCounts("web", captions=len(pages), boxes=len(pages))
        for page in pages:
            region = Region([(0, 3)], (1, 1, 50, 50))
            caption = GroundedCaption(page.text, [region], [], "web", str(page.id))
            yield ImageRecord(f"web/{page.id}", "web", page.split, [caption])


def made(tmp_path: Path, exclude: str = "") -> Path:
    pages = [
        {"id": i, "split": "val" if i % 5 == 0 else "train", "text": f"cat {i}"} for i in range(40)
    ]
    (tmp_path / "pages.json").write_text(json.dumps(pages))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(exclude=exclude))
    places = [f"--root={tmp_path}", f"--output={tmp_path / 'shards'}"]
    arguments = [str(tmp_path / "recipe.toml"), *places, "--quiet"]
    assert build([*arguments, "--direct_running_mode=in_memory"]) == 0
    return tmp_path / "shards"


@pytest.mark.parametrize("split", ["train", "val"])
def test_unique_images_reach_their_shards(tmp_path: Path, split: str) -> None:
    output = made(tmp_path)
    by_key = {sample["key"]: sample for sample in samples(output, split)}
    assert len(by_key) == (8 if split == "val" else 32)
    assert all((sample["width"], sample["height"]) == (100, 80) for sample in by_key.values())
    assert manifest.load(output).sources["web"].rejected == 0


def test_all_unique_images_can_be_excluded(tmp_path: Path) -> None:
    totals = manifest.load(made(tmp_path, '[exclude.web]\nnamespace = "web"')).totals
    assert (totals["train"]["images"], totals["val"]["images"]) == (0, 8)


def test_exclusion_that_excludes_no_unique_image_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "pages.txt").write_text("7\n8\n")
    (tmp_path / "others.txt").write_text("70\n")
    exclude = "[exclude.{0}]\nids = ['{0}.txt']\nof = 'web'\n"
    output = made(tmp_path, exclude.format("pages") + exclude.format("others"))
    assert manifest.load(output).totals["train"]["images"] == 30
    [warning] = [w for w in manifest.load(output).warnings if "was excluded" in w]
    assert warning.startswith("exclude.others: none of the images that it names was excluded")
