"""Raw downloads -> WebDataset shards, with Apache Beam."""
