"""Checks of licenses: those of images in the index, and the tables of the manifest."""

from collections import Counter
from collections.abc import Iterator, Mapping

from schemas.licenses import is_web_address
from shards.format import manifest as mf
from shards.format.licenses import UNKNOWN, UNKNOWN_ID
from shards.format.manifest import ShardError
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind, VerificationError
from shards.verification.set_checks import IndexedShard


def check_licenses(
    shards: ShardSet, indexed: Mapping[int, IndexedShard]
) -> Iterator[VerificationError]:
    """Yields errors of the manifest's licenses and terms, and of the licenses of images.

    Their counts are compared if all rows of the index can be read.
    """
    yield from _check_table(shards)
    images: Counter[int] = Counter()
    for shard, row in indexed.items():
        file = shards.shards[shard].file
        try:
            rows = shards.rows(shard, ["licenses", "url"])
        except ShardError as error:
            yield VerificationError(ErrorKind.INDEX, str(error), file)
            return
        for key, ids, url in zip(
            row.keys, rows["licenses"].to_pylist(), rows["url"].to_pylist(), strict=True
        ):
            images.update(set(ids))
            if problem := _problem(ids, len(shards.manifest.licenses)):
                yield VerificationError(ErrorKind.LICENSE, f"{ids}: {problem}", file, key)
            if url and not is_web_address(url):
                message = f"{url[:200]!a} is not a web address"
                yield VerificationError(ErrorKind.LICENSE, message, file, key)
    if len(indexed) == len(shards.shards):
        for entry in shards.manifest.licenses:
            if entry.images != images[entry.id]:
                message = (
                    f"{entry.images} images have license {entry.id}, in the index "
                    f"{images[entry.id]}"
                )
                yield VerificationError(ErrorKind.LICENSE, message, mf.NAME)


def _problem(ids: list[int], licenses: int) -> str:
    """Returns what is wrong with the ids of an image's licenses; empty if nothing is."""
    if not ids:
        return "an image has at least one id, if only that of the unknown license"
    if len(set(ids)) < len(ids):
        return "an id twice"
    if UNKNOWN_ID in ids and len(ids) > 1:
        return "the unknown license and others"
    return "" if all(id_ in range(licenses) for id_ in ids) else f"there are {licenses} licenses"


def _check_table(shards: ShardSet) -> Iterator[VerificationError]:
    """Yields errors of the manifest's licenses and terms by themselves."""
    manifest = shards.manifest
    messages: list[str] = []
    if not manifest.licenses:
        messages.append("there is no unknown license")
    seen: set[tuple[str, str]] = set()
    for position, entry in enumerate(manifest.licenses):
        license = f"license {entry.id}"
        if entry.id != position:
            messages.append(f"{license} is at position {position}")
        if (entry.name, entry.url) in seen:
            messages.append(f"{license} is another one, too: {entry.name[:80]!a}")
        seen.add((entry.name, entry.url))
        if position == UNKNOWN_ID:
            if (entry.name, entry.url, entry.stated_by) != (UNKNOWN, "", []):
                messages.append(f"{license} is not the unknown one: {entry.name[:80]!a}")
        elif not entry.stated_by or not entry.images:
            messages.append(f"no source states {license}, or no image has it")
        messages += [
            f"{license} is stated by {source!a}, which is no source"
            for source in entry.stated_by
            if source not in manifest.sources
        ]
    messages += [
        f"{entry.file} has licenses {entry.licenses}, the first of which is not the unknown one"
        for entry in manifest.shards
        if entry.licenses[:1] != [UNKNOWN_ID]
    ]
    if manifest.terms.keys() != manifest.sources.keys():
        of_terms, of_sources = sorted(manifest.terms), sorted(manifest.sources)
        messages.append(f"terms are of {of_terms}, the sources are {of_sources}")
    messages += [f"{name} has no terms" for name, terms in manifest.terms.items() if not terms]
    for message in messages:
        yield VerificationError(ErrorKind.LICENSE, message, mf.NAME)
