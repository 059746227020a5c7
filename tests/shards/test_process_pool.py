import pytest

from shards.process_pool import process_pool


def test_results_are_those_of_the_function() -> None:
    with process_pool(2) as pool:
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]


def test_error_of_an_interrupted_executor_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), process_pool(2):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("cannot join thread before it is started")


def test_other_errors_are_raised_as_they_are() -> None:
    with pytest.raises(ValueError, match="of the block"), process_pool(2):
        try:
            raise KeyError("handled")
        except KeyError:
            raise ValueError("of the block") from None
