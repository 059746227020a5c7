"""Raw downloads -> WebDataset shards, with Apache Beam."""

__version__ = "0.1.0"
