"""Groups of equal keys against plain Python over the whole pool; no cut into shards or buckets shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from stages.hash_groups import HashGroups
from stages.normal_forms import text_normalised, url_normalised
from tests.phase_runner import PhaseRunner

SCHEMA = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("url", pa.string()),
        ("text", pa.string()),
        ("sha256", pa.string()),
        ("phash64", pa.uint64()),
        ("phash256", pa.binary(32)),
        ("phash_quality", pa.uint8()),
    ]
)
Row = dict[str, Any]
CENTRES = (0x0F1E2D3C4B5A6978, 0xFFFF0000FFFF0000)


def row(number: int, **more: Any) -> Row:
    facts = {"url": f"http://x/{number}", "text": f"text {number}", "sha256": f"{number:064x}", "phash64": number}
    return {"uid": number.to_bytes(16, "big"), "phash_quality": 100} | facts | more


def pool_of(rows: list[Row], shards: int = 1, rng: np.random.Generator | None = None) -> dict[int, pa.Table]:
    """The rows in any order, cut anywhere into shards with gaps between their numbers."""
    if rng is None:
        return {s: pa.Table.from_pylist(rows[s::shards], SCHEMA) for s in range(shards)}
    order = rng.permutation(len(rows))
    home = rng.integers(0, shards, len(rows))
    numbers = np.sort(rng.choice(50, shards, replace=False)).tolist()
    return {
        number: pa.Table.from_pylist([rows[i] for i in order if home[i] == s], SCHEMA)
        for s, number in enumerate(numbers)
    }


def groups(pool: dict[int, pa.Table], barrier: HashGroups, seed: int | None = None) -> dict[int, tuple[Any, int]]:
    """uid -> (uid of the group or None, size), as numbers"""
    found = {}
    for shard, table in PhaseRunner(pool, seed).run(barrier).items():
        named = (pool[shard].column("uid"), table.column(0), table.column(1))
        for uid, group, size in zip(*(c.to_pylist() for c in named), strict=True):
            found[int.from_bytes(uid, "big")] = (None if group is None else int.from_bytes(group, "big"), size)
    return found


@pytest.mark.parametrize("by", ["sha256", "url", "text"])
def test_equal_values_are_a_group(by: Any) -> None:
    same = {"sha256": "ab" * 32, "url": "http://same", "text": "Same"}[by]
    rows = [row(9, **{by: same}), row(5), row(3, **{by: same}), row(7, **{by: same})]
    assert groups(pool_of(rows, 2), HashGroups(by=by)) == {9: (3, 3), 3: (3, 3), 7: (3, 3), 5: (None, 1)}


def test_image_and_text_together() -> None:
    same = {"sha256": "ab" * 32}
    rows = [row(1, **same, text="a"), row(2, **same, text="b"), row(3, **same, text="a"), row(4, **same, text=None)]
    rows.append(row(5, **same, text=None))
    found = groups(pool_of(rows), HashGroups(by="image_text"))
    assert found == {1: (1, 2), 3: (1, 2), 2: (None, 1), 4: (4, 2), 5: (4, 2)}


@pytest.mark.parametrize(("by", "value"), [("sha256", None), ("url", None), ("url", ""), ("text", None), ("text", "")])
def test_nothing_equals_nothing(by: Any, value: Any) -> None:
    rows = [row(1, **{by: value}), row(2, **{by: value})]
    assert groups(pool_of(rows), HashGroups(by=by)) == {1: (None, 1), 2: (None, 1)}


def test_texts_differ_by_case_and_form() -> None:
    rows = [row(i, text=t) for i, t in enumerate(["Caf\u00e9", "Cafe\u0301", "caf\u00e9", "Caf\u00e9 "], 1)]
    assert set(groups(pool_of(rows), HashGroups(by="text")).values()) == {(None, 1)}


def test_without_text_a_picture_says_nothing_by_its_hash_alone() -> None:
    rows = [row(1, phash64=5, text="a"), row(2, phash64=5, text="a"), row(3, phash64=5, text="b")]
    rows += [row(n, phash64=5, text=None) for n in (4, 5)] + [row(n, phash64=None, text="a") for n in (6, 7)]
    found = groups(pool_of(rows), HashGroups(by="phash_text"))
    assert {uid for uid, (group, _) in found.items() if group is not None} == {1, 2}


@pytest.mark.parametrize(
    ("by", "same"),
    [
        ("url", set()),
        ("url_normalised", {1, 2, 3}),
        ("url_stripped", {1, 2, 3, 4}),
    ],
)
def test_urls_are_compared_as_strictly_as_asked(by: str, same: set[int]) -> None:
    urls = ["http://Ex.com:80/%7Ea?b=2&a=1", "http://ex.com/~a?a=1&b=2#x", "HTTP://ex.com/%7ea?b=2&a=1"]
    urls += ["http://ex.com/~a?a=1&b=3", "https://ex.com/~a?a=1&b=2", "http://ex.com/~A?a=1&b=2"]
    found = groups(pool_of([row(i, url=u) for i, u in enumerate(urls, 1)]), HashGroups(by=by))
    assert {uid for uid, (group, _) in found.items() if group is not None} == same


def test_normalised_texts_are_equal_in_any_case_form_and_spacing() -> None:
    texts = ["Caf\u00e9", "CAFE\u0301 ", "\tcaf\u00e9\n", "Ca f\u00e9", "stra\u00dfe", "STRASSE", "\ufb01n", "fin"]
    found = groups(pool_of([row(i, text=t) for i, t in enumerate(texts, 1)]), HashGroups(by="text_normalised"))
    assert [found[i][0] for i in range(1, 9)] == [1, 1, 1, None, 5, 5, 7, 7]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([7, 7, 8, None]),
        pa.array([0.5, 0.5, float("nan"), None]),
        pa.array([True, True, False, None]),
        pa.array([b"abcd", b"abcd", b"abce", None], pa.binary(4)),
        pa.array(["a", "a", "", None]).dictionary_encode(),
    ],
)
def test_any_column_may_be_the_key(values: pa.Array) -> None:
    table = pa.table({"uid": pa.array([bytes([i] * 16) for i in range(4)], pa.binary(16)), "camera": values})
    (found,) = PhaseRunner({0: table}).run(HashGroups(by="camera")).values()
    assert found.column("camera_group_size").to_pylist() == [2, 2, 1, 1]
    assert found.column("camera_group").to_pylist() == [bytes(16), bytes(16), None, None]


@pytest.mark.parametrize(("by", "more"), [("phash64", {}), ("phash64", {"min_quality": 0}), ("phash256", {})])
def test_hashes_that_say_nothing_have_no_group(by: str, more: Any) -> None:
    flat = 1 << 63
    rows = [row(1, phash64=flat), row(2, phash64=flat), row(3, phash64=flat | 0b111)]
    rows += [row(n, phash64=CENTRES[0], phash_quality=49) for n in (4, 5)]
    rows += [row(n, phash64=None, phash_quality=None) for n in (6, 7)]
    rows += [row(n, phash64=CENTRES[1], phash_quality=50) for n in (8, 9)]
    for r in rows:
        r["phash256"] = None if r["phash64"] is None else r["phash64"].to_bytes(8, "big") + bytes(24)
        if r["uid"][-1] in (8, 9):
            r["phash256"] = r["phash256"][:8] * 4
    found = groups(pool_of(rows), HashGroups(by=by, **more))
    wanted = {4, 5, 8, 9} if more else {8, 9}
    assert {uid for uid, (group, _) in found.items() if group is not None} == wanted


VALUES = (
    st.sampled_from(["a", "A", " a", "b", "", "http://x/?b&a", "http://x/?a&b", "http://X", "c", "d", "e"]) | st.none()
)


@settings(max_examples=60, deadline=None)
@given(
    drawn=st.lists(st.tuples(VALUES, st.integers(0, 3)), max_size=40),
    by=st.sampled_from(["url", "url_normalised", "text", "text_normalised", "sha256", "image_text", "phash_text"]),
    shards=st.integers(1, 7),
    size=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_cut_gives_the_groups(drawn: list[Any], by: str, shards: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    uids = rng.permutation(1000)[: len(drawn)].tolist()
    rows = [row(u, url=v, text=v, sha256=f"{n:064x}", phash64=n or None) for u, (v, n) in zip(uids, drawn, strict=True)]
    rows.append(row(5000, phash64=99))  # one at least has a hash
    wanted = plain(rows, by)
    assert groups(pool_of(rows), HashGroups(by=by)) == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", size)
        assert groups(pool_of(rows, shards, rng), HashGroups(by=by), seed) == wanted


def key_of(r: Row, by: str) -> Any:
    """What is equal in equal rows; None where the row has no group."""
    match by:
        case "image_text":
            return (r["sha256"], r["text"] or "")
        case "phash_text":
            return (r["phash64"], r["text"]) if r["phash64"] is not None and r["text"] else None
        case "url_normalised":
            return url_normalised(r["url"] or "") or None
        case "text_normalised":
            return text_normalised(r["text"] or "") or None
    return r[by] or None


def plain(rows: list[Row], by: str) -> dict[int, tuple[Any, int]]:
    """uid -> (group, size), from a dict of all keys."""
    keys: dict[Any, list[int]] = {}
    for r in rows:
        keys.setdefault(key_of(r, by), []).append(int.from_bytes(r["uid"], "big"))
    alone: dict[int, tuple[Any, int]] = {u: (None, 1) for members in keys.values() for u in members}
    keys.pop(None, None)
    return alone | {u: (min(m), len(m)) for m in keys.values() if len(m) > 1 for u in m}


def test_copies_of_one_picture_are_one_row_of_a_bucket_a_span() -> None:
    """Thirty thousand of them, in three shards that are spans of their own."""
    n = 30_000
    uid = np.arange(n, dtype=">u8").repeat(2).tobytes()
    whole = pa.table({"uid": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(uid)])})
    whole = whole.append_column("sha256", pa.array(["ab" * 32] * n))
    barrier, runner = HashGroups(by="sha256"), PhaseRunner({s: whole.slice(s * 10_000, 10_000) for s in range(3)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", 10_000)
        found = runner.run(barrier)
    assert {size for t in found.values() for size in t.column("sha256_group_size").to_pylist()} == {n}
    spans = runner.files[barrier]["keys"].values()
    assert [sum(t.num_rows for t in o.tables[:-1]) for o in spans] == [1, 1, 1]
    (stats,) = (s for s in runner.stats(barrier, "answers").values() if s["groups"])
    assert stats == {"groups": 1, "largest": n, "sizes": {str(n): 1}}


def test_a_pool_that_grows_looks_at_new_shards_only() -> None:
    rows = [row(n, url=f"http://x/{n % 7}") for n in range(60)]
    old, new = pool_of(rows[:30], 2), {s + 8: t for s, t in pool_of(rows[30:], 3).items()}
    barrier = HashGroups(by="url")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", 64)
        before = PhaseRunner(old)
        before.run(barrier)
        grown = PhaseRunner(old | new, generations=dict.fromkeys(new, 1), earlier=before)
        found = grown.run(barrier)
        anew = PhaseRunner(old | new, generations=dict.fromkeys(new, 1)).run(barrier)
    assert found == anew
    assert {part[:8] for phase, part in grown.ran if phase == "keys"} == {"00000008"}


@pytest.mark.parametrize("by", ["phash64", "phash256", "phash_text"])
def test_a_pool_without_hashes_is_refused(by: str) -> None:
    rows = [row(n, phash64=None, phash_quality=None, text="same") for n in range(2)]
    runner = PhaseRunner(pool_of(rows, 2))
    with pytest.raises(ValueError, match=r"none of 2 samples has a phash(64|256), .*phash: true, or .*`fingerprints`"):
        runner.run(HashGroups(by=by))
    assert {phase for phase, _ in runner.ran} == {"counted", "checked"}
    assert set(groups(pool_of(rows, 2), HashGroups(by="text")).values()) == {(0, 2)}


def test_footers_say_who_has_no_hash() -> None:
    rows = [row(1), row(2, phash64=None), row(3, phash_quality=7), row(4, phash_quality=None)]
    rows = [r | {"phash64": r["phash64"] and CENTRES[0]} for r in rows]
    for by, told in (("phash64", (1, 1, 1)), ("phash_text", (1, 0, 0))):
        runner = PhaseRunner(pool_of(rows, 2))
        runner.run(HashGroups(by=by))
        (stats,) = runner.stats(HashGroups(by=by), "checked").values()
        names = ("without_hash", "without_quality", "low_quality")
        assert stats == {"samples": 4} | dict(zip(names, told, strict=True))


def test_quality_goes_with_hashes_only() -> None:
    with pytest.raises(ValidationError, match="go with perceptual hashes"):
        HashGroups(by="sha256", min_quality=10)


def test_vectors_are_no_key() -> None:
    table = pa.table({"uid": pa.array([bytes(16)], pa.binary(16)), "v": pa.array([[1.0]], pa.list_(pa.float32()))})
    with pytest.raises(ValueError, match="a key to count is"):
        PhaseRunner({0: table}).run(HashGroups(by="v"))


def test_a_barrier_can_be_made_again_from_what_it_says_of_itself() -> None:
    for barrier in (HashGroups(by="url"), HashGroups(by="phash64", min_quality=4)):
        assert HashGroups(**barrier.identity()["parameters"]) == barrier
