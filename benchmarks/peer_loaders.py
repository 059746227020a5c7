"""How eight loaders write and read the same pairs: the subjects of `benchmarks/peers.py`.

Every loader yields batches of ``transform(pair, rng)``. Those that read records at random have a
record for each pair, the encoded image and the JSON of a sample with one caption; Megatron-Energon
has the same as tars; this project and webdataset read tars with a sample for each image. Each is
set up as its documentation recommends for local files. Libraries are imported where they are used,
since each has an environment of its own.
"""

import io
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import numpy as np
from pycocotools.coco import COCO
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from transformers import PreTrainedTokenizerBase

from benchmarks import published_loader
from mdetr_model.data.samples import TrainingSample, TrainingSampleBuilder
from mdetr_model.data.transforms import TrainTransform
from mdetr_model.data.workers import worker_options
from schemas.sample import decode_caption, decode_sample, encode_sample
from shards.export import energon
from shards.export.job import ExportJob
from shards.reading.reader import Pair, ShardReader
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import GlobalBatchSampler, PairDataset
from shards.sampling.sample_order import PairOrder

Transform = Callable[[Pair, np.random.Generator], Any]
SHUFFLE_BUFFER = 1000  # pairs, of loaders that read sequentially
CHUNK_BYTES = 64 << 20  # the size that LitData and MosaicML Streaming recommend
RECORDS_PER_FILE = 512  # of Grain


class Sources(NamedTuple):
    """The same pairs as shard sets: with a sample for each image, and with one for each pair."""

    images: Path
    pairs: Path

    def records(self) -> Iterator[dict[str, bytes]]:
        """Yields for each pair its image, and the JSON of a sample with one caption."""
        shards = ShardSet.open(self.pairs)
        reader = ShardReader(shards)
        for stored in reader.samples("train"):
            image = reader.image(stored.shard, stored.row).content
            yield {"image": bytes(image), "json": encode_sample(stored.sample)}


class Layout(NamedTuple):
    """The processes that read a stream, and the pairs of a rank's batch."""

    workers: int
    batch: int
    rank: int = 0
    ranks: int = 1


def identify(pair: Pair, rng: np.random.Generator) -> str:
    """Returns what no other pair has."""
    return f"{pair.key}-{pair.caption_index}"


def undecoded(pair: Pair, rng: np.random.Generator) -> Pair:
    """Returns a pair whose image can be decoded."""
    return pair


class Decode:
    """Decodes, augments and tokenizes a pair as training does."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._builder = TrainingSampleBuilder(tokenizer, TrainTransform())

    def __call__(self, pair: Pair, rng: np.random.Generator) -> TrainingSample:
        return self._builder(pair, rng)


class ReadPair:
    """Turns a record into what a transform returns; each process has one generator."""

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._rng = np.random.default_rng(0)

    def __call__(self, record: dict[str, bytes]) -> Any:
        sample = decode_sample(record["json"])
        pair = Pair(
            key=sample.key,
            caption_index=0,
            width=sample.width,
            height=sample.height,
            image=memoryview(record["image"]),
            caption=sample.captions[0],
        )
        return self._transform(pair, self._rng)


class Loader(ABC):
    """One epoch of pairs, from its beginning or from a restored position.

    ``folder`` has what `write` wrote. ``start`` counts the starts of a run: a loader that keeps no
    position within an epoch begins another one, in another order, at each.
    """

    keeps_position = True

    def __init__(self, folder: Path, layout: Layout, transform: Transform, start: int = 0) -> None:
        self._folder = folder
        self._layout = layout
        self._transform = transform
        self._start = start

    @staticmethod
    @abstractmethod
    def write(folder: Path, sources: Sources) -> None:
        """Writes the pairs to an empty folder."""

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Yields lists of transformed pairs, once."""

    def state(self) -> Any:
        """Returns the position after the last batch that was yielded, which can be pickled."""
        return None

    def restore(self, state: Any) -> None:
        """Goes to a position, before the first batch."""
        raise NotImplementedError

    @classmethod
    def redistribute(cls, states: list[Any], layout: Layout) -> list[Any]:
        """Returns the states for the ranks of a layout, given those of the ranks before."""
        return [states[rank % len(states)] for rank in range(layout.ranks)]


class Ours(Loader):
    """This project's stream."""

    _step = 0

    @staticmethod
    def write(folder: Path, sources: Sources) -> None:
        (folder / "shards").symlink_to(sources.images.absolute())

    def batches(self) -> Iterator[Any]:
        shards = ShardSet.open(self._folder / "shards")
        sampler = GlobalBatchSampler(
            PairOrder(shards, "train", seed=0),
            self._layout.batch * self._layout.ranks,
            rank=self._layout.rank,
            world_size=self._layout.ranks,
        )
        sampler.set_position(0, self._step)
        dataset = PairDataset([shards], self._transform, seed=0)
        for batch in DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=self._layout.workers,
            collate_fn=as_list,
            **worker_options([shards]),
        ):
            self._step += 1
            yield batch

    def state(self) -> int:
        return self._step

    def restore(self, state: int) -> None:
        self._step = state


class LitData(Loader):
    """LitData: chunks, and a streaming dataset that assigns them to workers."""

    def __init__(self, folder: Path, layout: Layout, transform: Transform, start: int = 0) -> None:
        super().__init__(folder, layout, transform, start)
        from litdata import StreamingDataLoader, StreamingDataset

        dataset = StreamingDataset(
            str(folder), shuffle=True, seed=0, drop_last=True, transform=ReadPair(transform)
        )
        self._loader = StreamingDataLoader(
            dataset, batch_size=layout.batch, num_workers=layout.workers, collate_fn=as_list
        )

    @staticmethod
    def write(folder: Path, sources: Sources) -> None:
        from litdata.streaming.writer import BinaryWriter

        writer = BinaryWriter(str(folder), chunk_bytes=CHUNK_BYTES)
        for i, record in enumerate(sources.records()):
            writer.add_item(i, record)
        writer.done()
        writer.merge()

    def batches(self) -> Iterator[Any]:
        return iter(self._loader)

    def state(self) -> Any:
        return self._loader.state_dict()

    def restore(self, state: Any) -> None:
        self._loader.load_state_dict(state)


class MosaicML(Loader):
    """MosaicML Streaming: MDS files, and one order of samples for a number of canonical nodes."""

    def __init__(self, folder: Path, layout: Layout, transform: Transform, start: int = 0) -> None:
        super().__init__(folder, layout, transform, start)
        from streaming import StreamingDataLoader

        dataset = _mosaic_pairs(
            ReadPair(transform), local=str(folder), shuffle=True, batch_size=layout.batch
        )
        self._loader = StreamingDataLoader(
            dataset, batch_size=layout.batch, num_workers=layout.workers, collate_fn=as_column
        )

    @staticmethod
    def write(folder: Path, sources: Sources) -> None:
        from streaming import MDSWriter

        columns = {"image": "bytes", "json": "bytes"}
        with MDSWriter(out=str(folder), columns=columns, size_limit=CHUNK_BYTES) as writer:
            for record in sources.records():
                writer.write(record)

    def batches(self) -> Iterator[Any]:
        return (column[0] for column in self._loader)

    def state(self) -> Any:
        return self._loader.state_dict()

    def restore(self, state: Any) -> None:
        self._loader.load_state_dict(state)


def _mosaic_pairs(read: ReadPair, **options: Any) -> Any:
    from streaming import StreamingDataset

    class Pairs(StreamingDataset):
        def __getitem__(self, at: int) -> Any:
            return read(super().__getitem__(at))

    return Pairs(**options)


class Energon(Loader):
    """Megatron-Energon: tars with an index; each worker has a range of the samples."""

    def __init__(self, folder: Path, layout: Layout, transform: Transform, start: int = 0) -> None:
        super().__init__(folder, layout, transform, start)
        from megatron.energon import WorkerConfig, get_savable_loader, get_train_dataset

        config = WorkerConfig(rank=layout.rank, world_size=layout.ranks, num_workers=layout.workers)
        dataset = get_train_dataset(
            folder / "train",
            worker_config=config,
            batch_size=layout.batch,
            shuffle_buffer_size=SHUFFLE_BUFFER,
            max_samples_per_sequence=100,
            task_encoder=_energon_encoder(ReadPair(transform)),
            repeat=False,
        )
        self._loader = get_savable_loader(dataset)

    @staticmethod
    def write(folder: Path, sources: Sources) -> None:
        energon.export(ExportJob(ShardSet.open(sources.pairs), folder, ["train"]))

    def batches(self) -> Iterator[Any]:
        return iter(self._loader)

    def state(self) -> Any:
        return self._loader.save_state_rank()

    def restore(self, state: Any) -> None:
        self._loader.restore_state_rank(state)

    @classmethod
    def redistribute(cls, states: list[Any], layout: Layout) -> list[Any]:
        """Does what ``energon checkpoint redist`` does: the workers are dealt to the new ranks."""
        if len(states) == layout.ranks:
            return states
        workers = [worker for state in states for worker in state.worker_states]
        each = len(workers) // layout.ranks
        kind = type(states[0])
        return [
            kind(
                worker_states=workers[rank * each : (rank + 1) * each],
                next_worker_id=0,
                micro_batch_size=states[0].micro_batch_size,
            )
            for rank in range(layout.ranks)
        ]


def _energon_encoder(read: ReadPair) -> Any:
    from megatron import energon as library

    @library.edataclass
    class Encoded(library.Sample):
        content: Any

    @library.stateless
    def cook(sample: dict[str, Any]) -> Any:
        record = {"image": sample["jpg"], "json": sample["json"]}
        return Encoded(**library.basic_sample_keys(sample), content=record)

    class Encoder(library.DefaultTaskEncoder):
        decoder = None  # the JSON is decoded as by the others
        cookers = [library.Cooker(cook)]

        @library.stateless
        def encode_sample(self, sample: Any) -> Any:  # after its shuffle buffer, unlike cooking
            sample.content = read(sample.content)
            return sample

        @library.stateless
        def batch(self, samples: list[Any]) -> list[Any]:
            return [sample.content for sample in samples]

    return Encoder()


class HuggingFace(Loader):
    """HF datasets: an Arrow table as an iterable dataset, with torchdata's stateful loader."""

    def __init__(self, folder: Path, layout: Layout, transform: Transform, start: int = 0) -> None:
        super().__init__(folder, layout, transform, start)
        from datasets import load_from_disk
        from datasets.distributed import split_dataset_by_node
        from torchdata.stateful_dataloader import StatefulDataLoader

        dataset = load_from_disk(str(folder)).to_iterable_dataset(num_shards=64)
        dataset = dataset.shuffle(seed=0, buffer_size=SHUFFLE_BUFFER)
        dataset = split_dataset_by_node(dataset, rank=layout.rank, world_size=layout.ranks)
        read = ReadPair(transform)
        self._loader = StatefulDataLoader(
            dataset,
            batch_size=layout.batch,
            num_workers=layout.workers,
            collate_fn=lambda records: [read(record) for record in records],
        )

    @staticmethod
    def write(folder: Path, sources: Sources) -> None:
        from datasets import Dataset, Features, Value

        features = Features({"image": Value("binary"), "json": Value("binary")})
        with TemporaryDirectory() as cache:
            dataset = Dataset.from_generator(sources.records, features=features, cache_dir=cache)
            dataset.save_to_disk(str(folder))

    def batches(self) -> Iterator[Any]:
        return iter(self._loader)

    def state(self) -> Any:
        return self._loader.state_dict()

    def restore(self, state: Any) -> None:
        self._loader.load_state_dict(state)


class Grain(Loader):
    """Grain: ArrayRecord files, and its iterator that allows other numbers of hosts."""

    def __init__(self, folder: Path, layout: Layout, transform: Transform, start: int = 0) -> None:
        super().__init__(folder, layout, transform, start)
        import grain

        files = sorted(str(path) for path in folder.glob("*.array_record"))
        read = ReadPair(transform)
        pairs = (
            grain.MapDataset.source(grain.sources.ArrayRecordDataSource(files))
            .shuffle(seed=0)
            .map(lambda record: Opaque(read(msgspec.msgpack.decode(record))))
        )
        several = grain.multiprocessing.MultiprocessingOptions(num_workers=layout.workers)
        self._iterator = iter(
            grain.experimental.ElasticIterator(
                pairs,
                layout.batch * layout.ranks,
                grain.sharding.ShardOptions(layout.rank, layout.ranks),
                # What it recommends for data in memory, as these files are in the page cache.
                read_options=grain.ReadOptions(num_threads=0),
                multiprocessing_options=several if layout.workers else None,
            )
        )

    @staticmethod
    def write(folder: Path, sources: Sources) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = None
        for i, record in enumerate(sources.records()):
            if i % RECORDS_PER_FILE == 0:
                if writer is not None:
                    writer.close()
                path = folder / f"{i // RECORDS_PER_FILE:05d}.array_record"
                # One record a group: what its documentation recommends for random access.
                writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
            writer.write(msgspec.msgpack.encode(record))
        writer.close()

    def batches(self) -> Iterator[Any]:
        return ([item.content for item in batch] for batch in self._iterator)

    def state(self) -> Any:
        return self._iterator.get_state()

    def restore(self, state: Any) -> None:
        self._iterator.set_state(state)


class Opaque:
    """An element that Grain's batches hold as it is, not as a tree of arrays."""

    def __init__(self, content: Any) -> None:
        self.content = content


class WebDataset(Loader):
    """webdataset alone, on the shards: a sequential reader with a shuffle buffer."""

    keeps_position = False

    @staticmethod
    def write(folder: Path, sources: Sources) -> None:
        (folder / "shards").symlink_to(sources.images.absolute())

    def batches(self) -> Iterator[Any]:
        import webdataset

        transform, rng = self._transform, np.random.default_rng(0)

        def pairs(samples: Iterator[dict[str, Any]]) -> Iterator[tuple[bytes, bytes, Any, int]]:
            for sample in samples:
                content = json.loads(sample["json"])
                for i in range(len(content["captions"])):
                    yield sample["jpg"], sample["json"], content, i

        def read(item: tuple[bytes, bytes, Any, int]) -> Any:
            image, member, content, i = item
            key, caption = decode_caption(member, i)
            size = content["width"], content["height"]
            return transform(Pair(key, i, *size, memoryview(image), caption), rng)

        urls = sorted(str(path) for path in (self._folder / "shards").glob("*.tar"))
        dataset = (
            webdataset.WebDataset(
                urls,
                shardshuffle=100,
                seed=self._start,
                nodesplitter=webdataset.split_by_node,
                empty_check=False,
            )
            .compose(pairs)
            .shuffle(SHUFFLE_BUFFER, rng=random.Random(self._start))
            .map(read)
            .batched(self._layout.batch, collation_fn=as_list)
        )
        workers = self._layout.workers
        loader = webdataset.WebLoader(
            dataset, batch_size=None, num_workers=workers, collate_fn=as_list
        )
        return iter(loader)


class Published(Loader):
    """The published way: a folder of images, and one JSON of all pairs in memory."""

    keeps_position = False

    @staticmethod
    def write(folder: Path, sources: Sources) -> None:
        shards = ShardSet.open(sources.images)
        reader = ShardReader(shards)
        samples = (
            (stored.sample, bytes(reader.image(stored.shard, stored.row).content))
            for stored in reader.samples("train")
        )
        published_loader.write(folder, samples)

    def batches(self) -> Iterator[Any]:
        dataset: Dataset[Any]
        if isinstance(self._transform, Decode):
            dataset = published_loader.PublishedDataset(self._folder, self._transform.tokenizer)
        else:
            dataset = _UndecodedPairs(self._folder, self._transform)
        layout = self._layout
        sampler = DistributedSampler(dataset, layout.ranks, layout.rank, seed=self._start)
        return iter(
            DataLoader(
                dataset,
                batch_size=layout.batch,
                sampler=sampler,
                num_workers=layout.workers,
                collate_fn=as_list,
            )
        )


class _UndecodedPairs(Dataset[Any]):
    """The pairs of the published way, with the bytes of their image files."""

    def __init__(self, folder: Path, transform: Transform) -> None:
        self._images = folder / "images"
        self._transform = transform
        with redirect_stdout(io.StringIO()):
            self._coco = COCO(str(folder / "pairs.json"))
        self._ids = sorted(self._coco.imgs)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, item: int) -> Any:
        id_ = self._ids[item]
        regions = self._coco.loadAnns(self._coco.getAnnIds(id_))
        [row] = self._coco.loadImgs(id_)
        image = memoryview((self._images / row["file_name"]).read_bytes())
        pair = Pair(row["file_name"], id_, row["width"], row["height"], image, regions)
        return self._transform(pair, np.random.default_rng(0))


def as_list(items: list[Any]) -> list[Any]:
    """Returns a batch as it is."""
    return items


def as_column(items: list[Any]) -> list[list[Any]]:
    """Returns a batch as its only column, since MosaicML counts the items of the first one."""
    return [items]


LOADERS: dict[str, type[Loader]] = {
    "this stream": Ours,
    "LitData": LitData,
    "MosaicML Streaming": MosaicML,
    "Megatron-Energon": Energon,
    "HF datasets": HuggingFace,
    "Grain": Grain,
    "webdataset": WebDataset,
    "published": Published,
}
