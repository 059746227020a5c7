r"""Compares the absent phrases of a set with the truth: what the synthetic images show.

    mdetr-synthetic --output RAW --num-images 27000 --no-images \
        --questions 40 --regions 1 --sentences 1
    mdetr-build demo_gqa --root RAW --output SHARDS --set images=none --set negatives.proven=1000
    python -m benchmarks.negatives SHARDS --num-images 27000

A phrase is false if an object of the scene has all the properties that it states. Its words are
understood by the synonyms with which texts about scenes are written, not by the rule of builds.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipelines.synthetic.layout import SyntheticDataset
from pipelines.synthetic.phrases import SYNONYMS, plural
from pipelines.synthetic.plan import plan_image
from pipelines.synthetic.scene import COLORS, RADII, STYLES, SyntheticObject, make_scene
from pipelines.synthetic.shapes import OUTLINES
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet

TEXTURES = {texture for style in STYLES.values() for texture in style.textures}


class Description(NamedTuple):
    """The properties that a phrase states; an empty one is not stated."""

    noun: str
    size: str = ""
    texture: str = ""
    shade: str = ""
    color: str = ""

    def fits(self, obj: SyntheticObject) -> bool:
        """Returns whether an object has all properties."""
        stated = ((name, value) for name, value in self._asdict().items() if value)
        return all(getattr(obj, name) == value for name, value in stated)


def spellings(words: str) -> set[str]:
    """Returns how a property or a noun is written in texts."""
    return {words, *SYNONYMS.get(words, ())}


NOUNS = {
    form: noun for noun in OUTLINES for words in spellings(noun) for form in (words, plural(words))
}
SHADES = {shade for shades in COLORS.values() for shade in shades if shade}
PROPERTIES = {
    word: (name, value)
    for name, values in (
        ("size", RADII),
        ("texture", TEXTURES),
        ("shade", SHADES),
        ("color", COLORS),
    )
    for value in values
    for word in spellings(value)
}


def understand(phrase: str) -> Description | None:
    """Returns what a phrase states; None if it has other words."""
    words = phrase.casefold().split()
    for start in range(len(words)):  # the longest noun: "half circle"
        noun = NOUNS.get(" ".join(words[start:]))
        if noun is not None:
            adjectives = words[:start]
            if not all(word in PROPERTIES for word in adjectives):
                return None
            return Description(noun, **dict(PROPERTIES[word] for word in adjectives))
    return None


def scenes_by_key(dataset: SyntheticDataset) -> dict[str, int]:
    """Returns the number of each image by its keys."""
    numbers = {}
    for number in range(dataset.num_images):
        image = plan_image(number, dataset.seed)
        for namespace, id_ in (
            ("coco", image.coco_id),
            ("vg", image.vg_id),
            ("flickr30k", image.photo_id),
        ):
            numbers[f"{namespace}/{id_}"] = number
    return numbers


def compare(
    shard_set: Path, dataset: SyntheticDataset
) -> Iterator[tuple[str, str, str, bool | None]]:
    """Yields strength, reason and words of each absent phrase, and whether it is false.

    It is None for a phrase that is not understood.
    """
    shards = ShardSet.open(str(shard_set))
    numbers = scenes_by_key(dataset)
    for split in shards.manifest.totals:
        for stored in ShardReader(shards).samples(split):
            absent = [(c.text, a) for c in stored.sample.captions for a in c.absent]
            if not absent:
                continue
            rng = dataset.random(numbers[stored.sample.key], "scene")
            objects = make_scene(rng, dataset.style).objects
            for text, phrase in absent:
                words = text[slice(*phrase.span)]
                described = understand(words)
                is_false = None if described is None else any(map(described.fits, objects))
                yield phrase.strength, phrase.reason, words, is_false


def main() -> None:
    """Prints the number of phrases, and of false ones, by strength and reason."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--num-images", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", choices=STYLES, default="varied")
    arguments = parser.parse_args()
    dataset = SyntheticDataset(arguments.num_images, arguments.seed, scenes=arguments.scenes)
    counts: Counter[tuple[str, str]] = Counter()
    false: Counter[tuple[str, str]] = Counter()
    false_words: Counter[str] = Counter()
    unclear: Counter[str] = Counter()
    for strength, reason, words, is_false in compare(arguments.shards, dataset):
        counts[strength, reason] += 1
        if is_false is None:
            unclear[words] += 1
        elif is_false:
            false[strength, reason] += 1
            false_words[words] += 1
    for key, count in sorted(counts.items()):
        print(
            f"{key[0]:9} {key[1]:16} {count:8,} phrases, {false[key]:6,} false "
            f"({false[key] / count:.3%})"
        )
    print(f"not understood: {unclear.total()}", *unclear.most_common(5))
    print("most frequent false ones:", *false_words.most_common(8))


if __name__ == "__main__":
    main()
