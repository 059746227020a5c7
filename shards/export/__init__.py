"""A shard set as the files that other trainers and tools read: a module a format."""
