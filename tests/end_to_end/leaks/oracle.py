"""Judges a build by what is true of its raw data, which it does not read from any file.

The shard set is read without the project's code, except that `verify` is asked as well. A photo is
recognized by the color of its image, or by the key where the set has no images.
"""

import dataclasses
import io
import itertools
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from PIL import Image

from shards.reading.shard_set import ShardSet
from shards.verification.held_out import HeldOutListError, read_held_out
from shards.verification.verify import verify
from tests import tiny
from tests.end_to_end.leaks.raw_data import TrueCaption, spelled
from tests.end_to_end.leaks.recipes import RandomRecipe, TrueExclusion
from tests.end_to_end.leaks.truth import ADJECTIVES, ImageRow, Photo, Truth


class Sample(NamedTuple):
    split: str
    key: str
    content: bytes | None
    sentences: list[str]


@dataclasses.dataclass
class Verdict:
    """What is wrong with a shard set, as kind and detail; and what could not be known.

    Attributes:
        errors: What must never happen.
        warned: Held-out images in train, with a missing join that the manifest names.
        unknowable: Held-out images in train of which no published file states what they are.
    """

    errors: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    warned: int = 0
    unknowable: int = 0
    excluded: int = 0


class Links:
    """What is stated to be one photo: keys of images, and photos at Flickr."""

    def __init__(self, rows: Iterable[ImageRow]) -> None:
        self._neighbors: dict[str, set[str]] = {}
        for row in rows:
            if row.coco:
                self._add(row.key, row.coco.key)
            if row.states_flickr:
                self._add(row.key, f"photo/{row.flickr}")

    def _add(self, a: str, b: str) -> None:
        self._neighbors.setdefault(a, set()).add(b)
        self._neighbors.setdefault(b, set()).add(a)

    def reached(self, keys: Iterable[str]) -> set[str]:
        """Returns the keys and all that is stated to be the same, directly or not."""
        reached, waiting = set(), list(keys)
        while waiting:
            key = waiting.pop()
            if key not in reached:
                reached.add(key)
                waiting += self._neighbors.get(key, ())
        return reached


def stated_links(recipe: RandomRecipe) -> Links:
    """Returns the links that files of the recipe state."""
    rows = [*recipe.data.read_tables, *recipe.data.truth.flickr30k]
    for exclusion in recipe.exclusions:
        if exclusion.photos_stated and not exclusion.is_flawed:
            rows += exclusion.rows
    return Links(rows)


def published_links(recipe: RandomRecipe) -> Links:
    """Returns the links that any file states."""
    return Links(recipe.data.truth.rows)


def judge(recipe: RandomRecipe, output: Path) -> Verdict:
    """Returns what is wrong with the shard set of a recipe."""
    verdict = Verdict()
    samples = list(read_samples(output))
    manifest = json.loads((output / "manifest.json").read_text())
    photos = {row.key: row.photo for row in recipe.data.truth.rows}
    for flaw in recipe.flaws:
        warned = any(re.search(flaw.message, warning) for warning in manifest["warnings"])
        if flaw.must_be_refused or not warned:
            verdict.errors.append(("flaw accepted", flaw.name))
    _check_images(recipe, samples, photos, verdict)
    _check_sentences(recipe, samples, photos, verdict)
    _check_leaks(recipe, samples, photos, manifest["warnings"], verdict)
    _check_splits(recipe, samples, verdict)
    _check_losses(recipe, samples, output, verdict)
    _check_verify(recipe, output, verdict)
    return verdict


def read_samples(output: Path) -> Iterator[Sample]:
    for path in sorted(output.glob("*.tar")):
        split = re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)
        with tarfile.open(path) as archive:
            files = {member.name: archive.extractfile(member).read() for member in archive}
        for name, content in files.items():
            key, _, extension = name.rpartition(".")
            if extension == "json":
                sentences = [
                    caption["text"][slice(*part["span"])]
                    for caption in json.loads(content)["captions"]
                    for part in caption["provenance"]
                ]
                yield Sample(split, key, files.get(f"{key}.jpg"), sentences)


def photo_of(content: bytes, truth: Truth) -> Photo:
    """Returns the photo whose color an image has."""
    with Image.open(io.BytesIO(content)) as image:
        color = image.convert("RGB").getpixel((image.width // 2, image.height // 2))

    def distance(photo: Photo) -> int:
        return sum(abs(a - b) for a, b in zip(color, photo.color, strict=True))

    nearest = min(truth.photos, key=distance)
    assert distance(nearest) < 20, (color, nearest)
    return nearest


def true_caption(sentence: str, captions: dict[str, TrueCaption]) -> tuple[str, TrueCaption | None]:
    """Returns the words of a sentence that tell the caption, and the caption."""
    words = re.findall(r"[a-z]+", sentence.lower())
    nouns = {text.split()[1] for text in captions}
    text = " ".join([*(w for w in words if w in ADJECTIVES), *(w for w in words if w in nouns)])
    return text, captions.get(text)


def _check_images(
    recipe: RandomRecipe, samples: list[Sample], photos: dict[str, Photo], verdict: Verdict
) -> None:
    truth = recipe.data.truth
    for sample in samples:
        if (sample.content is None) != (recipe.images == "none"):
            verdict.errors.append(("image bytes", f"{sample.key}: {recipe.images}"))
        if sample.key not in photos:
            verdict.errors.append(("unknown key", sample.key))
        elif sample.content and photo_of(sample.content, truth) is not photos[sample.key]:
            verdict.errors.append(("image of another photo", sample.key))


def _check_sentences(
    recipe: RandomRecipe, samples: list[Sample], photos: dict[str, Photo], verdict: Verdict
) -> None:
    """Checks that each caption is once in the set, on an image of its photo and in its split."""
    counts: Counter[str] = Counter()
    for sample in samples:
        for sentence in sample.sentences:
            text, caption = true_caption(sentence, recipe.data.captions)
            counts[text] += 1
            if caption is None:
                verdict.errors.append(("unknown caption", f"{sample.key}: {sentence!r}"))
            elif sample.key in photos and caption.row.photo is not photos[sample.key]:
                verdict.errors.append(("caption of another photo", f"{sample.key}: {sentence!r}"))
            elif caption.split != sample.split:
                verdict.errors.append(("caption of another split", f"{sample.key}: {sentence!r}"))
    verdict.errors += [("caption twice", text) for text, count in counts.items() if count > 1]


def _check_leaks(
    recipe: RandomRecipe,
    samples: list[Sample],
    photos: dict[str, Photo],
    warnings: list[str],
    verdict: Verdict,
) -> None:
    stated, published = stated_links(recipe), published_links(recipe)
    for exclusion in recipe.exclusions:
        if exclusion.is_flawed:
            continue  # a flaw that is not refused is an error by itself
        named = {row.key for row in exclusion.rows}
        held, could_be_held = stated.reached(named), published.reached(named)
        named_photos = {id(row.photo) for row in exclusion.rows}
        for sample in samples:
            if sample.split not in recipe.train_splits:
                continue
            keys = _keys(sample, recipe.data.captions)
            where = f"{sample.key} ({', '.join(sorted(keys))}) of {exclusion.name}"
            if held & keys:
                verdict.errors.append(("leak", where))
            elif could_be_held & keys:
                if any(_names(warning, exclusion) for warning in warnings):
                    verdict.warned += 1
                else:
                    verdict.errors.append(("missing join, no warning", where))
            elif sample.key in photos and id(photos[sample.key]) in named_photos:
                verdict.unknowable += 1


def _keys(sample: Sample, captions: dict[str, TrueCaption]) -> set[str]:
    """Returns the keys that the raw files of a sample's captions have for its image."""
    true_captions = (true_caption(sentence, captions)[1] for sentence in sample.sentences)
    return {sample.key, *(caption.row.key for caption in true_captions if caption)}


def _names(warning: str, exclusion: TrueExclusion) -> bool:
    return exclusion.name in re.findall(r"[\w+]+", warning)


def _check_splits(recipe: RandomRecipe, samples: list[Sample], verdict: Verdict) -> None:
    """Checks that no image that is trained on is an image of an evaluation split, or a crop."""
    stated = stated_links(recipe)
    evaluated = {
        s.key: _keys(s, recipe.data.captions) for s in samples if s.split in recipe.eval_splits
    }
    trained = {
        s.key: _keys(s, recipe.data.captions) for s in samples if s.split in recipe.train_splits
    }
    for key in trained.keys() & evaluated.keys():
        verdict.errors.append(("image in train and eval", key))
    reached = stated.reached({key for keys in evaluated.values() for key in keys})
    for key in trained.keys() - evaluated.keys():
        if trained[key] & reached:
            verdict.errors.append(("duplicate of an eval image in train", key))


def _check_losses(
    recipe: RandomRecipe, samples: list[Sample], output: Path, verdict: Verdict
) -> None:
    """Checks that only captions of images that are held out are missing."""
    written = {
        true_caption(sentence, recipe.data.captions)[0]
        for sample in samples
        for sentence in sample.sentences
    }
    held: set[str] = set()
    links = published_links(recipe)
    for exclusion in recipe.exclusions:
        held |= links.reached(row.key for row in exclusion.rows)
    for text, caption in recipe.data.captions.items():
        if caption.split not in recipe.splits or text in written:
            continue
        if caption.split in recipe.train_splits and caption.row.key in held:
            verdict.excluded += 1
        elif not caption.may_be_rejected:
            what = f"{caption.dataset} {caption.row.key} in {caption.split}: {text}"
            verdict.errors.append(("lost caption", what))


def _check_verify(recipe: RandomRecipe, output: Path, verdict: Verdict) -> None:
    """Checks that `verify` finds no error, also with the held-out images as lists."""
    rng = Random(len(recipe.data.captions))
    lists = []
    for namespace in ("coco", "vg", "flickr30k"):
        rows = [
            row
            for exclusion in recipe.exclusions
            if not exclusion.is_flawed
            for row in exclusion.rows
            if row.namespace == namespace
        ]
        if rows:
            ids = [
                spelled(row, rng.choice(["int", "str", "padded", "float", "name"])) for row in rows
            ]
            path = tiny.write_json(output.parent / f"held_out_{namespace}.json", ids)
            try:
                lists.append(read_held_out(f"{namespace}={path}"))
            except HeldOutListError as error:
                verdict.errors.append(("held-out list refused", str(error)))
    result = verify(ShardSet.open(str(output)), held_out=lists)
    if result.errors.counts:
        verdict.errors.append(("verify", "; ".join(itertools.islice(result.lines(), 3))))


def may_be_refused(recipe: RandomRecipe, message: str) -> str | None:
    """Returns the name of the reason for which a build was rightly refused, or None."""
    for flaw in recipe.flaws:
        if re.search(flaw.message, message):
            return flaw.name
    for reason, pattern, is_true in _REASONS:
        if re.search(pattern, message) and is_true(recipe, message):
            return reason
    return None


def _shares_photos(recipe: RandomRecipe, message: str) -> bool:
    """Whether a photo is asked for in a training and in an evaluation split."""
    by_role: dict[str, set[int]] = {"train": set(), "eval": set()}
    for caption in recipe.data.captions.values():
        if caption.split in recipe.roles:
            by_role[recipe.roles[caption.split]].add(id(caption.row.photo))
    return bool(by_role["train"] & by_role["eval"])


def _has_odd_source(recipe: RandomRecipe, message: str) -> bool:
    return any(caption.may_be_rejected for caption in recipe.data.captions.values())


def _excludes_nothing(recipe: RandomRecipe, message: str) -> bool:
    """Whether an exclusion that the message names has no image of any source."""
    links = stated_links(recipe)
    asked = {c.row.key for c in recipe.data.captions.values() if c.split in recipe.splits}
    return any(
        _names(message, exclusion) and not asked & links.reached(r.key for r in exclusion.rows)
        for exclusion in recipe.exclusions
    )


def _may_be_empty(recipe: RandomRecipe, message: str) -> bool:
    """Whether a source or a split has only captions that may be excluded or rejected, or none."""
    links = published_links(recipe)
    held = links.reached(row.key for exclusion in recipe.exclusions for row in exclusion.rows)
    safe = [
        caption
        for caption in recipe.data.captions.values()
        if caption.split in recipe.eval_splits
        or (caption.split in recipe.train_splits and caption.row.key not in held)
        if not caption.may_be_rejected
    ]
    sources = {"coco" if "refcoco" in c.dataset else c.dataset for c in safe}
    return {c.split for c in safe} != set(recipe.splits) or sources != set(recipe.data.sources)


_REASONS: list[tuple[str, str, Any]] = [
    ("image in train and eval", "trained and evaluated on", _shares_photos),
    ("empty split or source", "no caption", _may_be_empty),
    ("unknown data_source", r"data_source|namespace", _has_odd_source),
    ("exclusion without images", r"exclude|exclusion", _excludes_nothing),
]
