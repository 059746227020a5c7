"""Files that are read as a whole: pickles and JSON, distinguished by their content."""

import json
import pickle
from pathlib import Path

import pytest

from pipelines.io import plain_data
from pipelines.io.raw_files import RawFileError
from tests import tiny

ROWS = [{"ann_id": 1, "sentences": [{"sent": "left man, café"}]}]


@pytest.mark.parametrize("name", ["refs(unc).p", "refs(unc).json", "refs"])
@pytest.mark.parametrize("zipped", [False, True])
def test_pickle_and_json_are_read_under_any_name(tmp_path: Path, name: str, zipped: bool) -> None:
    text = json.dumps(ROWS, ensure_ascii=False).encode()
    contents = [pickle.dumps(ROWS, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for content in [*contents, text, b"\xef\xbb\xbf \r\n" + text]:
        path = tiny.write(tmp_path / name, content)
        if zipped:
            path = tiny.write_zip(
                tmp_path / f"{name}.zip", {name if "." in name else "refs.json": content}
            )
        assert plain_data.load(str(path)) == ROWS


@pytest.mark.parametrize("content", [b"[1, 2", b"{]", b'["\xff"]', b"[" * 10**6])
def test_malformed_json_is_an_error_with_the_name_of_the_file(
    tmp_path: Path, content: bytes
) -> None:
    path = tiny.write(tmp_path / "refs.json", content)
    with pytest.raises(RawFileError, match=r"refs\.json: expected JSON"):
        plain_data.load(str(path))


def test_too_many_lists_or_bytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.write(tmp_path / "refs.json", b"[[], {}, [], {}]")
    assert plain_data.load(str(path)) == [[], {}, [], {}]
    monkeypatch.setattr(plain_data, "MAX_CONTAINERS", 4)
    with pytest.raises(RawFileError, match="5 lists and dicts, more than 4"):
        plain_data.load(str(path))
    monkeypatch.setattr(plain_data, "MAX_WHOLE_FILE_BYTES", 10)
    with pytest.raises(RawFileError, match="more than 10 bytes"):
        plain_data.load(str(path))
