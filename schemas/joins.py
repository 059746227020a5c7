"""How two images were recognized as one photo: the joins, as in ``excluded.parquet``."""

#: Their keys are equal; they state the same id of COCO, or of Flickr; their hashes are near.
ID, COCO_ID, PHOTO_ID, HASH = "id", "coco_id", "flickr photo id", "perceptual hash"
