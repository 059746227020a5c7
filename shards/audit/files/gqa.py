"""GQA's questions and scene graphs: JSON objects by question, or by image."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from schemas.decodable import decodable
from schemas.image_ids import RawId
from shards.audit.files.annotation_file import AnnotationFile, Mask, open_stream
from shards.audit.files.errors import AuditError
from shards.audit.files.statements import Statement, Unknown, state_name


class _Value(msgspec.Struct, gc=False):
    imageId: RawId = None  # noqa: N815 - as published
    objects: msgspec.Raw = msgspec.Raw()


class GqaFile(AnnotationFile):
    """A file of questions, each with its ``imageId``, or of scene graphs by image id.

    It is decoded as a whole, a few hundred bytes per question. It is never written.
    """

    format = "GQA JSON"

    def statements(self) -> Iterator[Statement]:
        values = _decoded(self.path)
        for number, (id_, value) in enumerate(values.items()):
            is_question = not bytes(value.objects)
            image = value.imageId if is_question else id_
            if image is None:
                yield Statement(f"record {number}", unknown=Unknown.UNREADABLE)
            else:
                statement = state_name(str(image), "vg")
                yield statement._replace(captions=1) if is_question else statement

    def write(self, output: Path, left_out: Mask) -> list[str]:
        raise AuditError(f"{self.path} is JSON of GQA, which --write does not write")


def _decoded(path: Path) -> dict[str, _Value]:
    try:
        with open_stream(path) as file:
            return msgspec.json.decode(file.read(), type=decodable(dict[str, _Value]))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AuditError(
            f"{path} is no JSON of GQA's questions or scene graphs: {error}"
        ) from error
