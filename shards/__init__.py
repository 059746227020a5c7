"""A shard set on disk or in a bucket: how it is laid out, written, described and read.

A shard set is a folder that holds a ``manifest.json``; see docs/shard_format.md.
"""
