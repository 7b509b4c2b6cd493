"""Two picks compared: the numbers against sets counted by hand, row by row."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.ask.diff import compare, two_sides
from curate.ask.diff.facts import HOST, MOST, Totals, _hosts, _ranked
from curate.ask.diff.numbers import Diff
from curate.ask.diff.rows import ONLY_A, ONLY_B, OTHER_COPIES
from curate.ask.diff.texts import other_texts
from curate.errors import UserError
from curate.pool.columns import read_table, write_parquet
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from curate.run.pick import PICK
from curate.subset import write_subset
from stages.base import shard_name
from tests import pools

ROWS = (13, 0, 8)
Texts = list[dict[str, Any]]


def verdict(pool: Pool, name: str, keep: Sequence[bool], reasons: Sequence[str]) -> str:
    """A filter's folder; keep and reasons run over all shards."""
    starts = np.cumsum([0, *ROWS])

    def make(shard: int, uid: pa.Array) -> pa.Table:
        of = slice(starts[shard], starts[shard] + len(uid))
        why = [None if k else r for k, r in zip(keep[of], reasons[of], strict=True)]
        return pa.table({"keep": pa.array(keep[of], pa.bool_()), "reason": pa.array(why, pa.string())})

    return pools.add_verdict(pool, name, make, key=repr((keep, reasons)))


def fates(pool: Pool, pick: str) -> dict[bytes, tuple[str | None, str | None]]:
    """uid -> (dropped_by, reason), removed ones left out."""
    gone = set(pool.removed.to_pylist())
    found = {}
    for shard in pool.about(pick)["shards"]:
        table, _ = read_table(pool.storage, part_file(pick, shard_name(shard)))
        uid = pool.facts(shard, ["uid"])[0].column("uid").to_pylist()
        rows = zip(uid, table.column("dropped_by").to_pylist(), table.column("reason").to_pylist(), strict=True)
        found |= {u: (by, why) for u, by, why in rows if u not in gone}
    return found


def diff_of(pool: Pool, a: str, b: str, samples: int = 0) -> Diff:
    opened, first, second = two_sides(a, b, pool=pool.storage.url, overrides=[])
    return compare(opened, first, second, samples=samples)


def check(
    found: Diff, a: dict[bytes, tuple[str | None, str | None]], b: dict[bytes, tuple[str | None, str | None]]
) -> None:
    """Every number against sets of uids."""
    kept_a, kept_b = ({u for u, (by, _) in side.items() if by is None} for side in (a, b))
    assert (found.total, found.kept_a, found.kept_b) == (len(a), len(kept_a), len(kept_b))
    assert (found.both, found.only_a, found.only_b) == (
        len(kept_a & kept_b), len(kept_a - kept_b), len(kept_b - kept_a)
    )  # fmt: skip
    either = len(kept_a | kept_b)
    assert found.jaccard == (len(kept_a & kept_b) / either if either else None)
    lost, gained = Counter(b[u] for u in kept_a - kept_b), Counter(a[u] for u in kept_b - kept_a)
    first_a, first_b = (Counter(by for by, _ in side.values()) for side in (a, b))
    for f in found.filters:
        id_a = f.pair.id if f.pair.a is not None else None
        id_b = (f.pair.id_b or f.pair.id) if f.pair.b is not None else None
        assert f.first_a == (None if id_a is None else first_a[id_a])
        assert f.first_b == (None if id_b is None else first_b[id_b])
        assert dict(f.reasons_lost) == {why: n for (by, why), n in lost.items() if by == id_b and why}
        assert dict(f.reasons_gained) == {why: n for (by, why), n in gained.items() if by == id_a and why}
        assert f.lost == sum(n for (by, _), n in lost.items() if by == id_b)
        assert f.gained == sum(n for (by, _), n in gained.items() if by == id_a)
    assert sum(f.lost for f in found.filters) == found.only_a
    assert sum(f.gained for f in found.filters) == found.only_b
    for table in found.tables:
        sums = tuple(sum(row[i] for row in table.rows) for i in (1, 2, 3))
        assert table.sizes == sums == (found.both, found.only_a, found.only_b)


keeps = st.lists(st.booleans(), min_size=sum(ROWS), max_size=sum(ROWS))
whys = st.lists(st.sampled_from(["small", "blurred", "<b>"]), min_size=sum(ROWS), max_size=sum(ROWS))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(keeps, whys), min_size=4, max_size=4), st.sets(st.integers(0, sum(ROWS) - 1), max_size=3))
def test_every_number_is_that_of_sets_of_uids(tmp_path_factory, filters, removed):
    pool = pools.synthetic(tmp_path_factory.mktemp("diff") / "pool", ROWS)
    x, y, z, w = (verdict(pool, n, k, why) for n, (k, why) in zip("xyzw", filters, strict=True))
    a = pools.add_pick(pool, "one", [("x", x), ("y", y)])
    b = pools.add_pick(pool, "two", [("z", z), ("x", x), ("w", w)])
    uid = [u for s in range(len(ROWS)) for u in pool.facts(s, ["uid"])[0].column("uid").to_pylist()]
    pool.remove(pa.array([uid[i] for i in sorted(removed)], pa.binary(16)), "takedown")
    pool = Pool.open(pool.storage.url)
    found = diff_of(pool, a, b, samples=4)
    check(found, fates(pool, a), fates(pool, b))
    assert found.rows.removed == len(removed)
    assert [(f.pair.id, f.pair.place, f.pair.same) for f in found.filters] == [
        ("z", "B", False), ("x", "both", True), ("w", "B", False), ("y", "A", False),
    ]  # fmt: skip
    of = {u: i for i, u in enumerate(uid)}
    for (kind, fate), places in found.shown.items():
        mine, other = (fates(pool, p) for p in ((a, b) if kind == ONLY_A else (b, a)))
        side = found.b if kind == ONLY_A else found.a
        assert kind in (ONLY_A, ONLY_B)
        assert (
            len(places)
            == len(set(places))
            == min(4, sum(by == side.fates[fate] and mine[u][0] is None for u, (by, _) in other.items()))
        )
        for shard, row in places:
            u = uid[sum(ROWS[:shard]) + row]
            assert mine[u][0] is None
            assert other[u][0] == side.fates[fate]
            assert of[u] not in removed


def alternating(pool: Pool, name: str, every: int) -> str:
    return verdict(pool, name, [i % every > 0 for i in range(sum(ROWS))], ["small"] * sum(ROWS))


def test_the_same_pick_and_an_empty_one(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", ROWS)
    a = pools.add_pick(pool, "one", [("x", alternating(pool, "x", 2))])
    none = pools.add_pick(pool, "none", [("no", verdict(pool, "no", [False] * sum(ROWS), ["all"] * sum(ROWS)))])
    same = diff_of(pool, a, a)
    assert (same.same_pick, same.same_samples, same.jaccard, same.only_a, same.only_b) == (True, True, 1.0, 0, 0)
    found = diff_of(pool, a, none)
    check(found, fates(pool, a), fates(pool, none))
    assert (found.kept_b, found.jaccard, found.same_samples) == (0, 0.0, False)
    empty = diff_of(pool, none, none)
    assert (empty.kept_a, empty.jaccard, empty.same_samples) == (0, None, True)


def test_picks_of_different_generations_are_compared_where_both_were(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [5, 7], claims=[2])
    early = pools.add_pick(pool, "one", [("x", pools.add_verdict(pool, "x", lambda s, u: np.arange(len(u)) > 0))])
    pools.add_claims(pool, [1], first=2)
    pools.write_facts(pool, 2, pools.facts_table(2, 9))
    late = pools.add_pick(pool, "two", [("y", pools.add_verdict(pool, "y", lambda s, u: np.arange(len(u)) > 1))])
    found = diff_of(pool, early, late)
    seen = fates(pool, early)
    check(found, seen, {u: f for u, f in fates(pool, late).items() if u in seen})
    assert (found.shards, found.total) == (2, 12)
    assert found.left_out[0].shards == 0
    assert vars(found.left_out[1]) == {"shards": 1, "rows": 9, "kept": 7}
    write_subset(pool, late, tmp_path / "late.npy")
    named = diff_of(pool, early, str(tmp_path / "late.npy"))
    assert vars(named.left_out[1]) == {"shards": 1, "rows": 9, "kept": 7}
    assert (named.kept_b, named.named) == (found.kept_b, (None, 5 + 7 + 9 - 6))


def test_a_pool_in_a_bucket(s3_root):
    pool = pools.synthetic(s3_root, ROWS)
    a = pools.add_pick(pool, "one", [("x", alternating(pool, "x", 2))])
    b = pools.add_pick(pool, "two", [("y", alternating(pool, "y", 3))])
    check(diff_of(pool, a, b, samples=3), fates(pool, a), fates(pool, b))
    pool.storage.delete(part_file(b, shard_name(0)))
    with pytest.raises(UserError, match=r"00000000.parquet is missing.*run its recipe again"):
        diff_of(pool, a, b)


def test_a_pick_without_a_shard_in_common(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [5, 7])
    a = pools.add_pick(pool, "one", [("x", pools.add_verdict(pool, "x", lambda s, u: np.arange(len(u)) > 0))])
    about = pool.about(a)
    for number, shards in ((0, [0]), (1, [1])):
        folder = f"picks/part{number}@000000000000"
        rel = part_file(a, shard_name(number))
        pools.write(pool, rel.replace(a, folder), pool.storage.read(rel))
        pools.about(pool, folder, **{**about, "recipe": f"part{number}", "shards": shards})
    found = diff_of(pool, "part0@000000000000", "part1@000000000000")
    assert (found.shards, found.total, found.jaccard) == (0, 0, None)
    assert [vars(o) for o in found.left_out] == [
        {"shards": 1, "rows": 5, "kept": 4},
        {"shards": 1, "rows": 7, "kept": 6},
    ]


# ---------------------------------------------------------------- files of uids


@pytest.mark.parametrize("kind", ["npy", "txt"])
def test_a_pick_against_a_published_subset(tmp_path, kind):
    pool = pools.synthetic(tmp_path / "pool", ROWS)
    a = pools.add_pick(pool, "one", [("x", alternating(pool, "x", 2))])
    b = pools.add_pick(pool, "two", [("y", alternating(pool, "y", 3))])
    path = tmp_path / f"theirs.{kind}"
    kept = [u.hex() for u, (by, _) in fates(pool, b).items() if by is None]
    if kind == "npy":
        write_subset(pool, b, path)
    else:
        random.Random(0).shuffle(kept)
        path.write_text("\n".join([kept[0].upper(), *kept[1:], "f" * 32, "", "7"]), encoding="utf-8")
    expected, found = diff_of(pool, a, b), diff_of(pool, a, str(path))
    for what in ("total", "kept_a", "kept_b", "both", "only_a", "only_b", "jaccard"):
        assert getattr(found, what) == getattr(expected, what), what
    assert found.named == (None, len(kept) + 2 * (kind == "txt"))
    assert [(f.pair.id, f.lost, f.gained) for f in found.filters] == [
        ("x", 0, expected.only_b), ("not_named", expected.only_a, 0),
    ]  # fmt: skip
    assert (found.other_copies, found.rows.other_texts) == (0, 0)


def test_a_uid_named_twice_is_two_copies(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [3])
    a = pools.add_pick(pool, "one", [("x", pools.add_verdict(pool, "x", lambda s, u: np.ones(len(u), bool)))])
    uid = [u.hex() for u in pool.facts(0, ["uid"])[0].column("uid").to_pylist()]
    (tmp_path / "list.txt").write_text("\n".join([*uid, uid[1]]))
    found = diff_of(pool, a, str(tmp_path / "list.txt"), samples=5)
    assert (found.both, found.rows.copies, found.rows.times, found.named) == (
        3,
        Counter({(1, 2): 1}),
        (3, 4),
        (None, 3),
    )
    assert found.shown == {(OTHER_COPIES, 0): [(0, 1)]}


# ---------------------------------------------------------------- copies and texts


def emit(*ways: tuple[int, Sequence[tuple[str, int, float]]]) -> Texts:
    return [{"copies": n, "texts": [{"source": s, "index": i, "p": p} for s, i, p in texts]} for n, texts in ways]


choices = st.tuples(st.sampled_from(["web", "blip"]), st.integers(0, 1), st.sampled_from([0.5, 1.0]))
ways = st.lists(st.tuples(st.integers(1, 2), st.lists(choices, max_size=2)), max_size=2)


@given(st.lists(st.tuples(ways, ways | st.none()), max_size=12))
def test_other_texts_are_found_row_by_row(rows):
    rows = [(a, a if b is None else b) for a, b in rows]
    arrays = [pa.array([emit(*row[i]) for row in rows], PICK.field("emit").type) for i in (0, 1)]
    times = [np.array([sum(n for n, _ in row[i]) for row in rows], np.int64) for i in (0, 1)]
    found = other_texts(*arrays, times[0] == times[1])
    for (a, b), said in zip(rows, found, strict=True):
        texts = [t for _, t in a] != [t for _, t in b]
        shares = sum(n for n, _ in a) == sum(n for n, _ in b) and [n for n, _ in a] != [n for n, _ in b]
        assert said == (texts or shares)


def pick_with(pool: Pool, name: str, emits: Sequence[Texts]) -> str:
    """A pick of one shard that keeps every row, with these texts."""
    folder = f"picks/{name}@000000000000"
    n = len(emits)
    times = [sum(w["copies"] for w in e) for e in emits]
    table = pa.table(
        [
            pa.nulls(n, pa.string()),
            pa.nulls(n, pa.string()),
            pa.array(times, pa.int32()),
            pa.array(emits, PICK[3].type),
        ],
        schema=PICK,
    )
    footer = pool.facts(0, ["uid"])[1]
    notes = {"rows": n, "uid_digest": footer["uid_digest"], "kept": n}
    pools.write(pool, part_file(folder, shard_name(0)), write_parquet(table, notes))
    pools.about(pool, folder, recipe=name, yaml=f"recipe: {name}", steps=[], columns={}, shards=[0])
    return folder


def test_copies_and_texts_of_what_both_keep(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [4])
    web, blip = ("web", 0, 1.0), ("blip", 0, 1.0)
    a = pick_with(pool, "one", [emit((1, [web]))] * 4)
    b = pick_with(pool, "two", [emit((1, [web])), emit((2, [web])), emit((1, [blip])), emit((1, [web]), (2, [blip]))])
    found = diff_of(pool, a, b, samples=9)
    assert (found.both, found.only_a, found.only_b, found.same_samples) == (4, 0, 0, False)
    assert found.rows.copies == Counter({(1, 2): 1, (1, 3): 1})
    assert (found.other_copies, found.rows.other_texts, found.rows.times) == (2, 2, (4, 7))
    assert {kind: {row for _, row in places} for (kind, _), places in found.shown.items()} == {
        "other copies": {1, 3}, "other texts": {2, 3},
    }  # fmt: skip


# ---------------------------------------------------------------- facts


def test_hosts_are_those_of_urls():
    told = {
        "http://Example.COM/a.jpg": "example.com",
        "https://user:pw@host.test:8080/x?y@z": "host.test",
        "https://[2001:DB8::1]:443/": "[2001:db8::1]",
        "HTTP://host.test?q": "host.test",
        "file:///a/b": "",
        "no url": "none",
        None: "none",
    }
    assert _hosts(pa.chunked_array([list(told)], pa.string())).to_pylist() == list(told.values())
    assert HOST.startswith("^")


def test_facts_are_counted_in_all_three_sets(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", ROWS)
    place = {
        "lang": {
            "folder": pools.add_column(
                pool,
                "language",
                lambda s, u: pa.table(
                    {"lang": pa.array([["en", "de", None][i % 3] for i in range(len(u))], pa.string())}
                ),
            ),
            "field": "lang",
        }
    }
    a = pools.add_pick(pool, "one", [("x", alternating(pool, "x", 2))])
    b = pools.add_pick(pool, "two", [("y", alternating(pool, "y", 3))], place)
    found = diff_of(pool, a, b)
    tables = {t.title: t for t in found.tables}
    assert list(tables) == ["language", "host", "shorter side as received, pixels", "longer to shorter side"]
    mine, other = fates(pool, a), fates(pool, b)
    expected: dict[str, dict[str, Counter[str]]] = {"language": {}, "host": {}, "shorter side as received, pixels": {}}
    for shard in range(len(ROWS)):
        facts = pool.facts(shard, ["uid", "url", "original_width", "original_height"])[0].to_pylist()
        for row, fact in enumerate(facts):
            in_a, in_b = mine[fact["uid"]][0] is None, other[fact["uid"]][0] is None
            kind = {(True, True): "both", (True, False): "a", (False, True): "b"}.get((in_a, in_b))
            low = min(fact["original_width"], fact["original_height"])
            names = (
                (64, "under 64"),
                (128, "64 to 127"),
                (256, "128 to 255"),
                (512, "256 to 511"),
                (1024, "512 to 1,023"),
            )
            side = next((n for bound, n in names if low < bound), "1,024 and more")
            values = {
                "language": ["en", "de", "none"][row % 3],
                "host": fact["url"].split("/")[2],
                "shorter side as received, pixels": side,
            }
            for title, value in values.items():
                if kind:
                    expected[title].setdefault(value, Counter())[kind] += 1
    for title, counts in expected.items():
        assert {v: (x, y, z) for v, x, y, z in tables[title].rows} == {
            v: (c["both"], c["a"], c["b"]) for v, c in counts.items()
        }


def test_the_largest_difference_comes_first_and_the_rest_is_one_row():
    names = [f"host{i:02}" for i in range(MOST + 3)]
    counts = [(10, 10, 10)] * len(names)
    counts[5], counts[7] = (10, 0, 30), (10, 10, 19)
    columns = [[c[i] for c in counts] for i in range(3)]
    found = _ranked("host", pa.table([names, *columns], ["value", "both", "only_a", "only_b"]))
    assert [row[0] for row in found.rows[:2]] == ["host05", "host07"]
    assert found.rows[-1][0] == "3 others"
    assert found.sizes == tuple(map(sum, columns))
    assert len(found.rows) == MOST + 1
    nobody = _ranked("host", pa.table([["x"], [0], [0], [0]], ["value", "both", "only_a", "only_b"]))
    assert nobody.rows == (("x", 0, 0, 0),)


def test_totals_do_not_depend_on_when_equal_values_are_summed(monkeypatch):
    made = [pa.table([[f"h{i % 5}"], [i], [1], [0]], ["value", "both", "only_a", "only_b"]) for i in range(40)]
    lazy, eager = Totals(), Totals()
    for table in made:
        lazy.add({"host": table})
    monkeypatch.setattr("curate.ask.diff.facts.COMPACT_ROWS", 0)
    for table in made:
        eager.add({"host": table})
    assert lazy.tables() == eager.tables()
    assert {v: n for v, n, *_ in lazy.tables()[0].rows} == {f"h{k}": sum(range(k, 40, 5)) for k in range(5)}


# ---------------------------------------------------------------- what does not fit


def test_files_that_do_not_fit_are_told(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", ROWS)
    a = pools.add_pick(pool, "one", [("x", alternating(pool, "x", 2))])
    b = pools.add_pick(pool, "two", [("y", alternating(pool, "y", 3))])
    rel = part_file(b, shard_name(0))
    whole = pool.storage.read(rel)
    pools.write(pool, rel, pool.storage.read(part_file(b, shard_name(2))))
    with pytest.raises(UserError, match="does not belong to shard 0 as it is now"):
        diff_of(pool, a, b)
    pools.write(pool, rel, whole)
    pools.about(pool, b, **{**pool.about(b), "steps": []})
    with pytest.raises(UserError, match=r"shard 0 names \['y'\], which its about.json does not"):
        diff_of(pool, a, b)
    (tmp_path / "pool" / rel).unlink()
    with pytest.raises(UserError, match=r"00000000.parquet is missing.*run its recipe again"):
        diff_of(pool, a, b)
