"""Beam's portable job server with two workers, where Beam ignores the option and starts one.

python -m tests.portable_job_server --port=PORT --staging_dir=FOLDER
"""

import sys
from typing import Any

from apache_beam.runners.portability import local_job_service_main
from apache_beam.runners.portability.fn_api_runner import fn_runner


class _TwoWorkers(fn_runner.FnApiRunner):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._num_workers = 2


if __name__ == "__main__":
    fn_runner.FnApiRunner = _TwoWorkers
    local_job_service_main.run(sys.argv[1:])
