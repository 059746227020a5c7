"""Limits on input: what one record, one file or one image may cost before it is refused.

Published data stays far below each. Beyond a limit, a record is rejected with a reason, and a file
that can only be read as a whole fails the build. ``benchmarks/bombs.py`` measures what readers cost
at these limits.
"""

#: Maximum number of pixels in the header of an image; a decoded image takes 3 bytes per pixel.
MAX_IMAGE_PIXELS = 100_000_000

#: Maximum number of pixels of an image that has to be decoded at its full size to be hashed.
MAX_HASHED_PIXELS = 12_000_000

#: Most bytes of an image file, which is read whole.
MAX_IMAGE_FILE_BYTES = 32 << 20

#: Most bytes of one element of a sliced file, such as an image with all its regions: those of a
#: slice.
MAX_RECORD_BYTES = 4 << 20

#: Most bytes of an image of LVIS with the ids of the classes that it does not show; LVIS has 1,203
#: classes. Its file is not sliced.
MAX_IMAGE_RECORD_BYTES = 64 << 10

#: Fewest bytes of the elements of a sliced file on average, if it has more than `FREE_ELEMENTS`.
#: Elements are counted only where commas are closer to each other than in any file of records, by
#: layout: lists have polygons.
MIN_ELEMENT_BYTES = 16
FREE_ELEMENTS = 500_000
MIN_COMMA_DISTANCE = {"list": 5, "dict": 12}

#: Most bytes of the licenses of a file, which go with each of its slices; COCO's have 1 kB.
MAX_LICENSES_BYTES = 64 << 10

#: Most bytes of the classes of a detection dataset, which are read with each slice: V3Det has
#: 13,204, with descriptions.
MAX_CATEGORIES_BYTES = 32 << 20

#: Most bytes of one line of a text file; lines are ids.
MAX_LINE_BYTES = 4096

#: Most bytes of a row of a CSV file; those of OpenImages have less than 1 kB, title included.
MAX_ROW_BYTES = 64 << 10

#: Most times that a member of a zip may be larger than its packed bytes, if it has more than
#: `FREE_UNPACKED_BYTES`. Published JSON is 5 to 30 times as large; spaces, a thousand times.
MAX_ZIP_RATIO = 200
FREE_UNPACKED_BYTES = 4 << 20

#: Most bytes of a pickle, of the same in JSON, or of the texts in a Parquet file; the largest
#: published pickle, refs(umd).p, has less than 100 MB.
MAX_WHOLE_FILE_BYTES = 256 << 20

#: Most lists, dicts, tuples and sets of such a file: a byte of a pickle can make an empty one. Of
#: Parquet, most values.
MAX_CONTAINERS = 2_000_000

#: Objects that a pickle may hold by sharing some, whatever its size; else at most one a byte.
FREE_PICKLE_OBJECTS = 100_000

#: Most bytes of a list of image ids or of words.
MAX_LIST_BYTES = 8 << 20

#: Most bytes of one XML or sentence file of Flickr30k; the published ones have a few kB.
MAX_FLICKR_FILE_BYTES = 1 << 20

#: Most characters of a text.
MAX_CHARACTERS = 10_000

#: Most characters of a text that is parsed, of RefCOCO and Visual Genome, which have a few words
#: each. spaCy takes 16 kB for each token, which may be a character.
MAX_PARSED_CHARACTERS = 2_000

#: Most characters of such a text between two spaces: spaCy takes quadratic time for brackets.
MAX_WORD_CHARACTERS = 250

#: Most boxes or objects of one caption, which are compared in pairs.
MAX_CAPTION_BOXES = 500

#: Most characters of the name of an object that is searched in a question.
MAX_NAME_CHARACTERS = 100

#: Most pairs of a phrase and a box of one caption that are compared.
MAX_CAPTION_PAIRS = 1_000_000

#: Most boxes of one class in an image, whose caption must fit in the memory of a worker.
MAX_CLASS_BOXES = 10_000

#: Most regions of an image of Visual Genome, which are compared in pairs.
MAX_IMAGE_REGIONS = 5_000

#: Most bytes of a scene of CLEVR, which is decoded for each question about it.
MAX_SCENE_BYTES = 256 << 10

#: Most characters of a raw record that its rejection quotes.
MAX_REPORTED_CHARACTERS = 1000

#: Most ids of a list.
MAX_LISTED_IDS = 500_000

#: Most sentences of one image of Flickr30k, which has five.
MAX_IMAGE_SENTENCES = 100

#: Most bytes of the segmentation of one object.
MAX_SEGMENTATION_BYTES = 1 << 20
