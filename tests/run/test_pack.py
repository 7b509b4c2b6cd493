"""Packs: each image and text is the pool's, order is the seed's alone, any cut of the work gives the same bytes."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.errors import PartialFailure, UserError
from curate.pool.columns import write_parquet
from curate.pool.layout import part_file
from curate.run.pack import drive, fill, scatter, write
from curate.run.pack.spec import PackSpec
from stages.base import IMAGE, Column, Stage, fact, shard_name
from stages.draws import hash64
from tests.run.packing import WEB, Packer, build, files_of, read_back, samples_of
from tests.tiny import sample

WEIRD = [
    "line\nbreak\r\n",
    "\x00\x01\x1b[31m",
    "emoji 👩‍👩‍👧, \u202eright to left",
    "",
    " ",
    ']]>{"a": 1}',
    "x" * 1_000_000,
]


def copies(n: int, source: str = "web") -> dict[str, Any]:
    return {"copies": n, "texts": [{"source": source, "index": 0, "p": 1.0}]}


def mixed() -> list[dict[str, Any]]:
    """70 samples, some dropped, some in several copies, one in none."""
    plan = [(), WEB, WEB, (copies(3),), WEB, (copies(0),), (copies(1), copies(2))]
    return [sample(i, emit=plan[i % 7]) for i in range(70)]


def cut(samples: list[dict[str, Any]], *sizes: int) -> list[list[dict[str, Any]]]:
    edges = np.cumsum([0, *sizes]).tolist()
    assert edges[-1] == len(samples)
    return [samples[a:b] for a, b in pairwise(edges)]


def test_each_copy_once_with_the_pools_bytes_in_the_order_of_its_hash(tmp_path: Path) -> None:
    samples = mixed()
    packer = Packer(build(tmp_path / "pool", cut(samples, 30, 0, 25, 15)))
    manifest = packer.pack(seed=5, samples=16)
    tars = read_back(files_of(packer))
    expected = {}
    for s in samples:
        n = sum(e["copies"] for e in s["emit"])
        expected |= {(f"{s['uid'].hex()}-{i}" if n > 1 else s["uid"].hex()): (s, i, n) for i in range(n)}
    packed = [p for tar in tars for p in tar]
    assert sorted(p["key"] for p in packed) == sorted(expected)
    for p in packed:
        s, number, n = expected[p["key"]]
        assert (p["image"], p["ext"], p["txt"].decode()) == (s["image"], s["format"], s["text"])
        assert (p["json"]["uid"], p["json"]["copy"], p["json"]["copies"]) == (s["uid"].hex(), number, n)
        names = ("url", "width", "height", "original_width", "original_height", "sha256", "list")
        assert {k: p["json"][k] for k in names} == {k: s[k] for k in names}
        assert p["json"]["texts"] == [{"source": "web", "index": 0, "text": s["text"], "p": 1.0}]

    def place(p: dict[str, Any]) -> int:
        uid = pa.array([bytes.fromhex(p["json"]["uid"])], pa.binary(16))
        return int(hash64(5, f"pack/{p['json']['copy']}", uid)[0])

    assert packed == sorted(packed, key=place)
    lengths = [len(t) for t in tars]
    assert len(tars) == -(-len(expected) // 16)
    assert max(lengths) - min(lengths) <= 1
    assert manifest["counts"]["samples"] == len(expected) == sum(lengths)
    assert (manifest["counts"]["kept"], manifest["counts"]["times"]) == (60, len(expected))


def test_manifest_and_sizes_say_what_is_there(tmp_path: Path) -> None:
    packer = Packer(build(tmp_path / "pool", [samples_of(25)]))
    manifest = packer.pack(samples=10)
    files = files_of(packer)
    tars = {n: d for n, d in files.items() if n.endswith(".tar")}
    assert list(tars) == ["00000000.tar", "00000001.tar", "00000002.tar"]
    assert set(files) == {*tars, "sizes.json", "manifest.json", "README.md", "croissant.json"}
    assert json.loads(files["sizes.json"]) == dict(zip(tars, (9, 8, 8), strict=True))
    assert json.loads(files["manifest.json"]) == manifest
    for name, data in tars.items():
        said = manifest["files"][name]
        assert (said["bytes"], said["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest["recipe"] == {"name": "demo", "yaml": "filters: []\n"}
    assert manifest["lists"] == packer.pool.claims()
    assert manifest["pack"] == PackSpec(samples=10).model_dump() | {"seed": 0}


def test_shards_of_the_pool_do_not_show_in_the_bytes(tmp_path: Path) -> None:
    samples = mixed()
    one = Packer(build(tmp_path / "one", [samples]))
    other = Packer(build(tmp_path / "other", cut(samples[::-1], 1, 40, 29)))
    one.pack(samples=13), other.pack(samples=13)
    tars = [{n: d for n, d in files_of(p).items() if n.endswith(".tar")} for p in (one, other)]
    assert tars[0] == tars[1]


def test_another_seed_is_another_order_of_the_same(tmp_path: Path) -> None:
    packer = Packer(build(tmp_path / "pool", [samples_of(40)]))
    packer.pack(seed=0), packer.pack(seed=1)
    first, second = ([s["key"] for s in read_back(files_of(packer, f))[0]] for f in packer.folders)
    assert first != second
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
@pytest.mark.parametrize("url", ["pool", "memory://pool"])
def test_tasks_sweeps_and_segments_do_not_show_in_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, url: str
) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    shards = cut(mixed(), 30, 0, 25, 15)
    plain = Packer(build(tmp_path / "plain", shards))
    plain.pack(samples=40, format=kind)
    for module, name, value in (
        (drive, "TASK", 60_000),
        (fill, "SWEEP", 9_000),
        (fill, "REMOTE_SWEEP", 20_000),
        (scatter, "SWEEP", 9_000),
        (write, "BUFFERS", 1),
    ):
        monkeypatch.setattr(module, name, value)
    where = str(tmp_path / url) if url == "pool" else f"{url}/{tmp_path.name}-{kind}"
    tight = Packer(build(where, shards))
    tight.pack(samples=40, format=kind)
    assert files_of(tight) == files_of(plain)
    assert tight.passes == ["pack: rank", *(["pack: scatter"] if "://" in url else []), "pack: fill"]
    assert plain.passes == ["pack: rank", "pack: fill"]


class Crash(BaseException):
    """As if the process were gone."""


@pytest.mark.parametrize("before", [True, False])
def test_a_kill_at_any_commit_and_then_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    shards = cut(samples_of(30), 10, 20)
    whole = Packer(build(tmp_path / "whole", shards))
    whole.pack(samples=10)
    monkeypatch.setattr(drive, "TASK", 60_000)  # a file a task
    pool = build(tmp_path / "pool", shards)
    real, crashes = type(pool.storage).commit, 0
    left = [0]

    def commit(self: Any, rel: str, data: Any) -> bool:
        left[0] -= 1
        if left[0] < 0 and before:
            raise Crash
        done = real(self, rel, data)
        if left[0] < 0:
            raise Crash
        return done

    monkeypatch.setattr(type(pool.storage), "commit", commit)
    while True:
        left[0] = crashes // 2  # what was committed may be committed again: give it more and more
        try:
            Packer(pool).pack(samples=10)
            break
        except Crash:
            crashes += 1
            assert crashes < 40
    assert crashes > 5
    assert files_of(Packer(pool)) == files_of(whole)
    assert [p for p in (tmp_path / "pool" / "tmp").rglob("*") if p.is_file()] == []


def test_a_whole_pack_is_not_made_again(tmp_path: Path) -> None:
    packer = Packer(build(tmp_path / "pool", [samples_of(5)]))
    first = packer.pack()
    packer.passes.clear()
    assert packer.pack() == first
    assert packer.passes == []


def test_another_driver_that_finishes_first_does_no_harm(tmp_path: Path) -> None:
    packer = Packer(build(tmp_path / "pool", [samples_of(30)]))
    run = packer.run

    def overtaken(passes: Any) -> Any:
        if passes[0].name == "pack: fill":
            Packer(packer.pool).pack(samples=10)  # and clears the ranks that ours is about to read
        return run(passes)

    packer.run = overtaken  # type: ignore[method-assign]
    manifest = packer.pack(samples=10)
    assert manifest == json.loads(files_of(packer)["manifest.json"])
    assert sum(json.loads(files_of(packer)["sizes.json"]).values()) == 30


def test_removed_samples_are_left_out_of_an_older_pick(tmp_path: Path) -> None:
    samples = samples_of(12)
    packer = Packer(build(tmp_path / "pool", [samples]))
    packer.pack()
    packer.pool.remove(pa.array([samples[4]["uid"]], pa.binary(16)), "taken down")
    (before,) = packer.folders
    manifest = packer.pack()
    (after,) = set(packer.folders) - {before}
    keys = {s["key"] for s in read_back(files_of(packer, after))[0]}
    assert keys == {s["uid"].hex() for s in samples} - {samples[4]["uid"].hex()}
    assert (manifest["counts"]["times"], manifest["counts"]["samples"]) == (12, 11)


def test_by_weight_one_copy_for_each_way_to_emit(tmp_path: Path) -> None:
    samples = [sample(0, emit=(copies(3),)), sample(1, emit=(copies(1), copies(4))), sample(2, emit=(copies(0),))]
    packer = Packer(build(tmp_path / "pool", [samples]))
    packer.pack(repeat="weight")
    packed = {s["key"]: s["json"] for s in read_back(files_of(packer))[0]}
    uids = [s["uid"].hex() for s in samples]
    assert {k: v["weight"] for k, v in packed.items()} == {uids[0]: 3, f"{uids[1]}-0": 1, f"{uids[1]}-1": 4}
    assert all("copies" not in v for v in packed.values())


class Captions(Stage):
    """Stands for a captioner whose files the test writes."""

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return pa.schema([("captions", TEXTS)])


TEXTS = pa.list_(pa.struct([("source", pa.string()), ("text", pa.string())]))


def test_several_sources_lists_of_texts_and_the_likeliest_for_plain_readers(tmp_path: Path) -> None:
    def choice(source: str, index: int, p: float) -> dict[str, Any]:
        return {"source": source, "index": index, "p": p}

    emits = [
        ({"copies": 1, "texts": [choice("web", 0, 0.2), choice("blip", 0, 0.4), choice("blip", 1, 0.4)]},),
        ({"copies": 1, "texts": [choice("web", 0, 1.0)]}, {"copies": 2, "texts": [choice("blip", 1, 1.0)]}),
        ({"copies": 1, "texts": [choice("blip", 2, 0.5), choice("web", 0, 0.5)]},),
    ]
    samples = [sample(i, emit=e) for i, e in enumerate(emits)]
    pool = build(tmp_path / "pool", [samples])
    said = [[{"source": "b", "text": f"{r}.{i}"} for i in range(3)] for r in range(3)]
    folder, footer = "columns/captions@0", pool.facts(0)[1]
    data = write_parquet(pa.table({"captions": pa.array(said, TEXTS)}), footer)
    pool.storage.commit(part_file(folder, shard_name(0)), data)
    stage = Captions()
    packer = Packer(pool, {"blip": Column(stage, "captions"), "web": fact("text")})
    manifest = drive.pack(
        pool, "picks/demo@0123456789ab", {"recipe": "demo", "yaml": "", "shards": [0]}, PackSpec(), 0,
        packer.sources, {stage: folder}, packer.run,
    )  # fmt: skip
    assert manifest["counts"]["samples"] == 5
    packed = {s["key"]: s for s in read_back(files_of(packer))[0]}
    a, b, c = (s["uid"].hex() for s in samples)
    assert {k: v["txt"].decode() for k, v in packed.items()} == {
        a: "0.0", f"{b}-0": "picture number 1", f"{b}-1": "1.1", f"{b}-2": "1.1", c: "2.2",
    }  # fmt: skip
    assert packed[a]["json"]["texts"] == [
        {"source": "web", "index": 0, "text": "picture number 0", "p": 0.2},
        {"source": "blip", "index": 0, "text": "0.0", "p": 0.4},
        {"source": "blip", "index": 1, "text": "0.1", "p": 0.4},
    ]
    assert [packed[f"{b}-{i}"]["json"]["copies"] for i in range(3)] == [3, 3, 3]


def test_weird_texts_and_further_columns_come_through_whole(tmp_path: Path) -> None:
    extra = {
        "punsafe": pa.float64(), "tags": pa.list_(pa.string()), "copies": pa.int64(), "blob": pa.binary(),
        "seen": pa.timestamp("ms"),
    }  # fmt: skip
    more = {"punsafe": 0.25, "tags": ["a", "\n"], "copies": 7, "blob": b"\xff", "seen": 0}
    samples = [sample(i, emit=WEB, text=t, url=None, **more) for i, t in enumerate(WEIRD)]
    packer = Packer(build(tmp_path / "pool", [samples], extra))
    packer.pack()
    packed = {s["key"]: s for s in read_back(files_of(packer))[0]}
    assert len(packed) == len(WEIRD)
    for s in samples:
        found = packed[s["uid"].hex()]
        assert found["txt"] == s["text"].encode()
        assert found["json"]["texts"][0]["text"] == s["text"]
        assert found["json"]["url"] is None
        others = {k: found["json"][k] for k in ("punsafe", "tags", "copies", "source_copies", "seen")}
        assert others == {
            "punsafe": 0.25, "tags": ["a", "\n"], "copies": 1, "source_copies": 7, "seen": "1970-01-01 00:00:00.000",
        }  # fmt: skip
        assert "blob" not in found["json"]


def test_nothing_kept_is_said(tmp_path: Path) -> None:
    packer = Packer(build(tmp_path / "pool", [[sample(0, emit=())]]))
    with pytest.raises(UserError, match="keeps no sample"):
        packer.pack()


def test_a_chosen_text_that_is_null_ends_the_pack(tmp_path: Path) -> None:
    bad = sample(1, emit=WEB, text=None)
    packer = Packer(build(tmp_path / "pool", [[sample(0, emit=WEB), bad]]))
    with pytest.raises(PartialFailure, match=f"sample {bad['uid'].hex()}: the pick chose a text that is null"):
        packer.pack()


def test_a_uid_that_is_twice_in_the_pool_is_an_error_not_a_lost_sample(tmp_path: Path) -> None:
    packer = Packer(build(tmp_path / "pool", [samples_of(4), samples_of(4)]))
    with pytest.raises(UserError, match="is in the pool twice"):
        packer.pack(samples=1)


def test_a_tar_that_is_cut_is_an_error_that_names_it(tmp_path: Path) -> None:
    pool = build(tmp_path / "pool", [samples_of(4)])
    tar = tmp_path / "pool" / "pixels" / pool.facts(0)[1]["tar"]
    tar.write_bytes(tar.read_bytes()[:3000])
    with pytest.raises(UserError, match=rf"{tar.name}: ends \d+ bytes too soon"):
        Packer(pool).pack()


def test_spec_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        PackSpec(shuffle=True)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        PackSpec(samples=0)
