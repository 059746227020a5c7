"""What a shard set contains: tables for a terminal, an HTML report, and a browser of its images."""
