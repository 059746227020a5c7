"""The pipeline, from top to bottom as the figure in the README.

    tables of images ──cut──read──┐
    evaluation sets ─────cut──read──┤ (side inputs: one identity an image, and who is held out)
                                    v
    annotation files ────cut──read──parts by shard ──group──write──> shards ──> tables, manifest
                                    rejected records ──┘

Images that may be copies of others are known to every worker, as side inputs; the rows of sources
whose images are all their own go the way of the records. There is one shuffle of records. It is
by shard, not by image: all that is said of an image goes to the shard that its key is hashed to,
and is merged and combined there, while the shard is written.
"""

from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter
from apache_beam.utils.shared import Shared

from pipelines.beam.dofns import (
    IMAGES,
    REJECTED,
    UNIQUE_IMAGES,
    Build,
    CutInput,
    HashHeldOut,
    ReadHeldOut,
    ReadImageTables,
    ReadParts,
    WriteShard,
    shard_key,
)
from pipelines.beam.finalize import Commit


def compose(pipeline: beam.Pipeline, build: Build) -> beam.PCollection:
    """Adds all steps to a pipeline; the result is the manifest's path, once it is written."""
    recipe = build.recipe
    splits = tuple(recipe.splits)
    tables = [
        (name, rank, input)
        for name, source in recipe.sources.items()
        for rank, input in enumerate(source.image_inputs())
    ]
    held_out_files = [
        (name, rank, input)
        for name, exclusion in recipe.exclude.items()
        for rank, input in enumerate(exclusion.inputs())
    ]
    annotation_files = [
        (name, rank, input)
        for name, source in recipe.sources.items()
        for rank, input in enumerate(source.inputs(splits))
    ]
    every_shard = [
        (shard_key(name, shard), b"")
        for name, split in recipe.splits.items()
        for shard in range(split.shards)
    ]
    rejected: list[beam.PCollection] = []

    def cut(label: str, files: list[Any]) -> beam.PCollection:
        """The slices of these files, spread over the workers."""
        cuts, bad = _divided(
            pipeline | f"List {label}" >> beam.Create(files, reshuffle=True),
            f"Cut {label}",
            CutInput(build, counts=label == "annotations"),
        )
        rejected.append(bad)
        return cuts | f"Spread {label}" >> beam.Reshuffle()

    of_sources = cut("image tables", tables) | "Read image tables" >> beam.ParDo(
        ReadImageTables(build)
    ).with_outputs(REJECTED, UNIQUE_IMAGES, main="main")
    of_sets = cut("evaluation sets", held_out_files) | "Read evaluation sets" >> beam.ParDo(
        ReadHeldOut(build)
    ).with_outputs(IMAGES, main="main")
    image_registry = Shared()
    identities = (AsIter(of_sources.main), AsIter(of_sets.main))
    if recipe.near_duplicates.action == "off":
        hashes = pipeline | "No hashes" >> beam.Create([], reshuffle=False)
    else:
        hashes, bad_hashes = _divided(
            [of_sources.main, of_sets[IMAGES]]
            | "All images" >> beam.Flatten()
            | "Spread images" >> beam.Reshuffle(),
            "Hash held-out images",
            HashHeldOut(build, image_registry),
            *identities,
        )
        rejected.append(bad_hashes)
    parts = cut("annotations", annotation_files) | "Read annotations" >> beam.ParDo(
        ReadParts(build, image_registry), *identities
    )
    return (
        [
            pipeline | "Every shard" >> beam.Create(every_shard),
            parts,
            of_sources[UNIQUE_IMAGES],
            of_sources[REJECTED],
            *rejected,
        ]
        | "Records by shard" >> beam.Flatten()
        | "Group by shard" >> beam.GroupByKey()
        | "Write shards"
        >> beam.ParDo(WriteShard(build, image_registry), *identities, AsIter(hashes))
        | "One key" >> beam.WithKeys(b"manifest")
        | "Group summaries" >> beam.GroupByKey()
        | "Write manifest" >> beam.ParDo(Commit(build))
    )


def _divided(
    elements: beam.PCollection, label: str, step: beam.DoFn, *side_inputs: Any
) -> tuple[beam.PCollection, beam.PCollection]:
    """The main output of a step, and its rejected records."""
    outputs = elements | label >> beam.ParDo(step, *side_inputs).with_outputs(REJECTED, main="main")
    return outputs.main, outputs[REJECTED]
