"""Which text a stage over texts looks at, and what its columns are called and of which type before anything has run.

    column_type(Column(captioner, "blip"), pa.float32())     # float32, or list<float32> where it writes several texts
    named(TEXT, "itm"), named(Column(captioner, "blip"), "itm")      # "itm", "blip_itm"

Rule of texts: scalar in, scalar out; list in, list of equal length out (`stages.texts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from stages.base import TEXT, Batch, Column
from stages.texts import is_list, like, like_type


def named(text: Column, name: str) -> str:
    """What a column over this text is called: `name` over the text of the web, else with that of the text before it."""
    return name if text == TEXT else f"{text.field}_{name}"


def has_lists(text: Column) -> bool:
    """Whether the column has several texts a sample; a fact of the input counts as a string."""
    return text.owner is not None and is_list(text.owner.writes().field(text.field).type)


def column_type(text: Column, kind: pa.DataType) -> pa.DataType:
    """Type of a column with a value of `kind` for each text."""
    return pa.list_(kind) if has_lists(text) else kind


def column_like(batch: Batch, text: Column, values: Sequence[Any] | pa.Array, kind: pa.DataType) -> pa.Array:
    """The column of `values`, one for each text that `stages.texts.texts_of` finds in `text`.

    Raises:
        ValueError: a column of the input has lists: what a stage writes must be known before its texts are.
    """
    found = batch[text]
    if like_type(found.type, kind) != column_type(text, kind):
        raise ValueError(
            f"{text.field!r} is a column of the input with lists of texts ({found.type}); a stage over them takes what "
            "another stage wrote, as `sentences` over that column does"
        )
    return like(found, values, kind)
