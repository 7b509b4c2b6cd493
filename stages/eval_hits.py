"""Who was found to match evaluation sets, summed over the pool, and some of the pictures for a person to look at.

    summed(hits_of(found) for found in ...)            # one row a picture of a set that some sample matches
    set_pictures(one, 0, prints, hits, min_quality)    # of one set: thumbnails, with a sample beside each

Sums hang on no order. Of the samples that match one picture, the one shown is that which was found by the weakest
means, then the farthest, then of the smallest uid: where a threshold errs, it errs there.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from stages.base import Output
from stages.draws import hash64_halves
from stages.eval_sets import EvalSet, some_pictures
from stages.shuffle import starts_of, uid_array

BY = ("sha256", "phash256", "phash64", "vectors")
"""How a sample was found, strongest first; files have the number."""

HITS = pa.schema(
    [
        ("set", pa.int32()),
        ("number", pa.int64()),
        ("item", pa.string()),
        *((f"by_{by}", pa.int64()) for by in BY),  # samples found so
        ("by", pa.int8()),  # of the sample that is shown
        ("distance", pa.float32()),
        ("high", pa.uint64()),
        ("low", pa.uint64()),
    ]
)
PICTURES = pa.schema(
    [
        ("why", pa.string()),  # farthest, or drawn
        ("item", pa.string()),
        ("thumbnail", pa.binary()),  # WebP; null where the picture does not decode, or the set has vectors only
        ("samples", pa.int64()),  # that match it
        ("by", pa.string()),
        ("distance", pa.float32()),
        ("uid", pa.binary(16)),  # of the sample to be shown beside it
    ]
)
SHOWN = 12  # of each set the farthest, and as many drawn from the others
SIDE = 176  # pixels of the longer side of a thumbnail


def hits_of(found: pa.Table) -> pa.Table:
    """HITS, several rows a picture, of a table of `stages.eval_search.FOUND`."""
    flat = found.column("found").combine_chunks().flatten()
    if isinstance(flat, pa.ChunkedArray):
        flat = pa.concat_arrays(flat.chunks)
    fields = dict(zip((f.name for f in flat.type), flat.flatten(), strict=True))
    by = fields["by"].to_numpy()
    counts = {f"by_{name}": pa.array((by == i).astype(np.int64)) for i, name in enumerate(BY)}
    columns = fields | counts
    return pa.table([columns[n] for n in HITS.names], schema=HITS)


def summed(tables: Iterable[pa.Table]) -> Output:
    """HITS, one row a picture, by set and number, of tables of HITS."""
    whole = HITS.empty_table()
    for table in tables:  # one after another: what is held is one table and the sum
        whole = _merged(pa.concat_tables([whole, table]))
    return Output(whole, {"pictures": whole.num_rows})


def _merged(table: pa.Table) -> pa.Table:
    keys = {n: table.column(n).to_numpy() for n in ("set", "number", "by", "distance", "high", "low")}
    order = np.lexsort((keys["low"], keys["high"], -keys["distance"], -keys["by"], keys["number"], keys["set"]))
    starts = starts_of(keys["set"][order], keys["number"][order])
    first = table.take(pa.array(order[starts]))
    for name in (f"by_{by}" for by in BY):
        counts = table.column(name).to_numpy()[order]
        total = np.add.reduceat(counts, starts) if len(starts) else counts
        first = first.set_column(first.schema.get_field_index(name), HITS.field(name), pa.array(total))
    return first.combine_chunks()


def set_pictures(one: EvalSet, number: int, prints: pa.Table, hits: pa.Table, min_quality: int) -> Output:
    """PICTURES of one set; statistics: its name, pictures, how many of them have no hash worth comparing (`flat`) or do
    not decode (`broken`), how many were found (`matched`), and samples by what found them."""
    mine = hits.filter(pa.array(hits.column("set").to_numpy() == number))
    chosen = _chosen(mine)
    rows = mine.take(pa.array([row for row, _ in chosen], pa.int64())).to_pylist()
    thumbnails = _thumbnails(one, [r["item"] for r in rows]) if one.path is not None else {}
    found = [
        {
            "why": why,
            "item": r["item"],
            "thumbnail": thumbnails.get(r["item"]),
            "samples": sum(r[f"by_{by}"] for by in BY),
            "by": BY[r["by"]],
            "distance": r["distance"],
        }
        for r, (_, why) in zip(rows, chosen, strict=True)
    ]
    table = pa.Table.from_pylist(found, pa.schema([f for f in PICTURES if f.name != "uid"]))
    high, low = (np.array([r[n] for r in rows], np.uint64) for n in ("high", "low"))
    broken = prints.num_rows - prints.column("error").null_count
    dim = prints.column("quality").fill_null(255).to_numpy() < max(min_quality, 1)
    stats = {"set": one.name, "pictures": prints.num_rows, "broken": broken, "flat": int(dim.sum())}
    stats |= {"matched": mine.num_rows, "samples": {by: _total(mine, f"by_{by}") for by in BY}}
    return Output(table.append_column("uid", uid_array(high, low)), stats)


def _total(hits: pa.Table, name: str) -> int:
    return int(hits.column(name).to_numpy().sum())


def _chosen(hits: pa.Table) -> list[tuple[int, str]]:
    """(row, why) of the pictures that are shown: the farthest first, then others drawn by their samples' uids."""
    keys = {n: hits.column(n).to_numpy() for n in ("by", "distance", "number", "high", "low")}
    far = np.lexsort((keys["number"], -keys["distance"], -keys["by"]))
    draw = hash64_halves(0, "eval_pictures", keys["high"], keys["low"]) if len(far) else np.zeros(0, np.uint64)
    rest = far[SHOWN:]
    drawn = rest[np.lexsort((keys["number"][rest], draw[rest]))][:SHOWN]
    return [(int(r), "farthest") for r in far[:SHOWN]] + [(int(r), "drawn") for r in drawn]


def _thumbnails(one: EvalSet, items: list[str]) -> dict[str, bytes]:
    """item -> WebP; none of those that do not decode."""
    from PIL import Image

    from stages.decode import DecodeError, open_image

    found = {}
    for item, data in some_pictures(one, items).items():
        try:
            image = open_image(data)
        except DecodeError:  # `error` of its prints says why
            continue
        image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
        out = io.BytesIO()
        image.save(out, "WEBP", quality=60)
        found[item] = out.getvalue()
    return found
