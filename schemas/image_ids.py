"""The ids of images: one parser of every spelling that published files and lists have.

The key of an image is its namespace and its id: ``coco/139``. Readers, lists of held-out images
and the audit of a shard set all make keys here, so an image has one key, whichever spelling of its
id a file has. Published files write 0, -1, null or nothing where an image has no id; none of them
is an id of an image.
"""

import functools
import hashlib
import re

#: An id as JSON files and pickles spell it.
RawId = int | float | str | None

_NUMBER = r"([0-9]{1,20})(?:\.0+)?"  # a table of numbers may be written as floats
_FILE = r"([0-9]{1,20})\.jpg"
# RefCOCO's names end in the id of an annotation: COCO_train2014_000000581857_16.jpg
_COCO_FILE = r"COCO_[a-z][a-z0-9]*_([0-9]{12})(?:_[0-9]+)?(?:\.jpg)?"
_NAME = r"([a-z0-9_+-]{1,80})(?:\.jpe?g|\.png)?"


def _pattern(*spellings: str) -> re.Pattern[str]:
    return re.compile("|".join(spellings), re.IGNORECASE | re.ASCII)


# Of namespaces whose ids are numbers.
_NUMBERED = {
    "coco": _pattern(_NUMBER, _FILE, _COCO_FILE),
    "vg": _pattern(_NUMBER, _FILE),
    "flickr30k": _pattern(_NUMBER, _FILE),
    "objects365": _pattern(_NUMBER, r"objects365_v[0-9]_([0-9]{8})(?:\.jpg)?"),
    "v3det": _pattern(_NUMBER),
}
# Of those whose ids are hexadecimal numbers with all their zeros.
_HEXADECIMAL = {"openimages": _pattern(r"([0-9a-f]{16})(?:\.jpg)?")}
# Of those whose ids are names.
_NAMED = _pattern(_NUMBER, _NAME)
#: Datasets whose images are in the namespace of another one (GQA: see `image_key`).
_ALIASES = {"lvis": "coco", "gqa": "vg"}
#: The namespaces that `image_key` knows.
NAMESPACES = frozenset({*_NUMBERED, *_HEXADECIMAL, *_ALIASES, "clevr"})
_NO_ID = frozenset({"", "none", "null", "nan"})
_OWN_NAME = re.compile(
    r"(?!.*[0-9]{4})"
    r"(?!(?:(?:ref)?coco[+g]?|vg|gqa|lvis|flickr(?:30k)?|images?|img|im|photo|train|val|test)"
    r"[0-9_+-]*$)"
    r"[A-Za-z][A-Za-z0-9_+-]{0,79}",
    re.IGNORECASE,
)
_FLICKR_URL = re.compile(r"https?://[^/]*\bstatic\.?flickr\.com/(?:\d+/)+(\d+)_")
_NOT_POSITIVE = re.compile(r"(?:-[0-9]+|0+)(?:\.0+)?")

# Names of files of one's own; the first are kept in the keys of their images.
_PLAIN_FILE = re.compile(r"([A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*)\.jpg")
_IMAGE_FILE = re.compile(r".+\.(?:jpe?g|png)", re.IGNORECASE)
# Names of published files that cannot be a numbering of one's own.
_PUBLISHED_FILES = {
    "coco": re.compile(r"(?:COCO_[a-z0-9]+_)?([0-9]{12})\.jpg", re.IGNORECASE),
    "vg": re.compile(r"([1-9][0-9]*)\.jpg", re.IGNORECASE),
    "flickr30k": re.compile(r"([1-9][0-9]*)\.jpg", re.IGNORECASE),
}


class ImageIdError(ValueError):
    """A value is not the id of an image of its namespace, or there is no such namespace."""


@functools.lru_cache(maxsize=1 << 14, typed=True)
def image_key(namespace: str, id_: RawId, others: frozenset[str] = frozenset()) -> str:
    """Returns the key of an image, by its namespace and any spelling of its id.

    A number may be an integer, a whole float, or text of either with leading zeros; published file
    names of the namespace are ids, too. An id of ``vg`` or ``gqa`` that begins with "n" is one of
    COCO, as in GQA's files. ``others`` has the namespaces of datasets that are not published; their
    ids are names or numbers. The case of a namespace does not matter.

    >>> image_key("COCO", "COCO_train2014_000000000139.jpg"), image_key("lvis", 139.0)
    ('coco/139', 'coco/139')
    >>> image_key("gqa", "2320633"), image_key("gqa", "n578020")
    ('vg/2320633', 'coco/578020')
    >>> image_key("mine", "x1.jpg", others=frozenset({"mine"}))
    'mine/x1'

    Raises:
        ImageIdError: the namespace is unknown, or the value is not a positive id of it.
    """
    name = known_namespace(namespace, others)
    name = _ALIASES.get(name, name)
    text = _text(id_)
    if text.lower() in _NO_ID:
        raise ImageIdError(f"{id_!r} is not an image id of {namespace}")
    if name in _HEXADECIMAL:
        if hexadecimal := _HEXADECIMAL[name].fullmatch(text):
            return f"{name}/{hexadecimal[1].lower()}"
        raise ImageIdError(f"{text[:80]!a} is not an image id of {namespace}")
    pattern = _NUMBERED.get(name, _NAMED)
    is_of_coco = name == "vg" and text[:1] in ("n", "N")
    match = pattern.fullmatch(text[1:] if is_of_coco else text)
    if match is None:
        raise ImageIdError(f"{text[:80]!a} is not an image id of {namespace}")
    if is_of_coco:
        name = "coco"
    plain = next(group for group in match.groups() if group is not None)
    if plain.lstrip("+-").isdecimal():
        if plain[0] in "+-" or int(plain) == 0:
            raise ImageIdError(f"{text[:80]!a} is not an image id of {namespace}: ids are positive")
        plain = str(int(plain))
    return f"{name}/{plain}"


def key_of_name(namespace: str, id_: RawId) -> str:
    """Returns the key of an image whose id is a name, though its dataset numbers images.

    People who write files of their own use the name of a published dataset, with ids such as
    ``own-0``. Such an image is none of the published ones, so no evaluation set can name it. The
    result is empty if the dataset is unknown, or the id may be a published one in an unknown
    spelling: if it does not begin with a letter, has four digits in a row, or is a number after the
    name of a dataset or a split, or after a word for image.

    >>> key_of_name("VG", "own-0"), key_of_name("vg", "vg_2320633"), key_of_name("vg", "-1")
    ('vg/own-0', '', '')
    >>> key_of_name("coco", "coco_139"), key_of_name("coco", "img-500")
    ('', '')
    """
    name = _ALIASES.get(namespace.lower(), namespace.lower())
    is_name = isinstance(id_, str) and _OWN_NAME.fullmatch(id_) and id_.lower() not in _NO_ID
    return f"{name}/{id_}" if is_name and name in _NUMBERED else ""


def key_of_own_file(namespace: str, file: str) -> str:
    """Returns the key of an image of one's own by the name of its file; empty without a name.

    Another ending, and a name that could be another spelling of a number, are hashed: they are of
    other images, and would have the key of one.

    >>> key_of_own_file("mine", "a/b7.jpg"), key_of_own_file("mine", "07.jpg")
    ('mine/a/b7', 'mine/a1c3feb8f9af2a6b5c6cdcff')
    """
    if not file:
        return ""
    plain = _PLAIN_FILE.fullmatch(file)
    if plain and normal_key(key := f"{namespace}/{plain[1]}") == key:
        return key
    digest = hashlib.blake2b(file.encode("utf-8", "replace"), digest_size=12).hexdigest()
    return f"{namespace}/{digest}"


def keys_of_listed(namespace: str, id_: RawId, others: frozenset[str] = frozenset()) -> list[str]:
    """Returns the keys of the image that a list of held-out images names.

    It is one, except for images of one's own, which are listed by ids or by names of files: an id
    that is not a plain name has two keys, of which a set has one.

    >>> keys_of_listed("lvis", 139), keys_of_listed("mine", "b7", frozenset({"mine"}))
    (['coco/139'], ['mine/b7'])
    >>> keys_of_listed("mine", "yard/dsc2", frozenset({"mine"}))
    ['mine/yard/dsc2']
    >>> keys_of_listed("mine", "07.jpg", frozenset({"mine"}))
    ['mine/7', 'mine/a1c3feb8f9af2a6b5c6cdcff']

    Raises:
        ImageIdError: see `image_key`.
    """
    name = known_namespace(namespace, others)
    if name in NAMESPACES:
        return [image_key(namespace, id_)]
    text = _text(id_)
    file = text if _IMAGE_FILE.fullmatch(text) else f"{text}.jpg"
    keys: list[str] = []
    try:
        keys.append(image_key(name, id_, others))
    except ImageIdError:
        if file != text and not _PLAIN_FILE.fullmatch(file):
            raise
    keys.append(key_of_own_file(name, file))
    return list(dict.fromkeys(keys))


def known_namespace(namespace: str, others: frozenset[str] = frozenset()) -> str:
    """Returns the spelling of a namespace that keys and `image_key` have.

    Raises:
        ImageIdError: it is neither published nor in ``others``; the message lists those.
    """
    if namespace in others or namespace in NAMESPACES:
        return namespace
    lower = namespace.lower()
    known = {name.lower(): name for name in (*others, *NAMESPACES)}
    if lower not in known:
        names = ", ".join(sorted({*others, *NAMESPACES}))
        raise ImageIdError(f"there is no namespace {namespace[:80]!a} of images; known are {names}")
    return known[lower]


def normal_key(key: str) -> str:
    """Returns a key with the one spelling of its id, empty if a published dataset has no such id.

    >>> normal_key("coco/000139"), normal_key("mine/a b"), normal_key("coco/-1")
    ('coco/139', 'mine/a b', '')
    """
    namespace, _, id_ = key.partition("/")
    try:
        return image_key(namespace, id_, frozenset({namespace}))
    except ImageIdError:
        return key_of_name(namespace, id_) if namespace in NAMESPACES else key


def has_id(id_: RawId) -> bool:
    """Returns whether a value is not one of the spellings of "no id".

    >>> has_id(7), has_id(None), has_id("-1"), has_id(0.0)
    (True, False, False, False)

    Raises:
        ImageIdError: it is of no type of `RawId`, or not a whole number.
    """
    text = _text(id_)
    return text.lower() not in _NO_ID and _NOT_POSITIVE.fullmatch(text) is None


def namespace_of_dataset(name: str) -> str:
    """Returns the namespace of most images of a dataset: of GQA that of Visual Genome.

    >>> namespace_of_dataset("lvis"), namespace_of_dataset("vg")
    ('coco', 'vg')
    """
    return _ALIASES.get(name, name)


def optional_image_key(namespace: str, id_: RawId) -> str:
    """Returns the key of an image, or an empty string where a file states that there is none.

    >>> optional_image_key("coco", 139), optional_image_key("coco", -1)
    ('coco/139', '')

    Raises:
        ImageIdError: the value is neither an id nor one of the spellings of "no id".
    """
    return image_key(namespace, id_) if has_id(id_) else ""


def photo_id(id_: RawId) -> str:
    """Returns the id of a Flickr photo, or an empty string where a file states that there is none.

    >>> photo_id(5896644212.0), photo_id(0)
    ('5896644212', '')

    Raises:
        ImageIdError: the value is neither an id nor one of the spellings of "no id".
    """
    return optional_image_key("flickr30k", id_).partition("/")[2]


def photo_id_of_key(key: str) -> str:
    """Returns the id of the Flickr photo that a key states, or an empty string.

    The id of an image of Flickr30k is that of its photo.
    """
    namespace, _, id_ = key.partition("/")
    return id_ if namespace == "flickr30k" else ""


def photo_id_of_url(url: str) -> str:
    """Returns the id of the Flickr photo whose file a URL names, or an empty string.

    >>> photo_id_of_url("http://farm6.staticflickr.com/5062/5896644212_a326e96ea9_z.jpg")
    '5896644212'
    >>> photo_id_of_url("http://farm6.static.flickr.com/5062/5896644212_a326e96ea9_z.jpg")
    '5896644212'
    """
    match = _FLICKR_URL.match(url)
    return photo_id(match[1]) if match else ""


def namespace_of(key: str) -> str:
    """Returns the namespace of an image key.

    >>> namespace_of("coco/139")
    'coco'
    """
    return key.partition("/")[0]


def key_of_file(namespace: str, file: str) -> str:
    """Returns the key that the name of a published image file states, or an empty string.

    >>> key_of_file("coco", "train2014/COCO_train2014_000000000139.jpg")
    'coco/139'
    >>> key_of_file("coco", "7.jpg")
    ''
    """
    pattern = _PUBLISHED_FILES.get(namespace)
    match = pattern.fullmatch(file.rpartition("/")[2]) if pattern else None
    return f"{namespace}/{int(match[1])}" if match else ""


def published_file(key: str) -> str:
    """Returns a published name of an image's file; see also `other_coco_names`.

    >>> published_file("coco/139"), published_file("vg/7")
    ('COCO_val2014_000000000139.jpg', '7.jpg')
    """
    namespace, _, id_ = key.partition("/")
    return f"COCO_val2014_{int(id_):012d}.jpg" if namespace == "coco" else f"{id_}.jpg"


def other_coco_names(file: str, key: str) -> list[str]:
    """Returns the other published names of a COCO image's file; none of a file of one's own.

    The images of 2014 are those of 2017, under shorter names and in other folders.

    >>> other_coco_names("train2017/000000000139.jpg", "coco/139")
    ['000000000139.jpg', 'COCO_train2014_000000000139.jpg', 'COCO_val2014_000000000139.jpg']
    >>> other_coco_names("own.jpg", "coco/139")
    []
    """
    if namespace_of(key) != "coco" or key_of_file("coco", file) != key:
        return []
    number = f"{int(key.partition('/')[2]):012d}.jpg"
    names = [number, f"COCO_train2014_{number}", f"COCO_val2014_{number}"]
    return [name for name in names if name != file]


def _text(id_: RawId) -> str:
    if id_ is None:
        return ""
    if isinstance(id_, bool):
        raise ImageIdError(f"{id_!r} is not an image id")
    if isinstance(id_, float):
        # Larger floats do not hold every whole number.
        if not id_.is_integer() or abs(id_) > 2**53:
            raise ImageIdError(f"{id_!r} is not an image id: not a whole number")
        return str(int(id_))
    return str(id_).strip()
