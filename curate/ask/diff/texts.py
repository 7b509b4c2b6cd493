"""Which samples go on with other texts in one pick than in another.

differs = other_texts(emit_a, emit_b, same_times)       # bool (rows,)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LONGEST = 4  # texts that `in_words` names


def other_texts(a: pa.Array, b: pa.Array, same_times: np.ndarray) -> np.ndarray:
    """bool (rows,): other texts or other probabilities; or the same number of copies, but other shares of the texts.

    Args:
        a, b: `emit` of the same rows in two picks, list<struct<copies, texts: list<struct<source, index, p>>>>.
        same_times: bool (rows,): the sum of copies agrees; where it does not, copies alone make no other texts.

    Lists are compared level by level, each only where the one above has the same lengths: there they are aligned.
    """
    if a.equals(b):
        return np.zeros(len(a), bool)
    differs = _lengths(a) != _lengths(b)
    rest = np.flatnonzero(~differs)
    owner, ways_a = _flat(a.take(rest))
    _, ways_b = _flat(b.take(rest))
    unlike = _lengths(pc.struct_field(ways_a, "texts")) != _lengths(pc.struct_field(ways_b, "texts"))
    unlike |= _unlike(ways_a, ways_b, "copies") & same_times[rest[owner]]
    differs[rest[owner[unlike]]] = True

    rest = np.flatnonzero(~differs)
    owner, ways_a = _flat(a.take(rest))
    _, ways_b = _flat(b.take(rest))
    within, texts_a = _flat(pc.struct_field(ways_a, "texts"))
    _, texts_b = _flat(pc.struct_field(ways_b, "texts"))
    unlike = _unlike(texts_a, texts_b, "source") | _unlike(texts_a, texts_b, "index") | _unlike(texts_a, texts_b, "p")
    differs[rest[owner[within[unlike]]]] = True
    return differs


def _lengths(lists: pa.Array) -> np.ndarray:
    return np.asarray(pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False))


def _flat(lists: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """(the list that each entry stands in, the entries)."""
    return np.repeat(np.arange(len(lists)), _lengths(lists)), pc.list_flatten(lists)


def _unlike(a: pa.Array, b: pa.Array, field: str) -> np.ndarray:
    differ = pc.not_equal(pc.struct_field(a, field), pc.struct_field(b, field))
    return np.asarray(differ.fill_null(True).to_numpy(zero_copy_only=False))


def in_words(emit: list[dict[str, Any]]) -> str:
    """One sample's texts for a person: "1x web, 2x blip 0 or blip 1 (70%)"."""
    return ", ".join(f"{way['copies']}× {_choices(way['texts'])}" for way in emit) or "nothing"


def _choices(texts: list[dict[str, Any]]) -> str:
    shown = [
        t["source"] + (f" {t['index'] + 1}" if t["index"] else "") + (f" ({t['p']:.0%})" if len(texts) > 1 else "")
        for t in texts[:LONGEST]
    ]
    return " or ".join(shown) + (f" or {len(texts) - LONGEST} more" if len(texts) > LONGEST else "")
