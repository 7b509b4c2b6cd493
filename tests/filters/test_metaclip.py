"""MetaCLIP's balancing against its formulas; no cut into shards and no order shows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from filters.metaclip import Metaclip
from filters.metaclip2 import Metaclip2
from tests.filters.metaclip_parts import ENTRIES, Runner, captions, plain_chances, pool_of, verdicts


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("metaclip") / "metadata.json"
    path.write_text(json.dumps(ENTRIES))
    return str(path)


def test_chances_follow_the_formula_and_matchless_texts_are_dropped(metadata: str) -> None:
    rows = captions(300)
    found = verdicts(rows, Metaclip(metadata=metadata, t=20, over="pool"))
    wanted = plain_chances(rows, 20)
    assert sum(0 < p < 1 for p in wanted.values()) > 0
    for uid, (keep, reason, p) in found.items():
        assert p == np.float32(wanted[uid])
        assert reason == (None if keep else "balanced_out" if p else "no_match")
        assert keep or p < 1
        assert p or not keep


@pytest.mark.parametrize("draw", ["text", "entry"])
def test_large_t_keeps_all_that_matches_and_t_of_one_nearly_nothing(metadata: str, draw: Any) -> None:
    rows = captions(2000)
    wanted = plain_chances(rows, 2000)
    found = verdicts(rows, Metaclip(metadata=metadata, t=2000, over="pool", draw=draw))
    assert {uid for uid, v in found.items() if v[0]} == {uid for uid, p in wanted.items() if p > 0}
    few = verdicts(rows, Metaclip(metadata=metadata, t=1, over="pool", draw=draw))
    assert sum(v[0] for v in few.values()) < 30


@pytest.mark.parametrize("draw", ["text", "entry"])
def test_kept_size_is_what_the_chances_add_up_to(metadata: str, draw: Any) -> None:
    rows = captions(3000)
    chances = np.array(list(plain_chances(rows, 40).values()))
    sigma = math.sqrt((chances * (1 - chances)).sum())
    sizes = []
    for seed in range(8):
        found = verdicts(rows, Metaclip(metadata=metadata, t=40, over="pool", draw=draw, seed=seed))
        sizes.append(sum(v[0] for v in found.values()))
        assert abs(sizes[-1] - chances.sum()) < 4 * sigma
    assert len(set(sizes)) > 1
    assert abs(np.mean(sizes) - chances.sum()) < 4 * sigma / math.sqrt(len(sizes))


def test_expected_size_stands_in_the_footers_before_any_draw(metadata: str) -> None:
    rows = captions(500)
    chosen = Metaclip(metadata=metadata, t=20, over="pool")
    wanted = math.fsum(plain_chances(rows, 20).values())
    seen = set()
    for shards in (1, 3, 70):  # 70: a tree of two levels
        runner = Runner(pool_of(rows, shards, shards))
        runner.run(chosen)
        last = [name for name in runner.files[chosen] if name.startswith("expected")][-1]
        expected = runner.stats(chosen, last)["all"]["expected"]
        assert expected == pytest.approx(wanted, abs=1e-6)
        seen.add(expected)
        shares = [s["expected"] for s in runner.stats(chosen, "verdict").values()]
        assert math.fsum(shares) == pytest.approx(wanted, abs=1e-6)
        told = runner.stats(chosen, "probabilities")["all"]
        assert told["t"] == 20
        assert told["entries"] == len(ENTRIES)
        assert told["head_entries"] == 4
    assert len(seen) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.sampled_from(["text", "entry"]), st.integers(1, 60))
def test_shards_and_order_change_nothing(metadata: str, seed: int, draw: Any, t: int) -> None:
    rows = captions(120, seed)
    chosen = Metaclip(metadata=metadata, t=t, over="pool", draw=draw, seed=seed)
    first = verdicts(rows, chosen)
    assert verdicts(rows, chosen, 3, seed) == first
    assert verdicts(rows, chosen, 7, seed + 1) == first


def test_survivors_are_balanced_among_themselves(metadata: str) -> None:
    rows = captions(400)
    asked = [{**r, "asked": i % 3 == 0} for i, r in enumerate(rows)]
    found = verdicts(asked, Metaclip(metadata=metadata, t=20, over="survivors"), 4)
    wanted = plain_chances([r for r in asked if r["asked"]], 20)
    for r in asked:
        if r["asked"]:
            assert found[r["uid"]][2] == np.float32(wanted[r["uid"]])
        else:
            assert found[r["uid"]] == (None, None, None)


def test_share_of_the_tail_says_what_t_is(metadata: str) -> None:
    rows = captions(600)
    chosen = Metaclip(metadata=metadata, tail=0.15, over="pool")
    runner = Runner(pool_of(rows, 2))
    runner.run(chosen)
    told = runner.stats(chosen, "probabilities")["all"]
    counts = sorted(sum(f" {e} " in f" {(r['text'] or '').replace(',', ' ,')} " for r in rows) for e in ENTRIES)
    shares = np.cumsum(counts) / sum(counts)
    assert told["t"] == counts[int(np.argmin(abs(shares - 0.15)))]


@pytest.mark.parametrize("given", [{}, {"t": 5, "tail": 0.1}])
def test_t_is_asked_for_once(metadata: str, given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="expected t"):
        Metaclip(metadata=metadata, over="pool", **given)


def test_missing_lists_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no list of entries at .*gone\.json; make one with `curate metadata build`"):
        Metaclip(metadata=str(tmp_path / "gone.json"), t=5, over="pool").files()
    with pytest.raises(ValueError, match="is a folder"):
        Metaclip(metadata=str(tmp_path), t=5, over="pool").files()
    with pytest.raises(ValueError, match="has no <label>"):
        Metaclip2(metadata=str(tmp_path), t=5, over="pool").files()
