"""Evaluates a model on a split of a shard set."""
