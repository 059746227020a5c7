"""Datasets, samplers and the order of samples."""
