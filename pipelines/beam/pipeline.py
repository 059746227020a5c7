"""The pipeline.

    image tables ------ find slices - read --+
    evaluation sets --- find slices - read --+  (side inputs: which images are the same,
                                             |   and which are held out; checked first)
                                             v
    annotation files -- find slices - read -- group by shard - write --> shards, then the manifest
                             counts and rejected records -- sum --^ (side input)
             with negatives, phrases and synonyms -- sum --^ (side input)

Rows of images that other datasets may contain are side inputs of all workers; those of sources
with unique images are shuffled with the records. Records are shuffled once, grouped by shard, not
by image: the key of an image is hashed to a shard, and its records are merged and combined while
that shard is written.
"""

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter
from apache_beam.utils.shared import Shared

from pipelines.beam.check_joins import CheckJoins
from pipelines.beam.dofns import (
    IMAGES,
    PHOTOS,
    READINGS,
    REJECTED,
    UNIQUE_IMAGES,
    VOCABULARY,
    Build,
    FindSlices,
    HashHeldOut,
    ReadAnnotations,
    ReadHeldOut,
    ReadImageTables,
    SumReadings,
    SumVocabulary,
    WriteShard,
    shard_key,
)
from pipelines.beam.finalize import FindLeaks, FinishOutput, WriteManifest
from pipelines.io.slices import Input


def add_steps(pipeline: beam.Pipeline, build: Build) -> beam.PCollection:
    """Adds all steps to a pipeline; the result is the manifest's path, once it is written."""
    recipe = build.recipe
    splits = tuple(recipe.splits)
    readings: list[beam.PCollection] = [
        pipeline | "One reading" >> beam.Create([b""], reshuffle=False)  # so that there is a sum
    ]

    def slices(label: str, inputs: dict[str, list[Input]]) -> beam.PCollection:
        """Returns the byte ranges of the slices of raw files, distributed over the workers."""
        files = [
            (f"{name}/{rank}".encode(), (name, rank, input))
            for name, inputs_of_name in inputs.items()
            for rank, input in enumerate(inputs_of_name)
        ]
        ranges, readings_of_files = _apply(
            FindSlices(build, label == "annotations", label == "evaluation sets"),
            pipeline
            | f"List {label}" >> beam.Create(files, reshuffle=False)
            # Grouped, not reshuffled: of two reshuffles with only maps between them, Flink leaves
            # out the second, and all slices of a file would be read where it was sliced.
            | f"Spread files of {label}" >> beam.GroupByKey()
            | f"Files of {label}" >> beam.FlatMapTuple(lambda _, files_of_key: files_of_key),
            f"Find slices of {label}",
        )
        readings.append(readings_of_files)
        return ranges | f"Spread {label}" >> beam.Reshuffle()

    sources, exclude = recipe.sources.items(), recipe.exclude.items()
    tables = {**recipe.sources, **recipe.image_tables.sources()}
    image_tables = slices(
        "image tables", {name: source.image_tables() for name, source in tables.items()}
    ) | "Read image tables" >> beam.ParDo(ReadImageTables(build)).with_outputs(
        READINGS, UNIQUE_IMAGES, main="main"
    )
    readings.append(image_tables[READINGS])
    evaluation_sets = slices(
        "evaluation sets", {name: exclusion.inputs() for name, exclusion in exclude}
    ) | "Read evaluation sets" >> beam.ParDo(ReadHeldOut(build)).with_outputs(IMAGES, main="main")

    shared = Shared()
    registry_inputs = (AsIter(image_tables.main), AsIter(evaluation_sets.main))
    join_reports, shared_ids = _apply(
        CheckJoins(build, shared),
        pipeline | "Once" >> beam.Create([b""], reshuffle=False),
        "Check joins",
        registry_inputs,
    )
    readings.append(shared_ids)
    if recipe.near_duplicates.action == "off":
        hashes = pipeline | "No hashes" >> beam.Create([], reshuffle=False)
    else:
        hashes, readings_of_images = _apply(
            HashHeldOut(build, shared),
            [image_tables.main, evaluation_sets[IMAGES]]
            | "All images" >> beam.Flatten()
            | "Spread images" >> beam.Reshuffle(),
            "Hash held-out images",
            registry_inputs,
        )
        readings.append(readings_of_images)

    annotations = slices("annotations", {name: source.inputs(splits) for name, source in sources})
    read_annotations = annotations | "Read annotations" >> beam.ParDo(
        ReadAnnotations(build, shared), *registry_inputs, AsIter(join_reports)
    ).with_outputs(READINGS, VOCABULARY, main="main")
    readings.append(read_annotations[READINGS])
    vocabulary = []
    if recipe.negatives.are_asked_for:
        vocabulary.append(
            AsIter(
                read_annotations[VOCABULARY]
                | "One vocabulary" >> beam.WithKeys(b"vocabulary")
                | "Group vocabularies" >> beam.GroupByKey()
                | "Sum vocabularies" >> beam.ParDo(SumVocabulary())
            )
        )
    summary = (
        readings
        | "All readings" >> beam.Flatten()
        | "One group" >> beam.WithKeys(b"readings")
        | "Group readings" >> beam.GroupByKey()
        | "Sum readings" >> beam.ParDo(SumReadings(build)).with_outputs(REJECTED, main="main")
    )
    read = (AsIter(summary.main), AsIter(summary[REJECTED]))
    every_shard = [
        (shard_key(name, shard), b"")
        for name, split in recipe.splits.items()
        for shard in range(split.shards)
    ]
    shards = (
        [
            pipeline | "Every shard" >> beam.Create(every_shard),
            read_annotations.main,
            image_tables[UNIQUE_IMAGES],
        ]
        | "All slice outputs" >> beam.Flatten()
        | "Group by shard" >> beam.GroupByKey()
        | "Write shards"
        >> beam.ParDo(
            WriteShard(build, shared), *registry_inputs, AsIter(hashes), *read, *vocabulary
        ).with_outputs(*PHOTOS.values(), main="main")
    )
    leaks = shards[PHOTOS["train"]] | "Find leaks" >> beam.ParDo(
        FindLeaks(), AsIter(shards[PHOTOS["eval"]])
    )
    manifest = (
        shards.main
        | "One key" >> beam.WithKeys(b"manifest")
        | "Group summaries" >> beam.GroupByKey()
        | "Write manifest"
        >> beam.ParDo(WriteManifest(build), AsIter(join_reports), AsIter(leaks), *read)
    )
    if build.finishes_output:
        return manifest | "Finish output" >> beam.ParDo(FinishOutput(build))
    return manifest


def _apply(
    step: beam.DoFn, elements: beam.PCollection, label: str, side_inputs: Iterable[Any] = ()
) -> tuple[beam.PCollection, beam.PCollection]:
    """Applies a step; returns its main output and its readings."""
    outputs = elements | label >> beam.ParDo(step, *side_inputs).with_outputs(READINGS, main="main")
    return outputs.main, outputs[READINGS]
