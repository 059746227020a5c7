"""Writes a shard set as the files that other trainers and tools read: one module per format."""
