"""Conversion of published MDETR checkpoints to models of this package."""
