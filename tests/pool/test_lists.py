"""Lists in a pool: who is kept, what is counted, and that no crash or race changes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import UserError
from curate.pool import spill as spilled
from curate.pool.columns import read_footer, uid_digest
from curate.pool.facts import LISTED, PLACE
from curate.pool.lists import Claim, Findings, Rows, claims, commit_claim, listed, next_number, register
from curate.pool.posix import PosixStorage
from curate.pool.storage import Storage
from curate.pool.uids import identify, parse_uid, uid_hex

STRING = pa.string()


@dataclass
class Given:
    """A source of rows (url, text, uid) held in memory, in batches of `step` rows."""

    name: str
    given: list[tuple[str | None, str | None, str | None]]
    step: int = 4
    readings: int = 0
    about: dict[str, Any] = field(default_factory=lambda: {"path": "memory"})

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.given).encode()).hexdigest()[:12]

    def survey(self, findings: Findings) -> Iterator[Rows]:
        self.readings += 1
        yield from self._batches()
        findings.columns = {"n": pa.field("n", pa.int64())}

    def rows(self, findings: Findings) -> Iterator[Rows]:
        self.readings += 1
        yield from self._batches()

    def _batches(self) -> Iterator[Rows]:
        for start in range(0, len(self.given), self.step):
            part = self.given[start : start + self.step]
            table = pa.table(
                {
                    "given": pa.array([g for _, _, g in part], STRING),
                    "url": pa.array([u for u, _, _ in part], STRING),
                    "text": pa.array([t for _, t, _ in part], STRING),
                    "content": pa.nulls(len(part), STRING),
                    "sha256": pa.nulls(len(part), STRING),
                    "place": pa.nulls(len(part), PLACE),
                    "n": pa.array(range(start, start + len(part)), pa.int64()),
                }
            )
            yield Rows(f"{self.name}.csv", np.arange(start + 2, start + 2 + len(part)), table)


def urls(*names: str) -> list[tuple[str | None, str | None, str | None]]:
    return [(f"http://x/{n}", f"text of {n}", None) for n in names]


def everything(storage: Storage, claim: Claim) -> pa.Table:
    return pa.concat_tables([listed(storage, claim, n) for n in claim.numbers])


def files(storage: Storage, folder: str = "lists") -> dict[str, bytes]:
    root = Path(storage.url)
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / folder).rglob("*")) if p.is_file()}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "pool")


# ---------------------------------------------------------------- the uid rule


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("uid", "url", "text", "content", "expected", "source_id"),
    [
        ("AbC", "u", "t", None, "0" * 29 + "abc", None),
        ("f" * 32, "u", "t", None, "f" * 32, None),
        ("f" * 33, "u", "t", None, md5("uid:" + "f" * 33), "f" * 33),
        ("photo 7", "u", "t", None, md5("uid:photo 7"), "photo 7"),
        ("12\n", "u", "t", None, md5("uid:12\n"), "12\n"),
        ("日本", None, None, None, md5("uid:日本"), "日本"),
        ("", "u", "t", None, md5("tu"), None),
        (None, "http://x/é", "ein Café\0\n", None, md5("ein Café\0\nhttp://x/é"), None),
        (None, "http://x", None, None, md5("http://x"), None),
        (None, None, "t", "sha256:" + "a" * 64, md5("tsha256:" + "a" * 64), None),
        (None, "u", "t", "sha256:" + "a" * 64, md5("tu"), None),
    ],
)
def test_uid_rule(uid, url, text, content, expected, source_id):
    found = identify(*(pa.array([v], STRING) for v in (uid, url, text, content)))
    assert uid_hex(found.uid[0].as_py()) == expected
    assert found.source_id[0].as_py() == source_id
    assert bool(found.given[0]) == bool(uid)
    if uid:
        assert parse_uid(uid) == (bytes.fromhex(expected), source_id)


def test_check_tells_apart_what_concatenation_confuses():
    found = identify(pa.nulls(2, STRING), pa.array(["c", "bc"]), pa.array(["ab", "a"]), pa.nulls(2, STRING))
    assert found.uid[0] == found.uid[1]
    assert found.check[0] != found.check[1]


# ---------------------------------------------------------------- one list


def test_shards_have_exactly_the_size_and_the_order_of_the_list(storage):
    claim = register(storage, Given("a", urls(*"abcdefghij")), 4)
    assert (claim.first, claim.shards, claim.rows, list(claim.numbers)) == (0, 3, 10, [0, 1, 2])
    assert [listed(storage, claim, n).num_rows for n in claim.numbers] == [4, 4, 2]
    table = everything(storage, claim)
    assert table.schema == pa.schema([*LISTED, ("n", pa.int64())])
    assert table.column("n").to_pylist() == list(range(10))
    assert table.column("uid")[3].as_py().hex() == md5("text of dhttp://x/d")
    footer = read_footer(storage, claim.file(1))
    assert footer == {"rows": 4, "uid_digest": uid_digest(listed(storage, claim, 1).column("uid"))}


def test_of_recurring_samples_the_first_stays(storage):
    claim = register(storage, Given("a", urls(*"abacbd")), 10)
    assert (claim.rows, claim.duplicate_uid, claim.known) == (4, 2, 0)
    assert everything(storage, claim).column("n").to_pylist() == [0, 1, 3, 5]


def test_a_given_uid_for_two_samples_names_both_rows(storage):
    source = Given("a", [("u1", "one", "7"), *urls(*"abcde"), ("u2", "two", "007")])
    with pytest.raises(UserError) as e:
        register(storage, source, 10)
    for part in (
        "00000007 is given twice",
        "a.csv:2: url 'u1', text 'one'",
        "a.csv:8: url 'u2', text 'two'",
        "uid: null",
    ):
        assert part in str(e.value)
    assert claims(storage) == []


def test_a_given_uid_with_the_same_url_and_text_is_a_duplicate(storage):
    claim = register(storage, Given("a", [("u1", "one", "x y"), ("u1", "one", "x y"), ("u1", None, "z")]), 10)
    assert (claim.rows, claim.duplicate_uid) == (2, 1)
    assert everything(storage, claim).column("source_id").to_pylist() == ["x y", "z"]


def test_an_empty_list_is_an_error_that_says_so(storage):
    with pytest.raises(UserError, match="empty list"):
        register(storage, Given("a", []), 10)


def test_temporaries_are_gone(storage):
    register(storage, Given("a", urls("a")), 10)
    assert files(storage, "tmp") == {}


# ---------------------------------------------------------------- several lists


def test_what_the_pool_knows_is_left_out_and_counted(storage):
    first = register(storage, Given("a", urls(*"abc")), 2)
    second = register(storage, Given("b", urls(*"cadaXd")), 2)
    assert (second.first, second.rows, second.known, second.duplicate_uid) == (first.first + first.shards, 2, 2, 2)
    assert everything(storage, second).column("text").to_pylist() == ["text of d", "text of X"]
    assert next_number(claims(storage)) == 3


@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_on_object_stores(kind, request, tmp_path):
    url = request.getfixturevalue("s3_root") if kind == "s3" else f"memory://{tmp_path.name}/pool"
    storage = Storage.at(url)
    register(storage, Given("a", urls(*"abc")), 2)
    second = register(storage, Given("b", urls(*"cdae")), 2)
    assert (second.first, second.rows, second.known) == (2, 2, 2)
    assert claims(storage)[1] == second
    assert everything(storage, second).column("text").to_pylist() == ["text of d", "text of e"]
    again = Given("b", urls(*"cdae"))
    assert (register(storage, again, 2), again.readings) == (second, 0)


def test_a_list_with_nothing_new_takes_no_number(storage):
    register(storage, Given("a", urls(*"abc")), 2)
    before = files(storage, "")
    again = register(storage, Given("b", urls(*"cb")), 2)
    assert (again.shards, again.rows, again.known) == (0, 0, 2)
    assert files(storage, "") == before


def test_a_given_uid_that_the_pool_has_for_another_sample(storage):
    register(storage, Given("old", [("u1", "one", "7")]), 10)
    with pytest.raises(UserError) as e:
        register(storage, Given("new", [*urls("a"), ("u2", "two", "7")]), 10)
    assert "new.csv:3: url 'u2'" in str(e.value)
    assert "row 1 (list old): url 'u1', text 'one'" in str(e.value)
    known = register(storage, Given("same", [("u1", "one", "7")]), 10)
    assert (known.rows, known.known) == (0, 1)


def test_the_same_list_again_reads_nothing(storage):
    first = register(storage, Given("a", urls(*"abc")), 2)
    again = Given("a", urls(*"abc"))
    assert register(storage, again, 2) == first
    assert again.readings == 0


def test_claims_of_other_kinds_only_take_numbers(storage):
    register(storage, Given("a", urls("a")), 10)
    retry = Claim(list="a", hash="0" * 12, kind="retry", first=1, shards=3, rows=30)
    assert commit_claim(storage, retry)
    assert not commit_claim(storage, retry)
    assert register(storage, Given("b", urls("b")), 10).first == 4


# ---------------------------------------------------------------- races and crashes


class Racing(PosixStorage):
    """Somebody else claims just before our first claim."""

    def __init__(self, root: str, other: Given) -> None:
        super().__init__(root)
        self.other: Given | None = other

    def commit(self, rel: str, data: bytes | Path) -> bool:
        if rel.startswith("lists/claims/") and self.other:
            other, self.other = self.other, None
            register(Storage.at(self.url), other, 2)
        return super().commit(rel, data)


def test_who_loses_the_number_leaves_out_what_the_winner_has(tmp_path):
    storage = Racing(str(tmp_path / "pool"), Given("winner", urls(*"abx")))
    mine = register(storage, Given("mine", urls(*"abcd")), 2)
    winner = claims(storage)[0]
    assert (winner.list, winner.rows) == ("winner", 3)
    assert (mine.first, mine.rows, mine.known) == (2, 2, 2)
    assert everything(storage, mine).column("text").to_pylist() == ["text of c", "text of d"]


def test_two_drivers_with_the_same_list_share_one_claim(tmp_path):
    storage = Racing(str(tmp_path / "pool"), Given("a", urls(*"abcb")))
    mine = register(storage, Given("a", urls(*"abcb")), 2)
    assert claims(storage) == [mine]
    assert (mine.first, mine.rows, mine.duplicate_uid) == (0, 3, 1)


class Killed(Exception):
    pass


class Dying(PosixStorage):
    """Dies at the n-th commit, before it."""

    def __init__(self, root: str, left: int) -> None:
        super().__init__(root)
        self.left = left

    def commit(self, rel: str, data: bytes | Path) -> bool:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().commit(rel, data)


@pytest.mark.parametrize("after", range(6))
def test_killed_at_any_commit_the_rerun_makes_the_same_files(tmp_path, after):
    lists = [Given("first", urls(*"xyz")), Given("a", urls(*"abxcdbefg"))]
    whole, broken = Storage.at(tmp_path / "whole"), Storage.at(tmp_path / "broken")
    for source in lists:
        register(whole, source, 2)
    register(broken, lists[0], 2)
    with pytest.raises(Killed):
        register(Dying(broken.url, after), lists[1], 2)  # uid run, claim, four shards: six commits
    register(broken, lists[1], 2)
    register(broken, Given("later", urls("q")), 2)
    assert {n: d for n, d in files(broken).items() if "later" not in n and "00000006" not in n} == files(whole)


def test_a_later_list_does_not_change_an_unfinished_earlier_one(tmp_path):
    storage = Storage.at(tmp_path / "pool")
    with pytest.raises(Killed):
        register(Dying(storage.url, 2), Given("a", urls(*"abc")), 2)
    later = register(storage, Given("b", urls(*"bcd")), 2)
    assert later.known == 2
    mine = register(storage, Given("a", urls(*"abc")), 2)
    assert everything(storage, mine).column("text").to_pylist() == ["text of a", "text of b", "text of c"]


def test_input_that_changed_behind_its_digest_is_refused(tmp_path, monkeypatch):
    storage = Storage.at(tmp_path / "pool")
    monkeypatch.setattr(Given, "hash", "0" * 12)
    with pytest.raises(Killed):
        register(Dying(storage.url, 2), Given("a", urls(*"abc")), 2)
    with pytest.raises(UserError, match="counts 3 rows, its input gives 2"):
        register(storage, Given("a", urls(*"ab")), 2)


# ---------------------------------------------------------------- the invariant

letters = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xy")), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(letters, min_size=1, max_size=4), at_once=st.sampled_from([1, 3, 1000]))
def test_every_row_is_kept_or_duplicate_or_known_once(tmp_path_factory, batches, at_once):
    storage = Storage.at(tmp_path_factory.mktemp("pool"))
    in_pool: set[bytes] = set()
    before, spilled.AT_ONCE = spilled.AT_ONCE, at_once
    try:
        for i, rows in enumerate(batches):
            source = Given(f"l{i}", [(u, t, None) for u, t in rows], step=3)
            claim = register(storage, source, 3)
            mine, expected = set(), []
            for n, (u, t) in enumerate(rows):
                uid = parse_uid(md5(t + u))[0]
                if uid not in in_pool and uid not in mine:
                    expected.append(n)
                mine.add(uid)
            kept = everything(storage, claim).column("n").to_pylist() if claim.shards else []
            assert kept == expected
            assert claim.rows + claim.duplicate_uid + claim.known == len(rows)
            assert claim.known == len(mine & in_pool)
            in_pool |= mine
    finally:
        spilled.AT_ONCE = before
    numbers = [n for c in claims(storage) for n in c.numbers]
    assert numbers == list(range(len(numbers)))


def test_uids_that_share_their_hash_are_told_apart(monkeypatch, storage):
    monkeypatch.setattr(spilled, "mixed", lambda high, low: np.zeros(len(high), np.uint64))
    register(storage, Given("a", urls(*"abcdef")), 10)
    second = register(storage, Given("b", urls(*"fxebya")), 10)
    assert everything(storage, second).column("text").to_pylist() == ["text of x", "text of y"]
    assert second.known == 4


def test_counting_uids_spread_over_all_buckets(tmp_path):
    spill = spilled.Spill(tmp_path)
    n = 100_000
    spill.add(
        identify(pa.array([str(i) for i in range(n)]), pa.nulls(n, STRING), pa.nulls(n, STRING), pa.nulls(n, STRING))
    )
    spill.finish()
    assert spill.sizes.sum() == n
    assert spill.sizes.min() > 200
    assert spill.sizes.max() < 700
