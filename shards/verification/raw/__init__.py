"""Compares images of a shard set with the raw files, by readers that share no code with builds."""
