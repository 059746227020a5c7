"""Excludes the programs that `test_consumers` starts from collection, doctests included."""

collect_ignore_glob = ["read_*.py", "openmmlab.py"]
