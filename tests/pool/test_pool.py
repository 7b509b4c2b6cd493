"""A pool's settings bind, its claims number its shards, and its digest names exactly what it holds."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pools import add_claims, facts_table, synthetic, write_facts
from tiny import PIXELS_SETTINGS, add_shard, sample, tiny_pool

from curate.errors import UserError
from curate.pool.facts import FACTS, UID
from curate.pool.layout import folder_name, short_hash
from curate.pool.pool import Pool
from curate.run.fetch.spec import IngestSpec


def test_a_pool_is_made_once_and_opened_after(tmp_path: Path) -> None:
    made = Pool.create(str(tmp_path / "p"), {"resize": "long", "side": 512}, 100)
    before = (tmp_path / "p" / "pool.json").read_bytes()
    again = Pool.create(str(tmp_path / "p"), {"side": 512, "resize": "long"}, 100)
    assert again.settings == made.settings == Pool.open(str(tmp_path / "p")).settings
    assert (tmp_path / "p" / "pool.json").read_bytes() == before
    assert made.settings["shard_size"] == 100
    assert made.settings["pixels"] == {"resize": "long", "side": 512}
    assert (made.claims(), made.claimed(), made.shards()) == ([], [], [])


def test_no_pool_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/p: there is no pool here; `curate run RECIPE` makes one"):
        Pool.open(str(tmp_path / "p"))
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pool.json").write_text(json.dumps({"format": 2, "shard_size": 1, "pixels": {}}))
    with pytest.raises(UserError, match="pool format 2; this curate reads 1: use the version that made it"):
        Pool.open(str(tmp_path))


def test_other_settings_are_refused_and_every_difference_is_named(tmp_path: Path) -> None:
    url = str(tmp_path / "p")
    Pool.create(url, IngestSpec().pixels(), 100)
    with pytest.raises(UserError) as e:
        Pool.create(url, IngestSpec(side=256, quality=90, format=None).pixels(), 50)
    message = str(e.value)
    assert message.splitlines()[1:-1] == [
        "  format: the pool has 'jpg', the recipe says None",
        "  quality: the pool has 95, the recipe says 90",
        "  shard_size: the pool has 100, the recipe says 50",
        "  side: the pool has 512, the recipe says 256",
    ]
    assert message.splitlines()[0] == f"{url}: this pool was made with other settings"
    assert "name another pool (`pool:`)" in message.splitlines()[-1]


def test_a_setting_that_one_side_does_not_know_is_a_difference(tmp_path: Path) -> None:
    pool = Pool.create(str(tmp_path / "p"), {"resize": "none"}, 100)
    with pytest.raises(UserError, match=r"colour: the pool has None, the recipe says 'grey'"):
        pool.refuse_other_settings({"resize": "none", "colour": "grey"}, 100)
    with pytest.raises(UserError, match=r"resize: the pool has 'none', the recipe says None"):
        pool.refuse_other_settings({}, 100)


def test_manners_on_the_web_are_no_setting_of_the_pool(tmp_path: Path) -> None:
    Pool.create(str(tmp_path / "p"), IngestSpec().pixels(), 100)
    Pool.create(str(tmp_path / "p"), IngestSpec(timeout_s=1, concurrency=3, contact="a@b.c").pixels(), 100)


# ---------------------------------------------------------------- claims and shards


def test_claims_number_the_shards_in_order_and_markers_say_which_are_there(tmp_path: Path) -> None:
    pool = synthetic(tmp_path / "p", [5, 6, 7], claims=[2, 3])
    assert [(c["first"], c["shards"]) for c in pool.claims()] == [(0, 2), (2, 3)]
    assert pool.claimed() == [0, 1, 2, 3, 4]
    assert pool.shards() == [0, 1, 2], "two are claimed and not fetched yet"
    assert pool.shards([1, 4]) == [1]


def test_the_eleventh_claim_comes_after_the_second(tmp_path: Path) -> None:
    pool = synthetic(tmp_path / "p", [1], claims=[9])
    add_claims(pool, [2, 100], first=9)
    add_claims(pool, [1], first=111)
    assert pool.claimed() == list(range(112))


def test_images_without_a_claim_are_not_the_pools(tmp_path: Path) -> None:
    pool = synthetic(tmp_path / "p", [5, 6], claims=[1])
    assert pool.shards() == [0]


# ---------------------------------------------------------------- shape and digest


def test_the_shape_and_a_digest_that_a_new_shard_changes(tmp_path: Path) -> None:
    pool = synthetic(tmp_path / "p", [5, 6], claims=[3])
    shape, digest = pool.shape()
    assert (shape.shards, shape.rows, shape.total) == ((0, 1), (5, 6), 11)
    assert pool.shape([0, 1]) == (shape, digest)
    write_facts(pool, 2, facts_table(2, 4))
    grown, other = pool.shape()
    assert grown.rows == (5, 6, 4)
    assert other != digest
    assert pool.shape([0, 1])[1] == digest, "of the shards that were there before"


def test_other_samples_in_as_many_rows_are_another_generation(tmp_path: Path) -> None:
    digests = {synthetic(tmp_path / str(seed), [5, 6], seed=seed).shape()[1] for seed in (0, 1)}
    assert len(digests) == 2
    assert synthetic(tmp_path / "again", [5, 6], seed=0).shape()[1] in digests


def test_equal_rows_in_another_shard_are_another_generation(tmp_path: Path) -> None:
    pool = synthetic(tmp_path / "p", [5, 6], claims=[4])
    before = pool.shape([0, 1])[1]
    write_facts(pool, 3, facts_table(1, 6))
    assert pool.shape([0, 3])[1] != before


def test_an_empty_pool_has_a_shape(tmp_path: Path) -> None:
    shape, _ = Pool.create(str(tmp_path / "p"), PIXELS_SETTINGS, 10).shape()
    assert (shape.shards, shape.rows, shape.total) == ((), (), 0)


def test_facts_of_a_shard(tmp_path: Path) -> None:
    pool = tiny_pool(str(tmp_path / "p"), shards=1, rows=3)
    table, footer = pool.facts(0)
    assert table.schema.equals(FACTS)
    assert (footer["rows"], len(footer["uid_digest"])) == (3, 32)
    assert (tmp_path / "p" / "pixels" / footer["tar"]).is_file()
    assert pool.facts(0, ["uid", "text"])[0].column_names == ["uid", "text"]


# ---------------------------------------------------------------- notes and removed uids


def test_the_first_note_on_a_folder_stays(tmp_path: Path) -> None:
    pool = Pool.create(str(tmp_path / "p"), PIXELS_SETTINGS, 10)
    assert pool.about("columns/x@1") == {}
    pool.describe_folder("columns/x@1", {"identity": 1})
    pool.describe_folder("columns/x@1", {"identity": 2})
    assert pool.about("columns/x@1") == {"identity": 1}


def test_removed_uids_are_a_sorted_set_from_all_files(tmp_path: Path) -> None:
    pool = Pool.create(str(tmp_path / "p"), PIXELS_SETTINGS, 10)
    assert pool.removed.equals(pa.array([], UID))
    nobody = pool.removed_digest()
    a, b, c = (bytes([n]) * 16 for n in (1, 2, 3))
    pool.remove(pa.array([c, a, c], UID), "first")
    assert pool.removed.to_pylist() == [a, c]
    one = pool.removed_digest()
    pool.remove(pa.array([b, a], UID), "second")
    assert pool.removed.to_pylist() == [a, b, c]
    assert Pool.open(pool.storage.url).removed.to_pylist() == [a, b, c]
    assert len({nobody, one, pool.removed_digest()}) == 3


def test_removing_the_same_uids_again_changes_nothing(tmp_path: Path) -> None:
    pool = Pool.create(str(tmp_path / "p"), PIXELS_SETTINGS, 10)
    uids = [bytes([n]) * 16 for n in (1, 2)]
    first = pool.remove(pa.array(uids, UID), "owner asked")
    digest = pool.removed_digest()
    assert pool.remove(pa.array(uids[::-1], UID), "owner asked again") == first
    assert pool.removed_digest() == digest
    assert len(pool.storage.list("removed")) == 1


# ---------------------------------------------------------------- names


def test_folder_names_are_one_path_part() -> None:
    assert folder_name("columns", "phash", "0123456789ab") == "columns/phash@0123456789ab"
    assert folder_name("columns", "my.module:Stage", "1") == "columns/my.module.Stage@1"
    assert folder_name("picks", "../../etc", "1").count("/") == 1


def test_short_hashes_look_at_values_not_at_the_order_of_keys() -> None:
    assert short_hash({"a": 1, "b": [1, 2]}) == short_hash({"b": [1, 2], "a": 1})
    assert short_hash({"a": 1}) != short_hash({"a": 2}) != short_hash({"a": "2"})
    assert short_hash("ä") != short_hash("a")
    assert len(short_hash(None)) == 12


def test_a_pool_on_an_object_store(s3_root: str) -> None:
    pool = tiny_pool(s3_root, shards=2, rows=3)
    _, before = pool.shape()
    add_shard(pool, 2, [sample(100)])
    shape, after = pool.shape()
    assert shape.rows == (3, 3, 1)
    assert after != before
    with pytest.raises(UserError, match=r"shard_size: the pool has 3, the recipe says 4"):
        Pool.create(s3_root, PIXELS_SETTINGS, 4)
    with pytest.raises(UserError, match="there is no pool here"):
        Pool.open(s3_root + "-nothing")
