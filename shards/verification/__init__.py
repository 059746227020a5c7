"""Checks that a shard set is intact, follows its recipe, and has no held-out image in train."""
