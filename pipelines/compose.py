"""The pipeline, from top to bottom as the figure in the README.

    tables of pictures ──cut──read──┐
    evaluation sets ─────cut──read──┤ (side inputs: one identity a picture, and who is held out)
                                    v
    annotation files ────cut──read──parts by shard ──group──write──> shards ──> tables, manifest
                                    rejected records ──┘

Pictures that may be copies of others are known to every worker, as side inputs; the rows of sources
whose pictures are all their own go the way of the records. There is one shuffle of records. It is
by shard, not by picture: all that is said of a picture goes to the shard that its key is hashed to,
and is merged and combined there, while the shard is written.
"""

from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter
from apache_beam.utils.shared import Shared

from pipelines.commit import Commit
from pipelines.stages import (
    ALONE,
    PICTURES,
    REJECTED,
    Build,
    CutInput,
    HashHeldOut,
    ReadHeldOut,
    ReadParts,
    ReadPictures,
    WriteShard,
    shard_key,
)


def compose(pipeline: beam.Pipeline, build: Build) -> beam.PCollection:
    """Adds all steps to a pipeline; the result is the manifest's path, once it is written."""
    recipe = build.recipe
    splits = tuple(recipe.splits)
    tables = [
        (name, rank, input)
        for name, source in recipe.sources.items()
        for rank, input in enumerate(source.picture_inputs())
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

    of_sources = cut("picture tables", tables) | "Read picture tables" >> beam.ParDo(
        ReadPictures(build)
    ).with_outputs(REJECTED, ALONE, main="main")
    of_sets = cut("evaluation sets", held_out_files) | "Read evaluation sets" >> beam.ParDo(
        ReadHeldOut(build)
    ).with_outputs(PICTURES, main="main")
    catalogue = Shared()
    identities = (AsIter(of_sources.main), AsIter(of_sets.main))
    if recipe.near_duplicates.action == "off":
        hashes = pipeline | "No hashes" >> beam.Create([], reshuffle=False)
    else:
        hashes, bad_hashes = _divided(
            [of_sources.main, of_sets[PICTURES]]
            | "All pictures" >> beam.Flatten()
            | "Spread pictures" >> beam.Reshuffle(),
            "Hash held-out pictures",
            HashHeldOut(build, catalogue),
            *identities,
        )
        rejected.append(bad_hashes)
    parts = cut("annotations", annotation_files) | "Read annotations" >> beam.ParDo(
        ReadParts(build, catalogue), *identities
    )
    return (
        [
            pipeline | "Every shard" >> beam.Create(every_shard),
            parts,
            of_sources[ALONE],
            of_sources[REJECTED],
            *rejected,
        ]
        | "Records by shard" >> beam.Flatten()
        | "Group by shard" >> beam.GroupByKey()
        | "Write shards" >> beam.ParDo(WriteShard(build, catalogue), *identities, AsIter(hashes))
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
