"""MetaCLIP's probabilities as columns for a loader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from stages.metaclip_counts import MetaclipCounts
from tests.filters.metaclip_parts import ENTRIES, Runner, captions, plain_chances, pool_of


def test_columns_for_the_loader(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps(ENTRIES))
    rows = captions(300)
    barrier = MetaclipCounts(metadata=str(tmp_path / "metadata.json"), t=20)
    pool = pool_of(rows, 3)
    wanted = plain_chances(rows, 20)
    for shard, table in Runner(pool).run(barrier).items():
        for row, found in zip(pool[shard].to_pylist(), table.to_pylist(), strict=True):
            if row["text"] is None:
                assert found == {"match_p": None, "match_head": None, "match_tail": None}
                continue
            assert found["match_p"] == np.float32(wanted[row["uid"]])
            assert (found["match_p"] == 0) == (found["match_head"] + found["match_tail"] == 0)
            assert (found["match_p"] == 1) == (found["match_tail"] > 0)


def test_only_texts_of_a_language_are_counted(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps(ENTRIES))
    rows = [{**r, "lang": ("en", "de", None)[i % 3]} for i, r in enumerate(captions(300))]
    barrier = MetaclipCounts(metadata=str(tmp_path / "metadata.json"), t=10, among="lang")
    assert [c.field for c in barrier.reads()] == ["match_ids", "lang"]
    pool = pool_of(rows, 3)
    wanted = plain_chances([r for r in rows if r["lang"] == "en"], 10)
    for shard, table in Runner(pool).run(barrier).items():
        for row, found in zip(pool[shard].to_pylist(), table.to_pylist(), strict=True):
            counted = row["lang"] == "en" and row["text"] is not None
            assert found["match_p"] == (np.float32(wanted[row["uid"]]) if counted else None)
