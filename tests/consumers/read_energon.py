"""Megatron-Energon loads an export: RESULT METADATASET SPLIT [SPLIT ...]."""

import json
import sys
from pathlib import Path
from typing import Any

from megatron.energon import (
    Cooker,
    DefaultTaskEncoder,
    Sample,
    SampleDecoder,
    WorkerConfig,
    basic_sample_keys,
    edataclass,
    get_loader,
    get_val_dataset,
    stateless,
)


@edataclass
class GroundedSample(Sample):
    image: Any
    record: dict[str, Any]


@stateless
def cook(sample: dict[str, Any]) -> GroundedSample:
    return GroundedSample(
        **basic_sample_keys(sample), image=sample.get("jpg") or sample["png"], record=sample["json"]
    )


class GroundedTaskEncoder(DefaultTaskEncoder[GroundedSample, GroundedSample, Any, Any]):
    decoder = SampleDecoder(image_decode="pilrgb")
    cookers = [Cooker(cook)]


result, path, *splits = sys.argv[1:]
samples: dict[str, list[dict[str, Any]]] = {}
for split in splits:
    dataset = get_val_dataset(
        path,
        split_part=split,
        batch_size=None,
        worker_config=WorkerConfig(rank=0, world_size=1, num_workers=0),
        task_encoder=GroundedTaskEncoder(),
    )
    samples[split] = [
        {"key": sample.__key__, "size": sample.image.size, "record": sample.record}
        for sample in get_loader(dataset)
    ]
Path(result).write_text(json.dumps(samples))
