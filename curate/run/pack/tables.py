"""A pack as parquet with the image bytes inside, as Hugging Face `datasets` reads it: image, text, uid, json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.run.pack.write import Content

FEATURES = {
    "image": {"_type": "Image"},
    "text": {"dtype": "large_string", "_type": "Value"},
    "uid": {"dtype": "string", "_type": "Value"},
    "json": {"dtype": "large_string", "_type": "Value"},
}
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("text", pa.large_string()),
        ("uid", pa.string()),
        ("json", pa.large_string()),  # what is in the .json of a tar
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}}, sort_keys=True)},
)
ROWS = 100  # in a row group: readers that skip through images read whole groups


class ParquetFile:
    """One parquet being written, block by block; blocks are whole groups, so their size does not show."""

    def __init__(self, path: Path) -> None:
        self.path = path
        words = ["image.path", "text", "uid", "json"]
        compression = dict.fromkeys(words, "zstd") | {"image.bytes": "none"}
        self._writer = pq.ParquetWriter(str(path), SCHEMA, compression=compression, use_dictionary=False)

    def write(self, content: Content) -> None:
        for start in range(0, content.members.num_rows, ROWS):
            self._writer.write_table(_table(content, start, min(start + ROWS, content.members.num_rows)))

    def hash(self, content: Content) -> None:
        """Nothing: a parquet is hashed when it is whole."""

    def finish(self) -> str:
        """Write the footer; returns the sha256 of the whole."""
        self._writer.close()
        with self.path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()

    def abandon(self) -> None:
        self._writer.close()
        self.path.unlink(missing_ok=True)


def _table(content: Content, start: int, stop: int) -> pa.Table:
    said = content.said
    size = content.members.column("bytes").to_numpy()[start:stop]
    begin = int(content.image_at[start])
    offsets = np.append(content.image_at[start:stop], content.image_at[stop - 1] + size[-1]) - begin
    data = pa.py_buffer(content.buffer[begin : begin + int(offsets[-1])])
    images = pa.Array.from_buffers(
        pa.binary(), stop - start, [None, pa.py_buffer(offsets.astype(np.int32).tobytes()), data]
    )
    chosen = slice(start, stop)
    names = [f"{k.decode()}.{s.decode()}" for k, s in zip(said.keys[chosen], said.suffixes[chosen], strict=True)]
    image = pa.StructArray.from_arrays([images, pa.array(names, pa.string())], fields=list(SCHEMA.field("image").type))
    text, line = ([w.decode() for w in words[chosen]] for words in (said.texts, said.jsons))
    uid = [k[:32].decode() for k in said.keys[chosen]]
    columns = [image, pa.array(text, pa.large_string()), pa.array(uid), pa.array(line, pa.large_string())]
    return pa.table(columns, schema=SCHEMA)
