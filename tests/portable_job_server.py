"""Beam's portable job server with two workers, where Beam ignores the option and starts one.

    python -m tests.portable_job_server --port=PORT --staging_dir=FOLDER --orders=FOLDER

Orders are files of a folder, and hold while they exist. ``hold-jobs``: jobs are running, and do
nothing. ``hold-answers``: who submits a job gets no answer; ``held`` then has the job's id.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from apache_beam.runners.portability import local_job_service, local_job_service_main
from apache_beam.runners.portability.fn_api_runner import fn_runner


class _Runner(fn_runner.FnApiRunner):
    orders: Path

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._num_workers = 2

    def run_via_runner_api(self, *arguments: Any) -> Any:
        while (self.orders / "hold-jobs").exists():
            time.sleep(0.05)
        return super().run_via_runner_api(*arguments)


class _Servicer(local_job_service.LocalJobServicer):
    orders: Path

    def Run(self, request: Any, context: Any = None) -> Any:  # noqa: N802
        answer = super().Run(request, context)
        while (self.orders / "hold-answers").exists():
            (self.orders / "held.new").write_text(answer.job_id)
            (self.orders / "held.new").rename(self.orders / "held")
            time.sleep(0.05)
        return answer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=Path, required=True)
    options, arguments = parser.parse_known_args()
    _Servicer.orders = _Runner.orders = options.orders
    fn_runner.FnApiRunner = _Runner
    local_job_service.LocalJobServicer = _Servicer
    local_job_service_main.run(arguments)
