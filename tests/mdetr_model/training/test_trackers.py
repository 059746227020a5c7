import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from mdetr_model.training.trackers import start_trackers


def test_offline_run_of_wandb_has_values_configuration_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tracker,) = start_trackers(["wandb"], "boxes", tmp_path, {"optimizer": {"lr": 0.5}})
    tracker.log({"train/loss": 1.5}, step=3)
    tracker.finish()
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    records = read_records(path)
    (run,) = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.display_name) == ("boxes", tmp_path.name)
    assert '{"lr":0.5}' in [item.value_json.replace(" ", "") for item in run.config.update]
    (history,) = [record.history for record in records if record.HasField("history")]
    values = {item.key or "/".join(item.nested_key): item.value_json for item in history.item}
    assert (values["_step"], values["train/loss"]) == ("3", "1.5")


def read_records(path: Path) -> list[Record]:
    """Reads a file of fewer than 32 kB: a header, then records in the log format of LevelDB."""
    content, position, records = path.read_bytes(), 7, []
    while position < len(content):
        _, length, kind = struct.unpack_from("<IHB", content, position)
        assert kind == 1  # a whole record
        position += 7
        records.append(Record.FromString(content[position : position + length]))
        position += length
    return records


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ValueError, match="trackio, which is not installed: pip install trackio"):
        start_trackers(["trackio"], "boxes", tmp_path, {})


def test_tracker_that_does_not_start_is_named(tmp_path: Path) -> None:
    """Weights & Biases reads its environment once, so this is another process."""
    start = f"start_trackers(['wandb'], 'boxes', Path({str(tmp_path)!r}), {{}})"
    code = f"from pathlib import Path; from {start_trackers.__module__} import *; {start}"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "WANDB_MODE": "sideways"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ValueError: the tracker wandb does not start: " in result.stderr
