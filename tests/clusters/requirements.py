"""Skips tests on machines that cannot have a cluster."""

import os
import shutil

import pytest

from tests.clusters.hosts import why_no_hosts


def require(*programs: str, hosts: bool = True) -> None:
    """Skips the test if a program is missing, or fails it if ``MDETR_CLUSTERS_REQUIRED`` is set.

    Args:
        programs: their names.
        hosts: Whether the test needs `Network`.
    """
    absent = [program for program in programs if shutil.which(program) is None]
    reasons = [f"needs {', '.join(absent)}"] if absent else []
    if hosts and (reason := why_no_hosts()):
        reasons.append(reason)
    if reasons and os.environ.get("MDETR_CLUSTERS_REQUIRED"):
        pytest.fail("; ".join(reasons))
    if reasons:
        pytest.skip("; ".join(reasons))
