"""The step that checks the joins of all image tables, before any annotation is read."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pipelines.beam import unknown_photos
from pipelines.beam.dofns import ImageRegistryStep
from pipelines.beam.reading import Reading
from pipelines.beam.serialization import pack, unpack
from pipelines.dedup.image_registry import ImageRegistry, SharedId
from pipelines.recipe import Recipe
from schemas import EvalImage, ImageInfo, Rejected
from shards.format.exclusion_counts import ExclusionCounts
from shards.terminal import count_noun, listed


class ImageIdsError(Exception):
    """The ids of the image tables cannot be what they state, or an exclusion names no image."""


class JoinReport(msgspec.Struct):
    """What is known of the exclusions before the first shard, and what to warn of."""

    exclusions: dict[str, ExclusionCounts]
    warnings: list[str]


class CheckJoins(ImageRegistryStep):
    """Checks ids and exclusions once; ids that several images state are also rejected."""

    def process(
        self, element: bytes, images: Iterable[bytes], held_out: Iterable[bytes]
    ) -> Iterator[Any]:
        """Yields the packed `JoinReport`.

        Raises:
            ImageIdsError: Too many images of a source share ids, or an exclusion names no image.
        """
        recipe = self._build.recipe
        registry = self._registry(images, held_out)
        rows = [row for content in images for row in unpack(content, list[ImageInfo])]
        named = Counter(eval_set for eval_set, _ in registry.eval_images())
        for name, exclusion in recipe.exclude.items():
            if not named[name] and not exclusion.allow_empty:
                raise ImageIdsError(f"exclude.{name}: it names no image")
        sharing = _sharing_images(registry.shared_ids, rows)
        _check_shared_ids(registry.shared_ids, sharing, rows, recipe)
        for source in (name for name in recipe.sources if name in sharing):
            for shared_id in _ids_of(sharing[source], registry.shared_ids):
                key = shared_id.keys[0]
                reason = f"{shared_id.join} of several images"
                row = Rejected(source, key, reason, _text(shared_id), image=key, records=0)
                yield self._tag_reading(Reading(source, "", rejected=[row]))
        held = [row for content in held_out for row in unpack(content, list[EvalImage])]
        joins = recipe.joins()
        report = JoinReport(
            exclusions={
                name: ExclusionCounts(
                    named=named[name],
                    joins={
                        source: joins.possible(exclusion.image_ids(), table.image_ids())
                        for source, table in recipe.sources.items()
                    },
                )
                for name, exclusion in recipe.exclude.items()
            },
            warnings=[
                *recipe.warnings(),
                *_warnings_of_shared_ids(registry.shared_ids),
                *unknown_photos.warnings(registry, rows, held, recipe),
                *_warnings_of_unmatched_sets(registry, named, recipe),
                *_warnings_of_unhashed_images(registry, recipe),
            ],
        )
        yield pack(report)


def _text(shared_id: SharedId) -> str:
    keys = listed(shared_id.keys)
    if not shared_id.id:
        return f"a chain of {shared_id.join}s joins {keys}"
    return f"{shared_id.join} {shared_id.id} is stated for {keys}"


def _sharing_images(
    shared_ids: Iterable[SharedId], rows: Iterable[ImageInfo]
) -> dict[str, set[str]]:
    """Returns, by source, the images that its tables state to share an id with another one."""
    keys = {key for shared_id in shared_ids for key in shared_id.keys}
    sharing: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.key in keys and (row.same_as or row.photo_id):
            sharing[row.source].add(row.key)
    return sharing


def _ids_of(keys: set[str], shared_ids: Iterable[SharedId]) -> list[SharedId]:
    return [shared_id for shared_id in shared_ids if not keys.isdisjoint(shared_id.keys)]


def _check_shared_ids(
    shared_ids: list[SharedId],
    sharing: dict[str, set[str]],
    rows: list[ImageInfo],
    recipe: Recipe,
) -> None:
    """Raises `ImageIdsError` if a source has more shared ids than it may lose records."""
    sizes = Counter(row.source for row in rows)
    for source, keys in sorted(sharing.items()):
        if len(keys) > recipe.reject_limit * sizes[source]:
            texts = [_text(shared_id) for shared_id in _ids_of(keys, shared_ids)]
            more = f"; and {len(texts) - 3} more" if len(texts) > 3 else ""
            raise ImageIdsError(
                f"{len(keys)} of {sizes[source]} images of {source} share an id of another dataset "
                f"with one another, more than the recipe's reject_limit of "
                f"{recipe.reject_limit:.2%}: {'; '.join(texts[:3])}{more}; no two images of a "
                "dataset are the same, so the ids cannot be true"
            )


def _warnings_of_shared_ids(shared_ids: list[SharedId]) -> Iterator[str]:
    for join, count in sorted(Counter(s.join for s in shared_ids).items()):
        first = next(s for s in shared_ids if s.join == join)
        yield (
            f"several images of one dataset state the same {join} ({count_noun(count, 'case')}); "
            f"they are not merged, and held out together: {_text(first)}"
        )


def _warnings_of_unmatched_sets(
    registry: ImageRegistry, named: Counter[str], recipe: Recipe
) -> Iterator[str]:
    """Yields the exclusions none of whose images is an image of a source, or a duplicate of one."""
    # The registry does not have the unique images of a source: the last step warns of those.
    matched = registry.matched_eval_sets() | recipe.exclusions_of_unique_images()
    for name, exclusion in recipe.exclude.items():
        if not named[name]:
            yield f"exclude.{name}: it names no image"
        elif name not in matched:
            namespaces = ", ".join(exclusion.image_ids())
            yield (
                f"exclude.{name}: none of the images of {namespaces} that it names is in an image "
                "table of a source, or a duplicate of one that is; are they ids of another dataset?"
            )


def _warnings_of_unhashed_images(registry: ImageRegistry, recipe: Recipe) -> Iterator[str]:
    """Yields the exclusions with images that no folder of the recipe has, to be hashed."""
    if recipe.near_duplicates.action != "exclude":
        return
    unhashed: dict[str, list[str]] = defaultdict(list)
    for name, key in sorted(registry.eval_images()):
        if not recipe.exclude[name].images and registry.image(key) is None:
            unhashed[name].append(key)
    for name, keys in unhashed.items():
        yield (
            f"exclude.{name}: near-duplicates of {count_noun(len(keys), 'image')} are not found, "
            f"because no source has the files of {listed(keys)}; state images = [FOLDERS] in it"
        )
