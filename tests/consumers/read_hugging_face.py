"""Loads and streams an export with Hugging Face ``datasets``: RESULT FOLDER CACHE."""

import json
import os
import sys
from pathlib import Path

import datasets

result, folder, cache = sys.argv[1:]
datasets.disable_progress_bars()
loaded = datasets.load_dataset(folder, cache_dir=cache)
streamed = datasets.load_dataset(folder, cache_dir=cache, streaming=True)
rows_by_split = {
    split: [
        {**row, "image": row["image"].size if row["image"] else None}
        for row in (dict.fromkeys(["image"]) | row for row in rows)
    ]
    for split, rows in loaded.items()
}
for split, rows in streamed.items():
    assert [row["key"] for row in rows] == [row["key"] for row in rows_by_split[split]]
Path(result).write_text(json.dumps(rows_by_split))
# A thread that pyarrow reads ahead with may still run, which would abort the end of the process.
os._exit(0)
