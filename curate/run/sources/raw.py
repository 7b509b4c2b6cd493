"""What readers hand over, and how it becomes rows of a list: strings made of text columns, types settled."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.facts import PLACE
from curate.pool.lists import Findings, Rows
from curate.run.sources.kinds import STRING, Types, cells_as, json_as, json_text, kind_of_cells, kind_of_json
from curate.run.sources.spec import SourceSpec

ROWS, BYTES = 1 << 16, 32 << 20  # of one batch; one row that is larger is a batch of its own
_SURROGATES = re.compile("[\ud800-\udfff]")
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_SHA256 = r"^[0-9a-f]{64}\z"

Values: TypeAlias = Any
"""A column: a pa.Array, or a list of JSON values, which have no type yet."""


@dataclass
class Reading:
    """One reading of a source: what is asked for, and where findings go."""

    spec: SourceSpec
    survey: bool  # first reading: uids are made, so bytes without a url are hashed; types are not known yet
    findings: Findings
    columns: dict[str, pa.Field]  # of the second reading
    types: Types = field(default_factory=Types)
    seen: set[str] = field(default_factory=set)  # keys in .json sidecars

    def wanted(self, name: str) -> bool:
        """Is this further column carried along?"""
        return self.spec.keep == "all" or name in self.spec.keep


@dataclass
class Raw:
    """Some rows of one file before they are typed; what is None is not there."""

    file: str
    numbers: np.ndarray  # rows, lines or samples of the file, from 1
    url: Values | None = None
    text: Values | None = None
    uid: Values | None = None
    sha256: Values | None = None
    files: Values | None = None  # names of image files, of a folder's table
    place: pa.Array | None = None
    content: list[str | None] | None = None
    extras: dict[str, Values] = field(default_factory=dict)
    cells: bool = False  # extras are text of a csv
    local: bool = False  # the bytes are here: a row without a place is refused, one without a url is not

    def __len__(self) -> int:
        return len(self.numbers)


def rows_of(raw: Raw, reading: Reading) -> Rows:
    """Typed rows; those that can be no sample are refused by name, in both readings alike."""
    if reading.survey:
        _see_extras(raw, reading)
    n, found = len(raw), reading.findings
    empty = pa.nulls(n, STRING)
    columns = {
        "given": _role(raw, "uid", found),
        "url": _role(raw, "url", found),
        "text": _role(raw, "text", found),
        "sha256": _digests(raw, found),
        "content": empty if raw.content is None else pa.array(raw.content, STRING),
        "place": pa.nulls(n, PLACE) if raw.place is None else raw.place,
    }
    if not reading.survey:
        columns |= {f.name: _settled(raw, name, f.type, found) for name, f in reading.columns.items()}
    table = pa.table(columns)
    usable = _usable(raw, columns, found)
    if usable.all():
        return Rows(raw.file, raw.numbers, table)
    return Rows(raw.file, raw.numbers[usable], table.filter(pa.array(usable)).combine_chunks())


def _see_extras(raw: Raw, reading: Reading) -> None:
    for name, values in raw.extras.items():
        if not reading.wanted(name):
            continue
        before = reading.types.loose(name)
        if raw.cells:
            reading.types.see(name, kind_of_cells(values, before), raw.file, loose=True)
        elif not isinstance(values, pa.Array):
            reading.types.see(name, kind_of_json(values, before), raw.file, loose=True)


def _usable(raw: Raw, columns: dict[str, pa.Array], found: Findings) -> np.ndarray:
    """bool (n,): rows that are a sample; the others are counted with their reasons."""
    no_url = pc.or_kleene(pc.is_null(columns["url"]), pc.fill_null(pc.equal(columns["url"], ""), True))
    missing = pc.is_null(columns["place"]) if raw.local else no_url
    bad_digest = pc.invert(pc.fill_null(pc.match_substring_regex(columns["sha256"], _SHA256), True))
    usable = np.ones(len(raw), bool)
    for reason, mask in (
        ("no image bytes" if raw.local else "no url", missing),
        ("sha256 is not 64 hex digits", bad_digest),
    ):
        bad = mask.to_numpy(zero_copy_only=False) & usable
        for i in np.flatnonzero(bad).tolist():
            found.refuse(raw.file, str(raw.numbers[i]), reason)
        usable &= ~bad
    return usable


def _digests(raw: Raw, found: Findings) -> pa.Array:
    digests = pc.utf8_lower(_role(raw, "sha256", found))
    return pc.if_else(pc.equal(digests, ""), pa.scalar(None, STRING), digests)


def _role(raw: Raw, role: str, found: Findings) -> pa.Array:
    """A column that must be text: of a list of strings the first one counts, of integers (uids) the digits."""
    values: Values | None = getattr(raw, role)
    if values is None:
        return pa.nulls(len(raw), STRING)
    if not isinstance(values, pa.Array):
        return pa.array([json_text(first(v)) for v in values], STRING)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        values = pc.list_element(pc.list_slice(values, 0, 1, return_fixed_size_list=True), 0)  # null of an empty one
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if pa.types.is_null(kind):
        return pa.nulls(len(raw), STRING)
    if role == "uid" and pa.types.is_fixed_size_binary(kind):
        return pa.array([None if v is None else v.hex() for v in values.to_pylist()], STRING)
    if role == "uid" and pa.types.is_integer(kind):
        return values.cast(STRING)
    if _is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return clean(values, found)
    raise UserError(f"{raw.file}: the column for `{role}` is {kind}, not text; name another under `source:`")


def _settled(raw: Raw, name: str, kind: pa.DataType, found: Findings) -> pa.Array:
    """A further column in the type that it has over the whole list; null where this file lacks it."""
    values = raw.extras.get(name)
    if values is None:
        return pa.nulls(len(raw), kind)
    if raw.cells:
        return cells_as(values, kind)
    if not isinstance(values, pa.Array):
        return json_as(values, kind)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return (clean(values, found) if _is_text(values.type) else values).cast(kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def first(value: Any) -> Any:
    """Of a list the first member, null of an empty one; anything else is itself."""
    return (value[0] if value else None) if isinstance(value, list) else value


def clean(values: pa.Array, found: Findings) -> pa.Array:
    """Text as valid UTF-8: what is not is replaced by U+FFFD and counted. No other character is touched."""
    try:
        text = values.cast(STRING)
        text.validate(full=True)
        return text
    except pa.ArrowInvalid:
        return pa.array([decoded(b, found) for b in values.cast(pa.binary()).to_pylist()], STRING)


def decoded(data: bytes | None, found: Findings) -> str | None:
    """Bytes as UTF-8; see `clean`."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        found.invalid_utf8 += 1
        return data.decode(errors="replace")


def scrubbed(values: Sequence[str | None], found: Findings) -> pa.Array:
    """Strings that may hold lone surrogates (bytes that were no UTF-8); see `clean`."""
    try:
        return pa.array(values, STRING)
    except UnicodeEncodeError:
        return pa.array([None if v is None else _scrub(v, found) for v in values], STRING)


def _scrub(value: Any, found: Findings) -> Any:
    if isinstance(value, str):
        good = _SURROGATES.sub("\ufffd", value)
        found.invalid_utf8 += good != value
        return good
    if isinstance(value, list):
        return [_scrub(v, found) for v in value]
    if isinstance(value, dict):
        return {_scrub(k, found): _scrub(v, found) for k, v in value.items()}
    return value


def parse_json(data: bytes, found: Findings) -> dict[str, Any]:
    """A JSON object; NaN and lone surrogates, which Python writes too, are understood. Raises: ValueError."""
    try:
        if _LONG_NUMBER.search(data):
            raise ValueError("orjson would round it")
        value = orjson.loads(data)
    except ValueError:
        try:
            value = _scrub(json.loads(data.decode(errors="surrogateescape")), found)
        except RecursionError as e:
            raise ValueError("nested too deeply") from e
    if not isinstance(value, dict):
        raise ValueError(f"an object was expected, this is {type(value).__name__}")
    return value


def columns_of(objects: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Objects as columns, in the order in which keys first occur; null where an object lacks one."""
    keys = dict.fromkeys(k for o in objects for k in o)
    return {k: [o.get(k) for o in objects] for k in keys}
