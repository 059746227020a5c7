"""The figures of the summary table, and sizes, are metrics of the job, which every runner shows."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.metrics.cells import DistributionData
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.beam.dofns import METRICS, Build
from pipelines.beam.pipeline import add_steps
from pipelines.beam.serialization import pack
from pipelines.recipe import load, with_root
from pipelines.synthetic.clevr import generate_clevr
from pipelines.synthetic.generate import generate_dataset
from pipelines.synthetic.layout import SyntheticDataset
from shards.format import manifest
from shards.format.source_counts import Counts


def run(recipe: str, synthetic: Path, output: Path) -> Mapping[str, Any]:
    """Builds a set, and returns the metrics of its steps."""
    output.mkdir()
    as_written = load(recipe)
    options = PipelineOptions(["--prism_location=none"])
    with beam.Pipeline("DirectRunner", options=options) as pipeline:
        add_steps(pipeline, Build(with_root(as_written, str(synthetic)), as_written, str(output)))
    return pipeline.result.metrics().query(MetricsFilter().with_namespace(METRICS))


def sizes_of(query: Mapping[str, Any]) -> dict[str, list[DistributionData]]:
    """Returns the sizes of elements by name, with an entry for each step that reports them."""
    sizes = defaultdict(list)
    for distribution in query["distributions"]:
        name = distribution.key.metric.name.removesuffix(": bytes")
        sizes[name].append(distribution.committed.data)
    return sizes


def test_counters_equal_the_figures_of_the_manifest(tmp_path: Path) -> None:
    synthetic, output = tmp_path / "raw", tmp_path / "shards"
    generate_dataset(synthetic, SyntheticDataset(num_images=30))
    query = run("demo", synthetic, output)
    counters = {counter.key.metric.name: counter.committed for counter in query["counters"]}
    made = manifest.load(output)
    for source, counts in made.sources.items():
        for name in Counts.__struct_fields__:
            assert counters[f"{source}: {name}"] == getattr(counts, name)
            assert counters[f"{source}: boxes {name}"] == getattr(counts.boxes, name)
    for split, totals in made.totals.items():
        for name, value in totals.items():
            assert counters[f"{split}: {name}"] == value
        shards = [shard for shard in made.shards if shard.split == split]
        assert counters[f"{split}: shards"] == len(shards)
        assert counters[f"{split}: bytes"] == sum(shard.bytes for shard in shards)
    assert any(name.endswith(": worker ms") for name in counters)
    sizes = sizes_of(query)
    [groups], [summaries] = sizes["shard groups"], sizes["shard summaries"]
    assert groups.count == summaries.count == len(made.shards)
    assert groups.sum == sum(size.sum for size in sizes["slice outputs"])
    assert groups.max >= max(size.max for size in sizes["slice outputs"])
    assert {"slices", "image tables", "evaluation sets"} <= sizes.keys()


def test_unique_images_are_not_sent_to_every_worker(tmp_path: Path) -> None:
    synthetic, output = tmp_path / "raw", tmp_path / "shards"
    generate_clevr(synthetic, num_images=12, seed=0)
    sizes = sizes_of(run("clevr", synthetic, output))
    assert manifest.load(output).totals["train"]["images"] > 0
    assert max(size.max for size in sizes["image tables"]) == len(pack([]))
