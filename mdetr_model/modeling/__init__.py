"""MDETR as a transformers model; the files of this package can travel with a checkpoint."""
