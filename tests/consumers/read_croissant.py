"""Validates and reads ``croissant.json`` with mlcroissant, offline: RESULT FILE RECORD_SET."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import mlcroissant

result, file, record_set = sys.argv[1:]


def refuse(*arguments: Any, **options: Any) -> Any:
    raise OSError("the network is not to be used")


socket.getaddrinfo = socket.create_connection = refuse


def plain(value: Any) -> Any:
    """Returns a value for JSON: text is bytes, images are their size."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value if isinstance(value, int | float | str | None) else list(value.size)


dataset = mlcroissant.Dataset(jsonld=file)  # raises `ValidationError`
issues = dataset.metadata.ctx.issues
records = [
    {name.partition("/")[2]: plain(value) for name, value in record.items()}
    for record in dataset.records(record_set=record_set)
]
content = {
    "errors": sorted(issues.errors),
    "warnings": sorted(issues.warnings),
    "records": records,
}
Path(result).write_text(json.dumps(content))
