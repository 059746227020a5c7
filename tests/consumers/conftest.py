"""The programs that `test_consumers` starts are no modules to import, not even for doctests."""

collect_ignore_glob = ["read_*.py", "openmmlab.py"]
