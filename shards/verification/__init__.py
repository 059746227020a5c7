"""Whether a shard set is whole, as its recipe says, and free of held-out images."""
