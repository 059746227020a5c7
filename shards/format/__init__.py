"""A shard set on disk: tars, tables, manifest."""
