"""What only the people who publish a dataset can state of it: a TOML or JSON file of theirs.

Keys are the names of Croissant's properties, and of those of its vocabulary for responsible AI
(docs.mlcommons.org/croissant/docs/croissant-rai-spec.html), which are in the table ``rai``.
``contentUrl`` is the public address of the folder with the tars::

    url = "https://example.org/grounded"
    datePublished = 2026-05-01
    creator = [{ name = "A. Author", url = "https://example.org/a" }]

    [rai]
    dataBiases = ["Photos are from Flickr, mostly of ..."]
    personalSensitiveInformation = ["Photos show people, whose faces are not blurred."]
"""

import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from schemas.decodable import decodable

_VERSION = r"^$|^[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$"  # mlcroissant drops others


class Creator(msgspec.Struct, forbid_unknown_fields=True):
    """A person, or an organization."""

    name: str
    url: str = ""


class ResponsibleAi(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Croissant's properties for responsible AI, without those that a manifest states."""

    data_collection: str = ""
    data_collection_type: list[str] = []
    data_collection_missing_data: str = ""
    data_collection_raw_data: str = ""
    data_annotation_protocol: list[str] = []
    data_annotation_platform: list[str] = []
    data_annotation_analysis: list[str] = []
    annotations_per_item: str = ""
    annotator_demographics: list[str] = []
    machine_annotation_tools: list[str] = []
    data_biases: list[str] = []
    data_limitations: list[str] = []
    data_use_cases: list[str] = []
    data_social_impact: str = ""
    personal_sensitive_information: list[str] = []
    data_release_maintenance_plan: str = ""


#: What search engines of datasets recommend and NeurIPS asks for, and no manifest states.
_RECOMMENDED = ("url", "date_published", "is_accessible_for_free", "creator")
_REQUESTED = (
    "data_biases",
    "data_use_cases",
    "data_social_impact",
    "personal_sensitive_information",
    "data_release_maintenance_plan",
)


class Statements(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Statements about a dataset; what is empty is not stated."""

    name: str = ""
    description: str = ""
    url: str = ""
    content_url: Annotated[str, msgspec.Meta(pattern=r"^$|^https://")] = ""
    version: Annotated[str, msgspec.Meta(pattern=_VERSION)] = ""
    cite_as: str = ""
    date_published: datetime.date | None = None
    is_accessible_for_free: bool | None = None
    keywords: list[str] = []
    creator: list[Creator] = []
    rai: ResponsibleAi = msgspec.field(default_factory=ResponsibleAi)

    def missing(self) -> list[str]:
        """Returns the properties that are asked for, that neither a manifest nor these state."""
        return [
            field.encode_name
            for struct, names in ((self, _RECOMMENDED), (self.rai, _REQUESTED))
            for field in msgspec.structs.fields(struct)
            if field.name in names and getattr(struct, field.name) in ("", None, [])
        ]


def read_statements(path: Path) -> Statements:
    """Reads the statements of a file.

    Raises:
        ValueError: it is neither TOML nor JSON (``.json``), or has another key or type.
        OSError: it cannot be read.
    """
    decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
    try:
        return decode(path.read_bytes(), type=decodable(Statements))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
