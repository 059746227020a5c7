"""Shard sets on disk or in a bucket: format, writing, reading, sampling, export and inspection.

A shard set is a folder that holds a ``manifest.json``; see docs/shard_format.md.
"""
