"""Which samples of the pool are, or look like, pictures that models are evaluated on.

    columns:
      - eval_matches: {sets: [{name: imagenet_val, path: evalsets/wds_imagenet1k/test}]}                    # by hash
      - eval_matches: {sets: [{name: flickr, vectors: flickr_isc.npy}], vectors: isc_image, above: 0.604169}

A sample matches a set if its bytes are those of a picture of it; or its 256-bit perceptual hash lies within `distance`
bits of one's, in any of eight orientations; or the cosine to one's vector is above `above`. The search is exact: no
index that forgets. Bits are one step wider than for duplicates, since here a miss costs more than a false find; of 64
bits there is none by default: within 8 of them, among a million evaluation pictures in eight orientations, some 0.4 %
of unlike pictures would be found too (ideal hashes; real ones more). Flat pictures have hashes that say nothing, and
are found by their bytes, or by vectors.

Published: DataComp (Gadre et al. 2023) ISC ft_v107, above .604169, test images of its 38 sets; DINOv2 (Oquab et al.
2023) SSCD, above .45, train and test images, and whole components (`decontaminate`); COYO equal pHashes. [D]

Rows of a set's file of vectors that are null, zeros or not finite match nothing; footers of `prints` count them.

Phases: prints (the sets, hashed once, a part a set, which holds some 400 bytes a picture), search (a part for some
130,000 samples, made once, also if the pool grows later), hits-* (who was found, and by what), pictures (some of them,
for the report), matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from stages.base import (
    Barrier,
    Column,
    Inputs,
    Need,
    Output,
    Parameters,
    Phase,
    PhaseFile,
    Shape,
    ShardColumns,
    Source,
    fact,
    shard_name,
    tree,
)
from stages.eval_hits import BY, hits_of, set_pictures, summed
from stages.eval_prints import prints
from stages.eval_search import FOUND, Hits, Rows, found_table, spans_of
from stages.eval_sets import EvalSet, checked_files
from stages.eval_vectors import counted
from stages.fingerprint import VERSION, decoders
from stages.unhashed import refuse_unhashed
from stages.vectors import Device, joined

DAY = 86_400
NAME = "^[a-z][a-z0-9_]{0,31}$"
FIELDS = ("set", "item", "by", "distance")
PIECES = 16  # of a set's prints: the search holds one of them
SMALL = 4096  # pictures that are not cut


class EvalSearch(Parameters):
    """What `eval_matches` looks for.

    Args:
        sets: evaluation sets: a name, and `path` (of pictures, hashed), `vectors` (.npy, parquet), or both.
        distance: bits of 256 by which perceptual hashes may differ; null: only equal bytes and vectors are found.
        distance64: the same of 64, beside it; null: no. For pools without 256-bit hashes.
        min_quality: of a picture, below which its hash is not looked at, 0 (flat) to 100.
        vectors: a column of vectors; then every set needs `vectors`.
        above: the cosine above which a sample matches.
        device: cuda compares vectors on a GPU; the columns are the same ones.

    Raises:
        ValueError: a set that is not there, two of one name, vectors without a bound or the other way round.
    """

    sets: tuple[EvalSet, ...] = Field(min_length=1)
    distance: int | None = Field(default=48, ge=0, le=64)
    distance64: int | None = Field(default=None, ge=0, le=12)
    min_quality: int = Field(default=50, ge=0, le=100)
    vectors: Source | None = None
    above: float | None = Field(default=None, ge=-1, lt=1)
    device: Device = Field(default="cpu", exclude=True)

    @model_validator(mode="after")
    def _sets_can_be_searched(self) -> EvalSearch:
        names = [s.name for s in self.sets]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"several evaluation sets are called {', '.join(twice)}")
        if (self.vectors is None) != (self.above is None):
            raise ValueError("`vectors` and `above` go together")
        for one in self.sets:
            if (one.vectors is None) != (self.vectors is None):
                lacks = "no vectors: give them, or name it in a second step" if self.vectors is not None else "vectors"
                more = "" if self.vectors is not None else ", but there is no column to compare them with: `vectors`"
                raise ValueError(f"evaluation set {one.name} has {lacks}{more}")
        return self

    def files(self) -> tuple[str, ...]:
        found: list[str] = []
        for one in self.sets:
            checked_files(one)
            found += [one.path] if one.path is not None else []
            if (file := one.vector_file()) is not None:
                found.append(file.checked())
        return tuple(dict.fromkeys(found))

    def matches(self) -> EvalMatches:
        """The barrier that looks for it; equal parameters elsewhere in a recipe share it."""
        return EvalMatches(**{name: getattr(self, name) for name in EvalSearch.model_fields})


class EvalMatches(EvalSearch, Barrier):
    """`<name>_set`, `<name>_item`, `<name>_by` strings, `<name>_distance` float32: the strongest match of the sample.

    All null where there is none. by: sha256 (distance 0), phash256, phash64 (bits), or vectors (1 - cosine); the
    strongest is the first of these, then the nearest, then the set named first. `<name>_sets`: list of all sets that
    it matches, strongest first; empty where none. `<name>_missing`: bool, something to compare by is null.

    The phase `pictures` has a part a set ("00000", ...): up to 24 of its pictures that were found, as thumbnails, each
    with a sample; footers have the counts.
    """

    name: str = Field(default="eval", pattern=NAME, description="begins the names of the columns.")

    def identity(self) -> dict[str, Any]:
        """With the versions that decide about the pictures' hashes."""
        by = {"algorithms": {"phash": VERSION}, "decoders": decoders()} if self.compared() else {}
        return {**super().identity(), **by}

    def column(self, field: str) -> Column:
        """`set`, `item`, `by`, `distance`, `sets` or `missing` as a column, for others to read."""
        return Column(self, f"{self.name}_{field}")

    def reads(self) -> tuple[Column, ...]:
        by_vectors = () if self.vectors is None else (self.vectors,)
        return (*map(fact, self.compared()), *(fact("phash_quality") for _ in self.bits()[:1]), *by_vectors)

    def compared(self) -> tuple[str, ...]:
        """Facts that are compared: none where all sets are vectors only."""
        return ("sha256", *dict(self.bits())) if any(s.path is not None for s in self.sets) else ()

    def bits(self) -> tuple[tuple[str, int], ...]:
        """(hash, bits by which it may differ)"""
        asked = (("phash256", self.distance), ("phash64", self.distance64))
        pictures = any(s.path is not None for s in self.sets)
        return tuple((field, most) for field, most in asked if most is not None and pictures)

    def writes(self) -> pa.Schema:
        kinds = (*[pa.string()] * 3, pa.float32(), pa.list_(pa.string()), pa.bool_())
        names = (*FIELDS, "sets", "missing")
        return pa.schema([(f"{self.name}_{n}", kind) for n, kind in zip(names, kinds, strict=True)])

    # ---- phases

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        sets = tuple(f"{i:05d}" for i in range(len(self.sets)))
        spans = spans_of(shape)
        generation = dict(zip(shape.shards, shape.generations or (0,) * len(shape.shards), strict=True))
        of_sets = tuple(PhaseFile("prints", s, piece) for s in sets for piece in range(PIECES))
        home = {shard: (span, i) for span, shards in spans.items() for i, shard in enumerate(shards)}
        hits = tree("hits", "search", tuple(spans), need=Need(memory_gb=2, deadline_s=DAY))
        top = PhaseFile(hits[-1].name, "all")
        gpus = 1 if self.device == "cuda" else 0
        return (
            Phase("prints", sets, lambda _: (), local=True, need=Need(memory_gb=2, deadline_s=DAY)),
            Phase(
                "search",
                tuple(spans),
                lambda span: (*(ShardColumns(s, generation[s]) for s in spans[span]), *of_sets),
                local=True,
                need=Need(gpus=gpus, memory_gb=2, deadline_s=DAY),
            ),
            *hits,
            Phase("pictures", sets, lambda part: (PhaseFile("prints", part), top), need=Need(memory_gb=2)),
            Phase(
                "matches",
                tuple(shard_name(s) for s in shape.shards),
                lambda part: (PhaseFile("search", home[int(part)][0], home[int(part)][1]),),
            ),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase.startswith("hits-"):
            return summed(hits_of(t) if t.schema.equals(FOUND) else t for t in inputs)
        match phase:
            case "prints":
                return self._prints(self.sets[int(part)])
            case "search":
                return self._search(inputs)
            case "pictures":
                table, hits = inputs
                return set_pictures(self.sets[int(part)], int(part), table, hits, self.min_quality)
            case "matches":
                return self._matches(inputs.only())
        raise ValueError(f"EvalMatches has no phase {phase!r}")

    def _prints(self, one: EvalSet) -> Output:
        """What its pictures are known by, in PIECES tables."""
        asked = dict(self.bits())
        table = prints(one)
        table = table.drop_columns([f for f in ("phash64", "phash256") if f not in asked])
        stats = {"pictures": table.num_rows, "broken": table.num_rows - table["error"].null_count}
        if (file := one.vector_file()) is not None:
            stats |= counted(file, None if one.path is None else table.num_rows)
        each = max(SMALL, -(-table.num_rows // PIECES))
        return Output([table.slice(each * piece, each) for piece in range(PIECES)], stats)

    def _search(self, inputs: Inputs) -> Output:
        """FOUND of each shard of the span."""
        tables = list(inputs.select(ShardColumns))
        vectors, table = None if self.vectors is None else self.vectors.field, joined(tables)
        if self.bits():
            refuse_unhashed(table.column("phash_quality"), "eval_matches", "compare by bytes alone (`distance: null`)")
        rows = Rows.of(table, self.compared(), self.min_quality, vectors)
        hits = []
        for number, one in enumerate(self.sets):
            pieces = _pieces(inputs, f"{number:05d}")
            match = rows.in_set(one, pieces, dict(self.bits()), self.min_quality, self.above, self.device)
            hits.append(Hits.of(number, match))
        found = found_table(rows, hits)
        ends = np.cumsum([t.num_rows for t in tables])
        shards = [found.slice(end - t.num_rows, t.num_rows) for end, t in zip(ends.tolist(), tables, strict=True)]
        return Output(shards, {"samples": len(rows.high), "missing": int(rows.missing.sum())})

    def _matches(self, found: pa.Table) -> Output:
        names = pa.array([s.name for s in self.sets], pa.string())
        lists = found.column("found").combine_chunks()
        if isinstance(lists, pa.ChunkedArray):
            lists = pa.concat_arrays(lists.chunks)
        flat, counts = lists.flatten(), pc.list_value_length(lists).to_numpy()
        ends = np.append(0, np.cumsum(counts)).astype(np.int32)
        fields = dict(zip((f.name for f in flat.type), flat.flatten(), strict=True))
        of_set = names.take(fields["set"])
        every = {"set": of_set, "item": fields["item"], "distance": fields["distance"]}
        every["by"] = pa.array(BY, pa.string()).take(fields["by"])
        first = pa.array(np.where(counts > 0, ends[:-1], 0), mask=counts == 0)
        columns = [every[n].take(first) for n in FIELDS]
        columns += [pa.ListArray.from_arrays(pa.array(ends), of_set), found.column("missing")]
        return Output(pa.table(columns, schema=self.writes()), {"matched": int((counts > 0).sum())})


def _pieces(inputs: Inputs, part: str) -> Iterator[pa.Table]:
    """A set's prints, until one is empty."""
    for piece in range(PIECES):
        table = inputs.load(PhaseFile("prints", part, piece))
        if not table.num_rows:
            return
        yield table
