"""MMC4 (Zhu et al. 2023): a JSON object a line; sentences, pictures, and the sentence that each picture belongs to.

    document = parse({"text_list": [...], "image_info": [{"raw_url": ..., "matched_text_index": 2}], ...})
    say(document)                                # the object again

Fields: github.com/allenai/mmc4, README, version 1.1. Files are `docs_shard_17_v2.jsonl.zip`, or what was unpacked of
them. MMC4 does not say where in a text a picture stood: here it stands before its sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from curate.interchange.interleaved import LONGEST, Document, Picture, list_in, placed, text_in

TextRule = Literal["none", "matched", "alt"]
MOST = 1e6  # of a similarity


def parse(record: Any, rule: TextRule = "none") -> Document:
    """A document of MMC4. rule: which text its pictures' samples have: none, or the sentence that each belongs to.

    Raises:
        ValueError: it is none; says what is wrong.
    """
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    rest = dict(record)
    texts = [text_in(t, "text_list") for t in list_in(rest.pop("text_list", None), "text_list")]
    said = list_in(rest.pop("image_info", None), "image_info")
    url = rest.pop("url", None)
    matrix = _matrix(rest.pop("similarity_matrix", None), len(said), len(texts))
    pictures = tuple(_picture(one, texts, rule) for one in said)
    if sum(len(p.text) for p in pictures) > LONGEST:  # one sentence may be that of all pictures, and each gets it whole
        raise ValueError(f"the texts of its pictures have more than {LONGEST:,} characters")
    nodes = placed(texts, [p.sentence for p in pictures])
    return Document("mmc4", None if url is None else text_in(url, "url"), nodes, pictures, matrix, rest)


def _picture(info: Any, texts: list[str], rule: TextRule) -> Picture:
    if not isinstance(info, dict):
        raise ValueError("image_info has what is no JSON object")
    rest = dict(info)
    url = text_in(rest.pop("raw_url", None), "raw_url")
    if not url:
        raise ValueError("raw_url is empty")
    name, sentence, similar = (rest.pop(n, None) for n in ("image_name", "matched_text_index", "matched_sim"))
    if sentence is not None and not (type(sentence) is int and 0 <= sentence < len(texts)):
        raise ValueError("matched_text_index is no number of a text")
    return Picture(
        url,
        texts[sentence] if rule == "matched" and sentence is not None else "",
        None if name is None else text_in(name, "image_name"),
        sentence,
        None if similar is None else _number(similar, "matched_sim"),
        rest,
    )


def _matrix(rows: Any, pictures: int, texts: int) -> np.ndarray | None:
    """float64 [pictures, texts]."""
    if rows is None:
        return None
    if not isinstance(rows, list) or [len(r) if isinstance(r, list) else -1 for r in rows] != [texts] * pictures:
        raise ValueError("similarity_matrix is not pictures x texts")
    if not {type(v) for row in rows for v in row} <= {int, float}:
        raise ValueError("similarity_matrix has what is no number")
    try:
        matrix = np.array(rows, np.float64).reshape(pictures, texts)
    except OverflowError:
        raise ValueError("similarity_matrix has what is no number") from None
    if not (abs(matrix) <= MOST).all():  # nor is NaN
        raise ValueError("similarity_matrix has what is no number")
    return matrix


def _number(value: Any, what: str) -> float:
    if type(value) not in (int, float) or not abs(value) <= MOST or not math.isfinite(value):
        raise ValueError(f"{what} has what is no number")
    return float(value)


def say(document: Document) -> dict[str, Any]:
    """The document as MMC4 has it, with the uid of each picture's sample beside it.

    A picture without a sentence gets that of its place: the text behind it, else the last one.
    """
    where = _by_place(document)
    infos = [
        {
            **picture.about,
            "image_name": picture.name or f"{picture.uid.hex()}.jpg",
            "raw_url": picture.url,
            "matched_text_index": where[number] if picture.sentence is None else picture.sentence,
            "matched_sim": picture.similarity,
            "uid": picture.uid.hex(),
        }
        for number, picture in enumerate(document.pictures)
    ]
    about: Mapping[str, Any] = document.about if document.format == "mmc4" else {}
    rows = {} if document.similarities is None else {"similarity_matrix": document.similarities.tolist()}
    return {**about, "url": document.url, "text_list": document.texts, "image_info": infos, **rows}


def _by_place(document: Document) -> dict[int, int | None]:
    """Picture -> number of the text behind it, else of the last one; None where there are no texts."""
    behind, last = 0, len(document.texts) - 1
    found: dict[int, int | None] = {}
    for node in document.nodes:
        if isinstance(node, str):
            behind += 1
        else:
            found[node] = min(behind, last) if last >= 0 else None
    return found
