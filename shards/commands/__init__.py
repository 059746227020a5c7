"""The commands of ``python -m shards``: a module each, with its arguments and what it does."""
