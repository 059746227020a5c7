"""Records with numbers and ids in the spellings of other programs."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.io.json_records import (
    BadRecord,
    Category,
    Id,
    ImageId,
    convert_record,
    decode_dict,
    decode_list,
    decode_record,
)


class _Box(msgspec.Struct):
    id: Id
    label: Category = 0


class _Record(msgspec.Struct):
    image: ImageId = msgspec.field(name="image_id")
    other: Id | None = None
    size: int | str = 0
    name: str = ""
    boxes: list[_Box] = []
    by_name: dict[str, _Box] = {}
    raw: msgspec.Raw = msgspec.Raw(b"null")


GOOD = {"image_id": 3, "other": 5, "size": 640, "name": "7", "boxes": [{"id": 8, "label": 2}]}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"image_id": 3.0},
        {"image_id": "3"},
        {"image_id": "000003"},
        {"image_id": "3.0", "other": "5.0"},
        {"size": 640.0},
        {"boxes": [{"id": 8.0, "label": 2.0}]},
        {"boxes": [{"id": "8", "label": 2}]},
    ],
)
def test_whole_floats_are_integers_and_digits_are_ids(fields: dict[str, Any]) -> None:
    content = json.dumps([GOOD | fields, {"image_id": 9}]).encode()
    records, bad = decode_list(content, _Record)
    assert not bad
    assert records == decode_list(json.dumps([GOOD, {"image_id": 9}]).encode(), _Record)[0]
    by_key, bad = decode_dict(json.dumps({"a": GOOD | fields}).encode(), _Record)
    assert (by_key, bad) == ({"a": records[0]}, [])


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"image_id": 3.5}, "Expected `int`, got `float` - at `$.image_id`"),
        ({"image_id": 0.0}, "Expected `int`, got `float` - at `$.image_id`"),
        ({"image_id": 0}, "Expected `int` >= 1 - at `$.image_id`"),
        ({"image_id": "-3"}, "Expected `int`, got `str` - at `$.image_id`"),
        ({"image_id": "x"}, "Expected `int`, got `str` - at `$.image_id`"),
        ({"image_id": ""}, "Expected `int`, got `str` - at `$.image_id`"),
        ({"image_id": None}, "Expected `int`, got `null` - at `$.image_id`"),
        ({"image_id": True}, "Expected `int`, got `bool` - at `$.image_id`"),
        ({"image_id": 1e300}, "Expected `int`, got `float` - at `$.image_id`"),
        ({"boxes": [{"id": 1, "label": "2"}]}, "Expected `int`, got `str` - at `$.boxes[0].label`"),
        ({"name": 7.0}, "Expected `str`, got `float` - at `$.name`"),
    ],
)
def test_other_values_are_bad_records(fields: dict[str, Any], error: str) -> None:
    content = json.dumps([GOOD | fields, GOOD]).encode()
    records, bad = decode_list(content, _Record)
    assert (len(records), bad) == (1, [BadRecord("0", error)])


def test_raw_values_and_dicts_keep_what_they_hold() -> None:
    content = b'[{"image_id": 3.0, "raw": [1.0, "2"], "by_name": {"a": {"id": 4.0}}}]'
    [record], _ = decode_list(content, _Record)
    assert bytes(record.raw) == b'[1.0, "2"]'
    assert record.by_name == {"a": _Box(4)}


@pytest.mark.parametrize(("value", "expected"), [(None, None), ("", None), (-1, -1), (0.0, 0)])
def test_missing_id_of_another_dataset(value: Any, expected: int | None) -> None:
    [record], bad = decode_list(json.dumps([{"image_id": 1.0, "other": value}]).encode(), _Record)
    assert (record.other, bad) == (expected, [])


def test_records_of_pickles_have_the_same_spellings() -> None:
    assert convert_record({"id": 7.0, "label": 2.0}, _Box) == _Box(7, 2)
    assert convert_record({"id": "7"}, _Box) == _Box(7)
    assert convert_record([{"id": "000000000007"}], list[_Box]) == [_Box(7)]
    for value in ({"id": 7.5}, {"id": "x"}, {"id": None}, 3):
        with pytest.raises(msgspec.ValidationError):
            convert_record(value, _Box)


_spelled = st.one_of(
    st.integers(-2, 12),
    st.sampled_from([7.0, 7.5, -1.0, 0.0, "7", "007", "7.0", "-1", "x", "", None, True]),
)


@given(id_=_spelled, image_id=_spelled, other=_spelled, label=_spelled)
def test_pickles_and_json_give_the_same_records(
    id_: Any, image_id: Any, other: Any, label: Any
) -> None:
    box = {"id": id_, "label": label}
    value = {"image_id": image_id, "other": other, "boxes": [box], "by_name": {"a": box}}
    from_json: list[_Record] = []
    from_pickle: list[_Record] = []
    with contextlib.suppress(msgspec.ValidationError):
        from_json.append(decode_record(json.dumps(value).encode(), _Record))
    with contextlib.suppress(msgspec.ValidationError):
        from_pickle.append(convert_record(value, _Record))
    assert from_json == from_pickle
