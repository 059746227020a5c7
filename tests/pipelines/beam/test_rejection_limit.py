"""When a build fails for its rejected rows, and what its message names first."""

import pytest

from pipelines.beam.reading import RejectedRows
from pipelines.beam.rejection_limit import RejectionLimit
from schemas import Rejected
from shards.format.source_counts import Counts, SourceCounts


def limit(share: float, read: int, rejected: int) -> RejectionLimit:
    return RejectionLimit(share, {"vg": SourceCounts(read=read, rejected=rejected)})


@pytest.mark.parametrize(
    ("rejected", "more", "is_exceeded"), [(1, 0, False), (2, 0, True), (1, 1, True), (0, 1, False)]
)
def test_limit_counts_rows_of_reading_and_those_after_it(
    rejected: int, more: int, is_exceeded: bool
) -> None:
    checked = limit(0.1, 10, rejected)
    assert checked.is_exceeded("vg", more) == is_exceeded
    assert checked.first_exceeded() == ("vg" if rejected == 2 else None)


def test_row_of_a_table_is_named_before_the_captions_that_need_it() -> None:
    rows = RejectedRows(
        of_tables=[
            Rejected("vg", record, "malformed record", "image_data.json: no id", records=0)
            for record in ("10", "9")
        ],
        others=[Rejected("vg", "vg/1", "unknown image", records=6)],
    )
    message = limit(0.01, 6, 6).message("vg", rows, "OUT/rejected.parquet")
    assert message.startswith("image_data.json: malformed record 9: no id (2 such rows), and there")
    assert "6 of 6 captions of vg were rejected" in message
    assert message.endswith("OUT/rejected.parquet has the rejected rows")


def test_row_of_an_object_is_named_before_the_captions_that_refer_to_it() -> None:
    rows = RejectedRows(
        others=[
            Rejected("vg", "7", "duplicate id", "object: the first one was kept", records=0),
            Rejected("vg", "8", "no usable box", "None", records=0),
            Rejected("coco", "1", "no usable box", "", records=0),
            Rejected("vg", "vg/5", "unknown object", "8", boxes=1),
        ]
    )
    message = limit(0.01, 1, 1).message("vg", rows, "FILE")
    assert message.startswith("8: no usable box None (1 such rows), and therefore 1 of 1 captions")


def test_lost_boxes_are_warned_of() -> None:
    counts = {"vg": SourceCounts(read=9, boxes=Counts(read=10, rejected=2))}
    [warning] = limit(0.1, 9, 0).warnings(counts)
    assert warning.startswith("2 of 10 boxes of vg were rejected")
    assert limit(0.2, 9, 0).warnings(counts) == []
