"""The table in a folder of pictures that says which has which caption, as Hugging Face's `metadata.csv` does."""

from __future__ import annotations

import os
from dataclasses import dataclass

from curate.init.sample import Count, Sample, spread
from curate.init.tables import take_tables
from curate.run.sources.files import is_local
from curate.run.sources.names import GUESSES
from curate.run.sources.source import ListSource
from curate.run.sources.tables import table_format

TRIED = 50  # names of pictures that are looked for


@dataclass(frozen=True)
class FolderTable:
    """Its name below the folder, the column that names the pictures, and some rows."""

    name: str
    file: str
    sample: Sample


def table_of(found: ListSource) -> FolderTable | None:
    """The only table at the top of a local folder, if it names pictures that are there."""
    if found.kind != "folder" or len(found.files) != 1 or not is_local(found.files[0]):
        return None
    folder = found.files[0]
    names = [n for n in sorted(os.listdir(folder)) if table_format(n)]
    if len(names) != 1:
        return None
    path = f"{folder}/{names[0]}"
    sample = take_tables([path], Count(os.stat(path).st_size, True))
    file = next((n for guess in GUESSES["file"] for n in sample.values if n.casefold() == guess), None)
    tried = spread(sample.values[file], TRIED) if file else []
    there = sum(isinstance(name, str) and os.path.isfile(f"{folder}/{name}") for name in tried)
    return FolderTable(names[0], str(file), sample) if there > len(tried) / 2 else None
