"""Looking into a shard set: what is in it, whether it is whole, and pages to look at it."""
