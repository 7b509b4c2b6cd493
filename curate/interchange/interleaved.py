"""Interleaved documents: texts with pictures between them, as MMC4 and OBELICS have them, and as a table in a pool.

    document.without(gone)                       # a document of fewer pictures; its texts stay
    table_of([document, ...])                    # DOCUMENTS, a row each
    [document_of(row) for row in table.to_pylist()]

documents/<name>@<hash>/parts/00003-00000.parquet     documents of the fourth input file, in its order
documents/<name>@<hash>/images/00003-00000.parquet    their pictures, each once: the list that `source:` names
documents/<name>@<hash>/done/00003.json               what was found in that file; its marker
documents/<name>@<hash>/about.json                    all files are done

Pictures are samples of the pool, named by their uids, which follow from url and text (docs: "who a sample is"). So the
table can be made before anything is fetched, and joins with whatever a recipe has kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import xxhash

from curate.pool.facts import UID
from curate.pool.uids import identify

FOLDER = "documents"
MATRIX = "similarities"
Format = Literal["mmc4", "obelics"]
FORMATS = get_args(Format)
MOST = 10_000  # texts, and pictures, of one document; the longest of MMC4 and OBELICS have some hundreds
LONGEST = 4 << 20  # bytes of one document; the longest of MMC4 have one million
DEEPEST = 100  # lists and objects of JSON within each other; documents of MMC4 have four

IMAGE = pa.struct(
    [
        ("uid", UID),
        ("url", pa.string()),
        ("text", pa.string()),  # with which the uid is made
        ("name", pa.string()),  # of its file, where the document says one
        ("sentence", pa.int32()),  # number of the text that it belongs to; null: its place alone says so
        ("similarity", pa.float64()),  # with that text
        ("about", pa.string()),  # JSON object: whatever else the document says of it
    ]
)
NODE = pa.struct([("text", pa.string()), ("image", pa.int32())])
DOCUMENTS = pa.schema(
    [
        ("doc_id", pa.string()),  # 32 hex digits of what it says
        ("format", pa.string()),
        ("url", pa.string()),
        ("nodes", pa.list_(NODE)),  # in reading order: a text, or the number of an image
        ("images", pa.list_(IMAGE)),
        ("similarities", pa.list_(pa.list_(pa.float64()))),  # images x texts; null where the document has none
        ("about", pa.string()),  # JSON object: whatever else it says
    ]
)


@dataclass(frozen=True)
class Picture:
    """A picture of a document. text: with which its sample's uid is made. uid: b"" before `table_of`."""

    url: str
    text: str = ""
    name: str | None = None
    sentence: int | None = None
    similarity: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    uid: bytes = b""


Node = str | int
"""A text, or the number of a picture."""


@dataclass(frozen=True)
class Document:
    """nodes: in reading order. similarities: float64 [pictures, texts]."""

    format: str
    url: str | None
    nodes: tuple[Node, ...]
    pictures: tuple[Picture, ...]
    similarities: np.ndarray | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        return [node for node in self.nodes if isinstance(node, str)]

    def without(self, gone: AbstractSet[int]) -> Document:
        """Fewer pictures: those of the numbers in `gone` are left out, the others are numbered anew."""
        if not gone:
            return self
        kept = [i for i in range(len(self.pictures)) if i not in gone]
        number = {old: new for new, old in enumerate(kept)}
        nodes = [n if isinstance(n, str) else number[n] for n in self.nodes if isinstance(n, str) or n in number]
        rows = self.similarities
        return replace(
            self,
            nodes=tuple(nodes),
            pictures=tuple(self.pictures[i] for i in kept),
            similarities=None if rows is None else rows[kept],
        )

    def placed(self, pictures: Sequence[Picture], similarities: np.ndarray | None) -> Document:
        """The same texts with these pictures, each before the text that it belongs to, in their order."""
        nodes = placed(self.texts, [p.sentence for p in pictures])
        return replace(self, nodes=nodes, pictures=tuple(pictures), similarities=similarities)


def placed(texts: Sequence[str], sentences: Sequence[int | None]) -> tuple[Node, ...]:
    """Nodes of texts, with each picture before the text of that number; without one, behind the last."""
    before: dict[int, list[int]] = {}
    for picture, sentence in enumerate(sentences):
        before.setdefault(len(texts) if sentence is None else sentence, []).append(picture)
    nodes: list[Node] = []
    for number, text in enumerate(texts):
        nodes += [*before.get(number, ()), text]
    return (*nodes, *before.get(len(texts), ()))


# ------------------------------------------------------------------------------------------ as a table


def table_of(documents: Sequence[Document]) -> pa.Table:
    """`DOCUMENTS` of documents, in their order; here pictures get their uids."""
    pictures = [p for d in documents for p in d.pictures]
    uids = iter(uids_of(pictures))
    rows = [_row(document, [next(uids) for _ in document.pictures]) for document in documents]
    table = pa.Table.from_pylist(rows, schema=DOCUMENTS)
    matrices = _matrices([d.similarities for d in documents])
    return table.set_column(table.schema.get_field_index(MATRIX), DOCUMENTS.field(MATRIX), matrices)


def _matrices(found: Sequence[np.ndarray | None]) -> pa.Array:
    """The column `similarities`, without a Python number for each of them."""
    shapes = [(0, 0) if m is None else m.shape for m in found]
    lengths = np.concatenate([np.full(rows, texts, np.int64) for rows, texts in [*shapes, (0, 0)]])
    values = np.concatenate([np.zeros(0), *(m.reshape(-1) for m in found if m is not None)])
    rows = pa.ListArray.from_arrays(_offsets(lengths), pa.array(values, pa.float64()))
    none = pa.array([m is None for m in found], pa.bool_())
    return pa.ListArray.from_arrays(_offsets([rows for rows, _ in shapes]), rows, mask=none)


def _offsets(lengths: Sequence[int] | np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def uids_of(pictures: Sequence[Picture]) -> list[bytes]:
    """The uids of their samples, by the pool's rule."""
    none = pa.nulls(len(pictures), pa.string())
    url, text = (pa.array([getattr(p, n) for p in pictures], pa.string()) for n in ("url", "text"))
    return list(identify(none, url, text, none).uid.to_pylist())


def _row(document: Document, uids: Sequence[bytes]) -> dict[str, Any]:
    said = [document.url, document.nodes, [(p.url, p.text) for p in document.pictures]]
    return {
        "doc_id": xxhash.xxh3_128_hexdigest(json.dumps(said).encode()),
        "format": document.format,
        "url": document.url,
        "nodes": [_node(node) for node in document.nodes],
        "images": [_image(p, uid) for p, uid in zip(document.pictures, uids, strict=True)],
        "about": json.dumps(document.about),
    }


def _node(node: Node) -> dict[str, Any]:
    return {"text": node, "image": None} if isinstance(node, str) else {"text": None, "image": node}


def _image(picture: Picture, uid: bytes) -> dict[str, Any]:
    plain = {f.name: getattr(picture, f.name) for f in IMAGE if f.name not in ("uid", "about")}
    return {**plain, "uid": uid, "about": json.dumps(picture.about)}


def document_of(row: Mapping[str, Any]) -> Document:
    """A row of `table_of`, as a dict of Python values, as it was."""
    rows = row["similarities"]
    return Document(
        row["format"],
        row["url"],
        tuple(n["image"] if n["text"] is None else n["text"] for n in row["nodes"]),
        tuple(Picture(**{**image, "about": json.loads(image["about"])}) for image in row["images"]),
        None if rows is None else np.array(rows, np.float64).reshape(len(row["images"]), -1 if rows else 0),
        json.loads(row["about"]),
    )


# ------------------------------------------------------------------------------------------ what web data may be


def text_in(value: Any, what: str) -> str:
    """A string of a stranger's JSON, as text: half a character of UTF-16 is replaced.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} is no text")
    return value.encode("utf-8", "replace").decode()


def list_in(value: Any, what: str) -> list[Any]:
    """A list of a stranger's JSON.

    Raises:
        ValueError: it is none, or has more than `MOST` entries.
    """
    if not isinstance(value, list):
        raise ValueError(f"{what} is no list")
    if len(value) > MOST:
        raise ValueError(f"{what} has more than {MOST:,} entries")
    return value


def json_in(text: str, what: str = "") -> Any:
    """The JSON value of a stranger's text. NaN and infinite numbers, which Python would take, are none.

    Raises:
        ValueError: it is none, or deeper than `DEEPEST`; begins with `what`.
    """
    what = f"{what} has " if what else ""
    deep = f"{what}lists within lists within lists"
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError(deep) from None
    except ValueError as e:
        raise ValueError(f"{what}no JSON: {e}") from None
    if text.count("[") + text.count("{") > DEEPEST and _too_deep(value):  # fewer brackets cannot lie that deep
        raise ValueError(deep)
    return value


def _too_deep(value: Any) -> bool:
    """Whether more than `DEEPEST` lists and objects lie within each other.

    Python's own bound is on the whole stack, so what it reads here it might not read again in an export, which calls
    from deeper down. Looks at one level after the other: recursion would have that very bound.
    """
    level = [value] if isinstance(value, (list, dict)) else []
    for _ in range(DEEPEST):
        if not level:
            return False
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (list, dict))
        ]
    return bool(level)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_number(digits[:16])
