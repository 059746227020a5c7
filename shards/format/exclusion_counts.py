"""The counts of each exclusion of a build, as in the manifest."""

import msgspec


class JoinCounts(msgspec.Struct):
    """What an exclusion left out of the splits that are trained on, by one join."""

    images: int = 0
    captions: int = 0


class ExclusionCounts(msgspec.Struct):
    """What an exclusion names, what it excluded, and how its images could be found.

    Attributes:
        named: The number of images that its files or its namespace name.
        excluded: The excluded images by join ("id", "coco_id", "flickr photo id", "perceptual
            hash"). An image counts for each exclusion and join that found it.
        joins: By source, the joins that the tables of the recipe make possible.
    """

    named: int
    excluded: dict[str, JoinCounts] = {}
    joins: dict[str, list[str]] = {}
