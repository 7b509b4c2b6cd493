"""OBELICS (Laurencon et al. 2023): parquet with parallel lists of urls of images and of texts, null where the other is.

    document = parse({"images": [None, "http://..."], "texts": ["...", None], "metadata": "[null, {...}]", ...})
    say(document)                                # the row again, `SCHEMA`

Fields: the dataset card of HuggingFaceM4/OBELICS. `metadata` is the JSON of a list with an object for each image,
`general_metadata` that of one object for the document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curate.interchange.interleaved import Document, Node, Picture, json_in, list_in, text_in
from curate.interchange.interleaved_mmc4 import TextRule

SCHEMA = pa.schema(
    [
        ("images", pa.list_(pa.string())),
        ("metadata", pa.string()),
        ("general_metadata", pa.string()),
        ("texts", pa.list_(pa.string())),
    ]
)
GENERAL = "general_metadata"


def parse(record: Mapping[str, Any], rule: TextRule = "none") -> Document:
    """A document of OBELICS. rule: which text its pictures' samples have: none, or the alternative text.

    Raises:
        ValueError: it is none; says what is wrong.
    """
    images, texts = (list_in(record.get(n), n) for n in ("images", "texts"))
    about = _metadata(record.get("metadata"), len(images))
    if len(images) != len(texts):
        raise ValueError(f"images and texts differ in length: {len(images)} and {len(texts)}")
    general = record.get(GENERAL)
    said = _object(general) if isinstance(general, str) else {}
    nodes: list[Node] = []
    pictures: list[Picture] = []
    for url, text, more in zip(images, texts, about, strict=True):
        if url is not None:
            nodes.append(len(pictures))
            pictures.append(_picture(text_in(url, "images"), more or {}, rule))
        if text is not None:
            nodes.append(text_in(text, "texts"))
    page = said.get("url") or next((p.about["document_url"] for p in pictures if p.about.get("document_url")), None)
    whole = {} if general is None else {GENERAL: general}
    address = text_in(page, "url") if isinstance(page, str) else None
    return Document("obelics", address, tuple(nodes), tuple(pictures), None, whole)


def _picture(url: str, about: Mapping[str, Any], rule: TextRule) -> Picture:
    if not url:
        raise ValueError("images has an empty url")
    alt = about.get("alt_text")
    return Picture(url, text_in(alt, "alt_text") if rule == "alt" and alt is not None else "", about=about)


def _metadata(said: Any, images: int) -> list[dict[str, Any] | None]:
    """What is said of each place: an object for an image, None."""
    if said is None:
        return [None] * images
    listed = json_in(text_in(said, "metadata"), "metadata")
    if not isinstance(listed, list) or len(listed) != images or not all(isinstance(m, dict | None) for m in listed):
        raise ValueError(f"metadata is no list with an object or null for each image: there are {images}")
    return listed


def _object(said: str) -> dict[str, Any]:
    found = json_in(said, GENERAL)
    if not isinstance(found, dict):
        raise ValueError(f"{GENERAL} is no JSON object")
    return found


def say(document: Document) -> dict[str, Any]:
    """The document as OBELICS has it: a row of `SCHEMA`; the metadata of an image has the uid of its sample, too."""
    images: list[str | None] = []
    texts: list[str | None] = []
    about: list[dict[str, Any] | None] = []
    for node in document.nodes:
        picture = None if isinstance(node, str) else document.pictures[node]
        images.append(None if picture is None else picture.url)
        texts.append(node if isinstance(node, str) else None)
        about.append(None if picture is None else _about(document, picture))
    general = document.about.get(GENERAL) if document.format == "obelics" else None
    return {
        "images": images,
        "texts": texts,
        "metadata": json.dumps(about),
        GENERAL: general if general is not None else json.dumps({**_plain(document), "url": document.url}),
    }


def _about(document: Document, picture: Picture) -> dict[str, Any]:
    """`metadata` of an image; of one of another format its names, as far as they are the same thing."""
    if document.format == "obelics":
        return {**picture.about, "uid": picture.uid.hex()}
    own = {"document_url": document.url, "unformatted_src": picture.url, "src": picture.url, "alt_text": None}
    return {**picture.about, **own, "uid": picture.uid.hex()}


def _plain(document: Document) -> Mapping[str, Any]:
    return document.about if document.format != "obelics" else {}
