"""Shows the contents of a shard set: terminal tables, an HTML report, and an image browser."""
