"""The files of a shard set: tars, tables, manifest."""
