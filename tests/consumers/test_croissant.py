"""mlcroissant validates an export for Croissant, and reads what is in the shards."""

import hashlib
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas import Caption, Provenance, Region, Sample
from shards.__main__ import main as shards
from shards.format import manifest as mf
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet
from tests.processes import run
from tests.shard_sets import write_shard_set

REQUESTED = {
    "dataBiases": ["Most photos are of few countries."],
    "dataUseCases": ["Training of detectors."],
    "dataSocialImpact": "none known",
    "personalSensitiveInformation": ["Photos show people."],
    "dataReleaseMaintenancePlan": "no later versions",
}


def export(shard_set: Path, out: Path, *options: str) -> Path:
    assert shards(["export", "croissant", str(shard_set), "--output", str(out), *options]) == 0
    return out / "croissant.json"


def read(file: Path, record_set: str, folder: Path) -> dict[str, Any]:
    """Returns what mlcroissant reads; its cache is below ``folder``."""
    result = folder / "result.json"
    cache = {"CROISSANT_CACHE": str(folder / "cache")}
    program = [sys.executable, "-m", "tests.consumers.read_croissant", result, file, record_set]
    run(program, env=cache, timeout=300, check=True)
    content: dict[str, Any] = json.loads(result.read_bytes())
    return content


def samples(shard_set: Path, split: str) -> list[Sample]:
    return [stored.sample for stored in ShardReader(ShardSet.open(shard_set)).samples(split)]


def as_caption(record: dict[str, Any]) -> Caption:
    """Returns a record as a caption of a sample; spans and boxes are tuples there."""

    def spans(values: list[list[int]]) -> list[tuple[int, int]]:
        return [(begin, end) for begin, end in values]

    regions = [
        Region(spans(tokens), tuple(box), None if math.isnan(area) else area, category, crowd)
        for tokens, box, area, category, crowd in zip(
            *(record[name] for name in ("tokens_positive", "boxes", "areas", "categories")),
            record["crowds"],
            strict=True,
        )
    ]
    provenance = [
        Provenance(dataset, raw_record, span)
        for dataset, raw_record, span in zip(
            record["datasets"], record["records"], spans(record["sentence_spans"]), strict=True
        )
    ]
    return Caption(record["text"], regions, spans(record["tokens_negative"]), provenance)


@pytest.fixture(scope="module")
def exported(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(demo_set, tmp_path_factory.mktemp("croissant") / "out")


def test_all_captions_are_read_and_equal_the_reader_s(
    exported: Path, demo_set: Path, tmp_path: Path
) -> None:
    content = read(exported, "captions", tmp_path)
    assert content["errors"] == []
    records = iter(content["records"])
    names = [entry.name for entry in mf.load(demo_set).licenses]
    opened = ShardSet.open(demo_set)
    for split in dict.fromkeys(entry.split for entry in opened.shards):
        rows = [row for shard in opened.shards_of(split) for row in opened.index_rows(shard)]
        for sample, row in zip(samples(demo_set, split), rows, strict=True):
            for index, caption in enumerate(sample.captions):
                record = next(records)
                assert (record["split"], record["image"], record["index"]) == (
                    split,
                    sample.key,
                    index,
                )
                assert (record["width"], record["height"]) == (sample.width, sample.height)
                assert record["licenses"] == [names[id_] for id_ in row.licenses]
                assert record["url"] == row.url
                theirs = as_caption(record)
                assert theirs.text == caption.text
                assert theirs.regions == caption.regions
                assert theirs.tokens_negative == caption.tokens_negative
                assert theirs.provenance == caption.provenance
                question = caption.question
                assert record["question_id"] == (question.id if question else "")
                assert record["answer"] == ((question.answer or "") if question else "")
    assert list(records) == []


def test_all_images_are_read_from_the_tars(exported: Path, demo_set: Path, tmp_path: Path) -> None:
    content = read(exported, "images", tmp_path)
    expected = [
        (sample.key, [sample.width, sample.height])
        for split in ("train", "val", "test")
        for sample in samples(demo_set, split)
    ]
    assert len(expected) > 100
    records = [(record["key"], record["content"]) for record in content["records"]]
    assert sorted(records) == sorted(expected)


def test_metadata_states_files_licenses_and_what_the_manifest_counts(
    exported: Path, demo_set: Path
) -> None:
    metadata, manifest = json.loads(exported.read_bytes()), mf.load(demo_set)
    assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    files = {f["name"]: f for f in metadata["distribution"] if f["@type"] == "cr:FileObject"}
    assert files.keys() == {"captions.parquet", *(entry.file for entry in manifest.shards)}
    for name, stated in files.items():
        content = (exported.parent / stated["contentUrl"]).read_bytes()
        assert stated["contentSize"] == f"{len(content)} B", name
        assert stated["sha256"] == hashlib.sha256(content).hexdigest()
    licenses = [(each["name"], each.get("url", "")) for each in metadata["license"]]
    assert licenses == [
        *((entry.name, entry.url) for entry in manifest.licenses if entry.id and entry.images),
        ("unknown", ""),  # the terms of the synthetic dataset
    ]
    assert metadata["version"] == f"0.0.0+{manifest.recipe_sha256[:16]}"
    protocol = " ".join(metadata["rai:dataPreprocessingProtocol"])
    for name, counts in manifest.sources.items():
        assert f"{name}: of {counts.read} captions, {counts.in_shards} are" in protocol
    for name, exclusion in manifest.exclusions.items():
        assert f"Evaluation set {name} names {exclusion.named} images" in protocol
    [unknown] = [entry.images for entry in manifest.licenses if entry.id == 0]
    assert f"license of {unknown} images" in str(metadata["rai:dataLimitations"])
    # What no manifest states is not made up.
    assert not {f"rai:{name}" for name in REQUESTED} & metadata.keys()
    assert not {"citeAs", "datePublished", "isAccessibleForFree"} & metadata.keys()


@pytest.mark.parametrize("form", ["toml", "json"])
def test_statements_of_a_file_are_added(form: str, tmp_path: Path) -> None:
    made = write_shard_set(tmp_path / "shards", [[2, 1], [3]])
    statements = {
        "name": "my set",
        "url": "https://example.org/set",
        "version": "1.2.0",
        "citeAs": "Author, A set, 2026",
        "isAccessibleForFree": True,
        "creator": [{"name": "A. Author", "url": "https://example.org/a"}],
        "datePublished": "2026-05-01",
        "rai": REQUESTED,
    }
    file = tmp_path / f"statements.{form}"
    if form == "json":
        file.write_text(json.dumps(statements))
    else:
        creator = 'creator = [{ name = "A. Author", url = "https://example.org/a" }]\n'
        rai = "".join(f"{name} = {json.dumps(value)}\n" for name, value in REQUESTED.items())
        top = "".join(
            f"{name} = {json.dumps(statements[name])}\n"
            for name in ("name", "url", "version", "citeAs", "isAccessibleForFree")
        )
        file.write_text(f"{top}datePublished = 2026-05-01\n{creator}[rai]\n{rai}")
    out = export(made, tmp_path / "out", "--statements", str(file))
    metadata = json.loads(out.read_bytes())
    for name, value in REQUESTED.items():
        assert metadata[f"rai:{name}"] in (value, value[0])
    assert metadata["name"] == "my-set"
    assert [metadata[name] for name in ("url", "version", "citeAs", "isAccessibleForFree")] == [
        statements[name] for name in ("url", "version", "citeAs", "isAccessibleForFree")
    ]
    assert metadata["datePublished"].startswith("2026-05-01")
    assert metadata["creator"]["name"] == "A. Author"
    content = read(out, "captions", tmp_path)
    assert (content["errors"], len(content["records"])) == ([], 6)
    assert not [w for w in content["warnings"] if "license" not in w]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("citeas = 3\n", "unknown field `citeas`"),
        ("citeAs = 3\n", "Expected `str`, got `int`"),
        ("[rai]\ndataBias = []\n", "unknown field `dataBias`"),
        ("= 3", "statements.toml"),
        ('contentUrl = "s3://bucket/shards"', "contentUrl"),
        ('version = "one"\n', "matching regex"),
        ("datePublished = 3\n", "Expected `date | null`"),
    ],
)
def test_statements_that_are_wrong_are_refused(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_shard_set(tmp_path / "shards", [[1]])
    (tmp_path / "statements.toml").write_text(content)
    out = ["--output", str(tmp_path / "out"), "--statements", str(tmp_path / "statements.toml")]
    assert shards(["export", "croissant", str(made), *out]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_sets_with_tars_of_one_name_do_not_share_mlcroissant_s_cache(tmp_path: Path) -> None:
    for number, images in enumerate(([[1, 1]], [[1, 1, 1]])):
        made = write_shard_set(tmp_path / f"shards{number}", images, images=False)
        assert not mf.load(made).recipe
    first = write_shard_set(tmp_path / "a", [[1, 1]])
    second = write_shard_set(tmp_path / "b", [[1, 1, 1]])
    urls = [
        {f["contentUrl"] for f in json.loads(export(s, s / "out").read_bytes())["distribution"][:1]}
        for s in (first, second)
    ]
    assert urls[0].isdisjoint(urls[1])


def test_tars_of_a_remote_set_need_a_public_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # which has the cache of remote sets
    made = write_shard_set(tmp_path / "shards", [[2, 1], [3]])
    out = tmp_path / "out"
    arguments = ["export", "croissant", f"file://{made}/", "--output", str(out)]
    assert shards(arguments) == 1
    error = capsys.readouterr().err
    assert f"cannot download tars from file://{made}" in error
    assert 'contentUrl = "https://..."' in error
    assert not out.exists()
    statements = tmp_path / "statements.toml"
    statements.write_text('contentUrl = "https://example.org/shards/"')
    for where in (arguments[2], str(made)):
        assert shards([*arguments[:2], where, *arguments[3:], "--statements", str(statements)]) == 0
        assert sorted(path.name for path in out.iterdir()) == ["captions.parquet", "croissant.json"]
        tars = json.loads((out / "croissant.json").read_bytes())["distribution"][:2]
        assert [tar["contentUrl"] for tar in tars] == [
            f"https://example.org/shards/{tar['name']}" for tar in tars
        ]
        shutil.rmtree(out)
    without = write_shard_set(tmp_path / "without", [[2]], images=False)
    assert shards([*arguments[:2], f"file://{without}/", *arguments[3:]]) == 0


def test_set_without_images_has_captions_only(tmp_path: Path) -> None:
    made = write_shard_set(tmp_path / "shards", [[2, 1], [3]], images=False)
    file = export(made, tmp_path / "out")
    assert [each["name"] for each in json.loads(file.read_bytes())["recordSet"]] == [
        "splits",
        "captions",
    ]
    assert len(read(file, "captions", tmp_path)["records"]) == 6


@pytest.mark.parametrize("option", ["--with-images", "--no-coco"])
def test_images_are_neither_unpacked_nor_left_out(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_shard_set(tmp_path / "shards", [[1]])
    out = ["--output", str(tmp_path / "out")]
    assert shards(["export", "croissant", str(made), *out, option]) == 1
    assert "the tars as they are" in capsys.readouterr().err


def test_other_formats_refuse_statements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_shard_set(tmp_path / "shards", [[1]])
    (tmp_path / "statements.toml").write_text("")
    out = ["--output", str(tmp_path / "out"), "--statements", str(tmp_path / "statements.toml")]
    assert shards(["export", "coco", str(made), *out]) == 1
    assert "--statements is for croissant" in capsys.readouterr().err


def test_library_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_shard_set(tmp_path / "shards", [[1]])
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    monkeypatch.delitem(sys.modules, "shards.export.croissant", raising=False)
    assert shards(["export", "croissant", str(made), "--output", str(tmp_path / "out")]) == 1
    assert 'pip install ".[croissant]"' in capsys.readouterr().err
