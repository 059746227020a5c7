"""Checks before a build starts, and the command."""

import os
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from pipelines import launch
from pipelines.beam.runners import RunnerError, select_runner
from pipelines.build import main
from pipelines.captions import arc_eager, parsing
from pipelines.launch import BuildFailedError, BusyError, run
from pipelines.recipe import load
from schemas.toml_config import parse_override
from shards.format import manifest as mf
from tests import tiny


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    graphs = [tiny.vg_graph(1, tiny.vg_region(1, "a red cat"))]
    vg = tiny.write_vg(tmp_path, [tiny.vg_image(1)], graphs)
    return str(tiny.write_recipe(tmp_path / "recipe.toml", sources={"vg": vg}))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--direct_running_mode=multi_threading", "silently loses elements"),
        ("--runner=DaskRunner", "DaskRunner silently drops the outputs"),
        ("--runner=apache_beam.runners.dask.dask_runner.DaskRunner", "DaskRunner silently drops"),
        ("--runner=dask", "DaskRunner silently drops"),
        ("--outptu=x", "unknown options: --outptu"),
        ("--strickt", "unknown options: --strickt"),
        ("--runner=nonsense", "Unexpected pipeline runner: nonsense"),
        ("--runner=PortableRunner", "needs a job server: --job_endpoint=HOST:PORT"),
    ],
)
def test_options_that_lose_data_or_are_unknown_are_refused(
    tmp_path: Path, recipe: str, option: str, message: str
) -> None:
    output = tmp_path / "shards"
    with pytest.raises(RunnerError, match=message):
        run(recipe, str(output), str(tmp_path), [option])
    assert not output.exists()


@pytest.mark.parametrize("place", ["s4://bucket/shards", "abfs://bucket/shards"])
def test_output_of_unknown_scheme_is_refused(tmp_path: Path, recipe: str, place: str) -> None:
    with pytest.raises(BuildFailedError, match=f"cannot write to {place}: "):
        run(recipe, place, str(tmp_path), [])


def test_root_of_unknown_scheme_is_refused(tmp_path: Path, recipe: str) -> None:
    with pytest.raises(BuildFailedError, match=r"s4://bucket.*Protocol not known"):
        run(recipe, str(tmp_path / "shards"), "s4://bucket", [])


@pytest.mark.parametrize(
    ("key", "message"),
    [("unknown", "EndpointConnectionError"), (None, "NoCredentialsError")],
    ids=["no connection", "no credentials"],
)
def test_unreachable_store_is_refused_with_its_error(
    tmp_path: Path,
    recipe: str,
    key: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in [name for name in os.environ if name.startswith(("AWS_CONT", "AWS_PROF"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if key:
            monkeypatch.setenv(name, key)
        else:
            monkeypatch.delenv(name, raising=False)
    S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(BuildFailedError, match=rf"^s3://raw/.*: {message}: "):
            run(recipe, str(tmp_path / "shards"), "s3://raw", [])
    finally:
        S3FileSystem.clear_instance_cache()


def test_root_with_too_long_a_name_is_refused(tmp_path: Path, recipe: str) -> None:
    with pytest.raises(BuildFailedError, match=r"OSError: .* name too long"):
        run(recipe, str(tmp_path / "shards"), f"/{'a' * 300}", [])


def test_wrong_recipe_is_refused_before_any_work(tmp_path: Path, recipe: str) -> None:
    (tmp_path / "vg/image_data.json").unlink()
    output = tmp_path / "shards"
    with pytest.raises(BuildFailedError, match=r"there is no .*image_data\.json"):
        run(recipe, str(output), str(tmp_path), [])
    with pytest.raises(BuildFailedError, match="no recipe nowhere"):
        run("nowhere", str(output), str(tmp_path), [])
    assert not output.exists()


def test_output_that_cannot_be_written_is_refused(tmp_path: Path, recipe: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildFailedError, match=r"cannot write to .*file/shards"):
        run(recipe, f"{tmp_path}/file/shards", str(tmp_path), [])
    with pytest.raises(BuildFailedError, match=r"cannot write to .*file"):
        run(recipe, f"{tmp_path}/file", str(tmp_path), [])
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / ".mdetr-build").write_text("")  # where a folder must be made
    with pytest.raises(BuildFailedError, match=r"blocked has files that no build wrote, .*-build"):
        run(recipe, str(blocked), str(tmp_path), [])


def test_finished_set_is_replaced_only_with_overwrite_manifest_first(
    tmp_path: Path, recipe: str, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "shards"
    arguments = [recipe, f"--root={tmp_path}", f"--output={output}/"]
    arguments += ["--direct_running_mode=in_memory"]
    assert main(arguments) == 0
    # The summary table counts one region and one image.
    table = capfd.readouterr().out
    assert table.splitlines()[1].split() == ["vg", "1", "1", "0", "0", "0", "0"]
    before = {p.name: p.read_bytes() for p in output.iterdir() if p.is_file()}
    assert "manifest.json" in before
    assert {p.name for p in output.iterdir()} == before.keys()

    other = [*arguments, "--quiet", "--set", "splits.train.shards=2"]
    assert main(other) == 1
    error = capfd.readouterr().err
    assert (
        error == f"mdetr-build: error: {output} is a finished shard set; --overwrite replaces it\n"
    )
    assert {p.name: p.read_bytes() for p in output.iterdir()} == before

    (output / "train-00007-of-00009.tar").write_bytes(b"of the user")
    assert main([*other, "--overwrite"]) == 0
    assert (output / "train-00001-of-00002.tar").exists()
    assert main([*arguments, "--quiet", "--overwrite"]) == 0
    after = {p.name: p.read_bytes() for p in output.iterdir()}
    assert after == before | {"train-00007-of-00009.tar": b"of the user"}
    assert capfd.readouterr().out == ""

    # A build that fails leaves no manifest of another build beside its own unfinished files.
    (tmp_path / "vg/region_graphs.json").write_bytes(b"[")
    assert main([*arguments, "--quiet", "--overwrite"]) == 1
    assert not (output / "manifest.json").exists()


def test_parser_that_computes_other_parses_than_spacys_is_an_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = [tiny.vg_graph(1, tiny.vg_region(1, "a walrus that no other test has parsed"))]
    vg = tiny.write_vg(tmp_path, [tiny.vg_image(1)], graphs)
    recipe = str(tiny.write_recipe(tmp_path / "recipe.toml", sources={"vg": vg}))
    sums = arc_eager.ArcEager._sums
    monkeypatch.setattr(arc_eager.ArcEager, "_sums", lambda *args: sums(*args)[::-1])
    monkeypatch.setattr(parsing, "_loaded_model", parsing._Model)
    arguments = [recipe, f"--root={tmp_path}", f"--output={tmp_path / 'shards'}"]
    assert main([*arguments, "--quiet", "--direct_running_mode=in_memory"]) == 1
    [error] = [line for line in capsys.readouterr().err.splitlines() if "warning: " not in line]
    assert error.startswith("mdetr-build: error: numpy computes another parse than spaCy for ")


def test_list_prints_the_shipped_recipes_without_their_bases(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert "mdetr_pretrain" in names and "_eval_sets" not in names


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["demo"],
        ["--output=x"],
        ["demo", "--output=x", "--set=name"],
        ["demo", "--output=x", "--outptu=y"],
        ["demo", "refcoco", "--output=x"],
    ],
)
def test_usage_errors_have_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("mdetr-build: error: ")


def test_interrupted_build_has_status_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run", interrupt)
    assert main(["demo", "--output=x"]) == 130
    assert capsys.readouterr().err == "mdetr-build: interrupted\n"


def test_overrides_are_in_the_manifest(tmp_path: Path, recipe: str) -> None:
    options = [f"--root={tmp_path}", f"--output={tmp_path}/shards", "--quiet"]
    options += ["--set", "salt=x", "--set", "images=none", "--direct_running_mode=in_memory"]
    assert main([recipe, *options]) == 0
    manifest = mf.load(tmp_path / "shards")
    assert (manifest.recipe["salt"], manifest.recipe["images"]) == ("x", "none")
    overrides = [parse_override("salt=x"), parse_override("images=none")]
    assert manifest.recipe_sha256 == load(recipe, overrides=overrides).sha256()


def test_second_build_into_one_folder_is_refused(tmp_path: Path, recipe: str) -> None:
    output = tmp_path / "shards"
    with (
        launch._lock(str(output), select_runner([]), detach=False),
        pytest.raises(BusyError, match="another build is writing"),
    ):
        run(recipe, str(output), str(tmp_path), [], quiet=True)
    run(recipe, str(output), str(tmp_path), ["--direct_running_mode=in_memory"], quiet=True)
    assert (output / "manifest.json").exists()
