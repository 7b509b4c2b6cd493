"""What a pack says of each copy, as one Arrow file a shard, and its .txt and .json.

The file is uncompressed Arrow IPC in the order of the pack, so that the second pass maps it and reads only
its slice. The JSON of a copy depends on that copy alone, whatever else lies in the same tar or bucket.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from curate.pool.facts import FACTS, UID
from curate.pool.storage import Storage

if TYPE_CHECKING:
    from curate.run.pack.rank import Copies

MEMBERS = "members"
FILE = b"file"  # schema metadata: the file of the pool in which the images lie

TEXT = pa.struct([("source", pa.string()), ("index", pa.int32()), ("text", pa.large_string()), ("p", pa.float32())])
COPIED = ("source_id", "url", "width", "height", "original_width", "original_height", "sha256", "list")
MEMBERS_SCHEMA = pa.schema(
    [
        ("hash", pa.uint64()),
        ("uid", UID),
        ("copy", pa.int32()),
        ("copies", pa.int32()),
        ("weight", pa.int32()),  # null where copies are written
        ("offset", pa.int64()),
        ("bytes", pa.int32()),
        ("format", pa.string()),
        *(FACTS.field(n) for n in COPIED),
        ("texts", pa.large_list(TEXT)),
        ("extra", pa.binary()),  # JSON object of the input's further columns, null if there are none
    ]
)
OWN_KEYS = frozenset({"uid", "copy", "copies", "weight", "recipe", "texts", *COPIED})


def describe_copies(
    facts: pa.Table,
    emit: pa.ListArray,
    texts: Mapping[str, pa.Array],
    copies: Copies,
    hashes: np.ndarray,
    *,
    weighted: bool,
) -> pa.Table:
    """MEMBERS_SCHEMA, one row a copy in the given order. `texts`: caption source -> column of the shard."""
    extra = extras(facts).take(pa.array(copies.row))
    chosen = facts.select(["uid", "tar_offset", "bytes", "format", *COPIED]).take(pa.array(copies.row))
    columns = {n: chosen.column(n).combine_chunks() for n in chosen.column_names}
    found: dict[str, pa.Array] = {
        **columns,
        "hash": pa.array(hashes, pa.uint64()),
        "copy": pa.array(copies.copy, pa.int32()),
        "copies": pa.array(copies.copies, pa.int32()),
        "weight": pa.array(copies.weight, pa.int32()) if weighted else pa.nulls(len(hashes), pa.int32()),
        "offset": columns["tar_offset"],
        "texts": chosen_texts(emit, texts, copies, columns["uid"]),
        "extra": extra,
    }
    return pa.table([found[n] for n in MEMBERS_SCHEMA.names], schema=MEMBERS_SCHEMA)


def chosen_texts(emit: pa.ListArray, texts: Mapping[str, pa.Array], copies: Copies, uid: pa.Array) -> pa.LargeListArray:
    """large_list<source, index, text, p>, one a copy: the texts that its emit names.

    Raises:
        AssertionError: a text is null, which a pick never chooses.
    """
    lists = pc.struct_field(emit.values, "texts")
    starts, choices = lists.offsets.to_numpy().astype(np.int64), lists.values
    counts = np.diff(starts)[copies.emit]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    flat = np.arange(offsets[-1]) + np.repeat(starts[copies.emit] - offsets[:-1], counts)
    row = np.repeat(copies.row, counts)
    source, index, p = (pc.struct_field(choices, n).take(pa.array(flat)) for n in ("source", "index", "p"))
    text = _looked_up(texts, source, row, index.to_numpy())
    if text.null_count:
        copy = int(np.searchsorted(offsets, np.flatnonzero(text.is_null())[0], side="right")) - 1
        raise AssertionError(f"sample {uid[copy].as_py().hex()}: the pick chose a text that is null")
    return pa.LargeListArray.from_arrays(
        pa.array(offsets, pa.int64()), pa.StructArray.from_arrays([source, index, text, p], fields=list(TEXT))
    )


def _looked_up(texts: Mapping[str, pa.Array], source: pa.Array, row: np.ndarray, index: np.ndarray) -> pa.Array:
    """The text of each (source, row, index), large_string."""
    names = source.dictionary_encode()
    codes = names.indices.to_numpy()
    pieces, positions = [pa.array([], pa.large_string())], [np.array([], np.int64)]
    for code, name in enumerate(names.dictionary.to_pylist()):
        at, column = np.flatnonzero(codes == code), texts[name]
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            first = column.offsets.to_numpy().astype(np.int64)[row[at]]
            values = column.values
            values = pc.struct_field(values, "text") if pa.types.is_struct(values.type) else values
            found = values.take(pa.array(first + index[at]))
        else:
            found = column.take(pa.array(row[at]))
        pieces.append(found.cast(pa.large_string()))
        positions.append(at)
    order = np.argsort(np.concatenate(positions), kind="stable")
    return pa.concat_arrays(pieces).take(pa.array(order))


def extras(facts: pa.Table) -> pa.Array:
    """One JSON object a row of the input's further columns, as far as JSON can say them; null without any."""
    names = [f.name for f in facts.schema if f.name not in FACTS.names and _speakable(f.type)]
    if not names:
        return pa.nulls(facts.num_rows, pa.binary())
    keys = [f"source_{n}" if n in OWN_KEYS else n for n in names]
    found = [facts.column(n) for n in names]
    columns = [(c.cast(pa.string()) if _written_type(c.type) else c).to_pylist() for c in found]
    return pa.array([orjson.dumps(dict(zip(keys, v, strict=True))) for v in zip(*columns, strict=True)], pa.binary())


def _speakable(kind: pa.DataType) -> bool:
    return _plain_type(kind) or _written_type(kind)


def _plain_type(kind: pa.DataType) -> bool:
    t = pa.types
    if t.is_list(kind) or t.is_large_list(kind):
        return _plain_type(kind.value_type)
    if t.is_struct(kind):
        return all(_plain_type(f.type) for f in kind)
    tests = (t.is_boolean, t.is_integer, t.is_floating, t.is_string, t.is_large_string, t.is_null)
    return any(test(kind) for test in tests)


def _written_type(kind: pa.DataType) -> bool:
    """Times and decimals, which go as text: Python and JSON have no exact equal."""
    t = pa.types
    return t.is_timestamp(kind) or t.is_date(kind) or t.is_decimal(kind)


def write_members(storage: Storage, rel: str, members: pa.Table, file: str) -> None:
    """Commit the table, with the name of the file in which its images lie."""
    schema = members.schema.with_metadata({FILE: file.encode()})
    path = storage.scratch()
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(members.combine_chunks(), max_chunksize=max(members.num_rows, 1))
        storage.commit(rel, path)
    finally:
        path.unlink(missing_ok=True)


def read_members(storage: Storage, rel: str) -> tuple[pa.Table, str]:
    """(the table, mapped and not yet read; the file of the pool in which its images lie)."""
    with pa.memory_map(str(storage.local(rel))) as source:
        table = pa.ipc.open_file(source).read_all()
    return table.replace_schema_metadata(None), table.schema.metadata[FILE].decode()


@dataclass(frozen=True)
class Said:
    """Names and words of copies, as parallel lists of bytes: key (``<uid>`` or ``<uid>-<n>``), extension, txt, json."""

    keys: list[bytes]
    suffixes: list[bytes]
    texts: list[bytes]
    jsons: list[bytes]


def say(members: pa.Table, recipe: str) -> Said:
    """Key, extension, text for plain readers and JSON of each copy. `recipe`: of the pick, ``<name>@<hash>``."""
    uids = _hex(members.column("uid"))
    copy, copies, weight = (members.column(n).to_pylist() for n in ("copy", "copies", "weight"))
    often, number = ("copies", copies) if weight.count(None) == len(weight) else ("weight", weight)
    facts = [members.column(n).to_pylist() for n in COPIED]
    lists = _text_lists(members.column("texts").combine_chunks())
    texts, jsons = [], []
    rest = zip(uids, copy, number, lists, *facts, members.column("extra").to_pylist(), strict=True)
    for uid, n, times, said, source_id, url, width, height, full_width, full_height, sha256, origin, extra in rest:
        line = orjson.dumps(
            {
                "uid": uid,
                "source_id": source_id,
                "url": url,
                "copy": n,
                often: times,
                "width": width,
                "height": height,
                "original_width": full_width,
                "original_height": full_height,
                "sha256": sha256,
                "list": origin,
                "recipe": recipe,
                "texts": said,
            }
        )
        jsons.append(line if extra is None else line[:-1] + b"," + extra[1:])
        texts.append(likeliest(said).encode())
    keys = [u if of == 1 else f"{u}-{n}" for u, n, of in zip(uids, copy, copies, strict=True)]
    return Said(
        keys=[k.encode() for k in keys],
        suffixes=members.column("format").cast(pa.binary()).to_pylist(),
        texts=texts,
        jsons=jsons,
    )


def likeliest(texts: Sequence[Mapping[str, Any]]) -> str:
    """The most probable text, the first of equals."""
    return str(texts[0]["text"] if len(texts) == 1 else max(texts, key=lambda t: t["p"])["text"])


def _hex(uid: pa.ChunkedArray) -> list[str]:
    array = uid.combine_chunks()
    digits = bytes(array.buffers()[1])[16 * array.offset : 16 * (array.offset + len(array))].hex()
    return [digits[i : i + 32] for i in range(0, len(digits), 32)]


def _text_lists(lists: pa.LargeListArray) -> Iterator[list[dict[str, Any]]]:
    """The texts of each row, made one row at a time: kept dicts by the thousand would wake the garbage collector."""
    offsets = lists.offsets.to_numpy()
    values = lists.values.slice(offsets[0], offsets[-1] - offsets[0])
    source, index, text = (pc.struct_field(values, n).to_pylist() for n in ("source", "index", "text"))
    p = np.round(pc.struct_field(values, "p").to_numpy().astype(np.float64), 6).tolist()
    for a, b in pairwise((offsets - offsets[0]).tolist()):
        yield [{"source": source[i], "index": index[i], "text": text[i], "p": p[i]} for i in range(a, b)]
