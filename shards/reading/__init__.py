"""Opens a shard set, local or remote, and reads its samples."""
