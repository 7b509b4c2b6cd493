"""The texts with which a pick lets samples go on: what a training sees beside their pictures.

texts = emitted(ground, about, [(17, 3), (17, 5)])     # (shard, row) -> its texts; nobody whom the pick dropped
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curate.ask.pictures import Emitted
from curate.ask.report.candidates import Place
from curate.ask.report.shards import Ground, Sight, walk
from curate.errors import UserError
from curate.pool.layout import PIXELS


def emitted(ground: Ground, about: Mapping[str, Any], places: Iterable[Place]) -> dict[Place, tuple[Emitted, ...]]:
    """Of each place that the pick kept, its texts in the recipe's order.

    Args:
        about: the pick's note. Of older picks, which do not say where their texts lie, nothing is found.

    Raises:
        UserError: a text that the pick chose is gone from the pool, or a file belongs to other rows than its shard.
    """
    rows: dict[int, list[int]] = {}
    for shard, row in sorted(places):
        rows.setdefault(shard, []).append(row)
    sources = about.get("sources") or {}
    found: dict[Place, tuple[Emitted, ...]] = {}
    for of_shard in walk(ground, lambda sight: _of_shard(sight, sources, rows[sight.shard]), list(rows)):
        found |= of_shard
    return found


def _of_shard(sight: Sight, sources: Mapping[str, Any], rows: Sequence[int]) -> dict[Place, tuple[Emitted, ...]]:
    emits = [emit or [] for emit in sight.columns(sight.ground.pick, ["emit"]).column("emit").take(rows).to_pylist()]
    named = {text["source"] for emit in emits for way in emit for text in way["texts"]}
    texts = {n: _column(sight, place, rows) for n, place in sources.items() if n in named}
    return {
        (sight.shard, row): tuple(
            Emitted(t["source"], _chosen(sight, row, t, texts[t["source"]][number]), t["p"], way["copies"])
            for way in emit
            for t in way["texts"]
        )
        for number, (row, emit) in enumerate(zip(rows, emits, strict=True))
        if emit and all(t["source"] in texts for way in emit for t in way["texts"])
    }


def _column(sight: Sight, place: Mapping[str, Any], rows: Sequence[int]) -> list[Any]:
    """Values of a source's column at these rows. place: its folder, None of a fact, and its field."""
    folder, field = place["folder"] or PIXELS, place["field"]
    return list(sight.columns(folder, [field]).column(field).take(rows).to_pylist())


def _chosen(sight: Sight, row: int, choice: Mapping[str, Any], value: Any) -> str:
    """The text of a choice: the column's value, or of a list one of its texts, with or without their source."""
    several = isinstance(value, list)
    text = value[choice["index"]] if several and choice["index"] < len(value) else None if several else value
    text = text["text"] if isinstance(text, dict) else text
    if text is None:
        raise UserError(
            f"{sight.ground.pool.storage}: shard {sight.shard}, row {row}: text {choice['index']} of "
            f"{choice['source']!r}, which {sight.ground.pick} chose, is gone; run its recipe again"
        )
    return str(text)
