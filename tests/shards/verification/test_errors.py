"""The log of errors counts all, lists the first, and is printed."""

from collections import Counter

from shards.verification.errors import (
    MAX_LISTED,
    ErrorKind,
    ErrorLog,
    VerificationError,
    guarded,
)
from shards.verification.result import VerificationResult


def errors(number: int, kind: ErrorKind = ErrorKind.BOX) -> list[VerificationError]:
    return [VerificationError(kind, str(i)) for i in range(number)]


def test_error_is_located_by_file_image_and_caption() -> None:
    error = VerificationError(ErrorKind.BOX, "too\nlarge")
    assert str(error) == r"box: too\nlarge"
    assert str(error._replace(file="train.tar")) == r"train.tar: box: too\nlarge"
    located = error._replace(file="train.tar", key="coco/7")
    assert str(located) == r"train.tar: coco/7: box: too\nlarge"
    assert str(located._replace(caption=0)) == r"train.tar: coco/7, caption 0: box: too\nlarge"


def test_all_errors_are_counted_and_the_first_listed() -> None:
    log = ErrorLog(errors(MAX_LISTED - 1))
    log.add(errors(3, ErrorKind.AREA))
    assert log.counts == {ErrorKind.BOX: MAX_LISTED - 1, ErrorKind.AREA: 3}
    assert log.listed == [*errors(MAX_LISTED - 1), *errors(1, ErrorKind.AREA)]


def test_logs_are_merged_in_order() -> None:
    log = ErrorLog(errors(2))
    log.merge(ErrorLog(errors(MAX_LISTED, ErrorKind.AREA)))
    log.merge(ErrorLog(errors(1)))
    assert log.counts == {ErrorKind.BOX: 3, ErrorKind.AREA: MAX_LISTED}
    assert log.listed == [*errors(2), *errors(MAX_LISTED - 2, ErrorKind.AREA)]


def test_check_that_fails_is_an_error() -> None:
    """What it found before is kept."""

    def check():  # type: ignore[no-untyped-def]
        yield VerificationError(ErrorKind.BOX, "a box")
        raise RecursionError("too deep")

    first, last = guarded(check())
    assert first.message == "a box"
    assert (last.kind, last.message) == (ErrorKind.CHECK, "check: RecursionError: too deep")


def test_result_without_errors_is_two_lines() -> None:
    checked = Counter({"files": 1, "images": 2, "captions": 1_234, "regions": 0})
    result = VerificationResult(ErrorLog(), checked, ["pixels\n"])
    assert list(result.lines()) == [
        "not checked: pixels\\n",
        "checked 1 file, 2 images, 1,234 captions, 0 regions, 0 held-out ids: no errors",
    ]


def test_result_lists_errors_and_counts_them_by_kind() -> None:
    listed = ErrorLog([*errors(1, ErrorKind.AREA), *errors(2)])
    lines = list(VerificationResult(listed, Counter(), []).lines())
    assert lines[:4] == ["area: 0", "box: 0", "box: 1", ""]
    assert lines[4:6] == [f"{'box':50}{2:12}", f"{'area':50}{1:12}"]
    assert lines[6] == ""
    assert lines[7].endswith(": 3 errors")
    assert len(lines) == 8


def test_result_states_how_many_errors_are_not_listed() -> None:
    result = VerificationResult(ErrorLog(errors(MAX_LISTED)), Counter(), [])
    assert "" in list(result.lines())[MAX_LISTED]
    result = VerificationResult(ErrorLog(errors(MAX_LISTED + 1_200)), Counter(), [])
    lines = list(result.lines())
    assert lines[MAX_LISTED - 1 : MAX_LISTED + 1] == ["box: 99", "and 1,200 more"]
    assert lines[-1].endswith(": 1,300 errors")
