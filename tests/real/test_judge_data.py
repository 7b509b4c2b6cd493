"""The pools that recipes are judged on: faults are planted as said, and nothing held out is in them.

Hashes are checked by `imagehash`, what a recipe keeps by reading the tars of its pack.
"""

from __future__ import annotations

import io
import random
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import judge_data
import judge_demo
from judge_data import CLASSES, COPIES, HELD_PER_CLASS, HELD_PRODUCTS, MISMATCHED, NEAR, SAID, Made, Picture

from curate.recipe import load_recipe
from tests.real.jobs import packed, run
from training_smoke.evaluate import Folder

RECIPES = Path(judge_data.__file__).with_name("judge_recipes")
SEED = 3


@pytest.fixture(scope="module")
def made(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return judge_data.make("cifar10", shared_data, tmp_path_factory.mktemp("judge"), SEED)


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def phash(image: bytes) -> int:
    return int(str(imagehash.phash(Image.open(io.BytesIO(image)).convert("RGB"))), 16)


def nouns(caption: str) -> set[str]:
    """The classes that a caption speaks of."""
    return {*CLASSES} & {*caption.split()}


def test_a_half_is_mismatched_and_a_quarter_are_copies(made: Made) -> None:
    found = Counter(r["truth"] for r in rows(made.pool))
    distinct = found["clean"] + found["mismatched"]
    assert found["mismatched"] / distinct == pytest.approx(MISMATCHED, abs=1e-3)
    assert found["copy"] / found.total() == pytest.approx(COPIES, abs=1e-3)
    assert made.counts == {"distinct": distinct, "rows": found.total(), "clean": 300, "held_out": 1000, "near": 0}


def test_captions_say_the_class_of_the_picture_where_they_match_and_another_where_not(made: Made) -> None:
    for r in rows(made.pool):
        assert len(nouns(r["caption"])) == 1
        assert (nouns(r["caption"]) == {r["label"]}) is r["matches"]
        assert r["matches"] is {"clean": True, "mismatched": False}.get(r["truth"], r["matches"])
    clean = rows(made.clean)
    assert all(nouns(r["caption"]) == {r["label"]} for r in clean)
    assert Counter(Counter(r["picture"] for r in clean).values()) == {len(SAID): 300}  # a row for each caption


def test_copies_are_of_pictures_that_are_there_and_look_the_same(made: Made) -> None:
    first = {r["picture"]: r for r in rows(made.pool) if r["truth"] != "copy"}
    again = [r for r in rows(made.pool) if r["truth"] == "copy"]
    same = [r["image"] == first[r["picture"]]["image"] for r in again]
    assert 0.4 < np.mean(same) < 0.6  # the others were encoded anew
    apart = [(phash(r["image"]) ^ phash(first[r["picture"]]["image"])).bit_count() for r in again]
    assert np.mean(np.array(apart) <= NEAR) > 0.9
    assert all(r["matches"] == first[r["picture"]]["matches"] for r in again)


def test_pool_tenth_and_held_out_share_no_picture(made: Made, shared_data: Path) -> None:
    held, free, _ = judge_data.split("cifar10", shared_data)
    pool, clean = ({r["picture"] for r in rows(p)} for p in (made.pool, made.clean))
    assert not pool & clean
    assert pool | clean == {p.key for p in free}
    assert not {p.key for p in held} & {p.key for p in free}
    hashes = np.array([phash(p.image) for p in held], np.uint64)
    few = random.Random(0).sample(free, 300)
    assert min(int(np.bitwise_count(hashes ^ np.uint64(phash(p.image))).min()) for p in few) > NEAR


def test_pictures_near_to_a_held_out_one_are_left_out(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, free, _ = judge_data.split("cifar10", shared_data)
    twin = judge_data.encoded_anew(held[0].image, quality=95)
    assert (phash(twin) ^ phash(held[0].image)).bit_count() <= NEAR
    pictures = [held[0], free[0], Picture("twin", twin, ("a twin",))]
    monkeypatch.setattr(judge_data, "_read", lambda source, data: iter(pictures))
    found = judge_data.split.__wrapped__("cifar10", shared_data)
    assert [[p.key for p in part] for part in found[:2]] == [[held[0].key], [free[0].key]]
    assert found[2] == 1


def test_the_held_out_set_is_a_folder_that_evaluation_reads(made: Made, shared_data: Path) -> None:
    folder = Folder.open(str(made.held_out))
    answers = Counter(s.answer for s in folder.samples())
    assert answers == dict.fromkeys(range(10), HELD_PER_CLASS)
    held, _, _ = judge_data.split("cifar10", shared_data)
    first = next(iter(folder.samples()))
    assert folder.classnames[first.answer] == held[0].label  # type: ignore[index]
    shown = [np.asarray(Image.open(io.BytesIO(b)).convert("RGB")) for b in (first.image, held[0].image)]
    assert np.array_equal(*shown)


def test_the_seed_decides_everything(made: Made, shared_data: Path, tmp_path: Path) -> None:
    again = judge_data.make("cifar10", shared_data, tmp_path, SEED)
    other = judge_data.make("cifar10", shared_data, tmp_path, SEED + 1)
    assert (again.pool.read_bytes(), again.clean.read_bytes()) == (made.pool.read_bytes(), made.clean.read_bytes())
    truth = [{r["picture"]: r["truth"] for r in rows(m.pool) if r["truth"] != "copy"} for m in (made, other)]
    both = truth[0].keys() & truth[1].keys()
    assert 0.4 < np.mean([truth[0][k] == truth[1][k] for k in both]) < 0.6


@cache
def products(data: Path) -> tuple[list[Picture], list[Picture]]:
    """(held out, others), unhashed: to hash 4,307 pictures takes long."""
    found = list(judge_data._products(data / "images/pairs_web_products_coco.parquet"))
    return [p for p in found if p.held_out], [p for p in found if not p.held_out]


def test_titles_of_held_out_products_are_of_one_picture(shared_data: Path) -> None:
    held, free = products(shared_data)
    titles = {p.captions[0] for p in held}
    assert len(held) == len(titles) == HELD_PRODUCTS
    assert not titles & {p.captions[0] for p in free}


def test_a_product_is_never_mismatched_with_its_own_title(shared_data: Path) -> None:
    _, free = products(shared_data)
    title = {p.key: p.captions[0] for p in free}
    found = judge_data.faulty(free[:600], np.random.default_rng(0))
    assert all((r["caption"] == title[r["picture"]]) is r["matches"] for r in found)


def test_every_recipe_of_the_benchmark_is_one() -> None:
    names = {p.stem for p in RECIPES.glob("*.yaml")}
    assert {load_recipe(str(p)).name for p in RECIPES.glob("*.yaml")} == names
    assert {"oracle", "dedup", "score50", "clean", "judged"} <= names


def test_the_oracle_keeps_the_clean_and_dedup_one_of_each(made: Made, tmp_path: Path) -> None:
    assert len({r["uid"] for r in rows(made.pool)}) == made.counts["rows"]
    kept: dict[str, list[dict[str, Any]]] = {}
    for name in ("oracle", "dedup"):
        recipe = load_recipe(str(RECIPES / f"{name}.yaml")).raw
        recipe |= {"pool": str(tmp_path / "pool"), "source": [{**recipe["source"], "path": str(made.pool)}]}
        done = run(recipe, tmp_path)
        folder = next((done.pool / "packs").glob(f"{name}@*"))
        kept[name] = [s.about for s in packed(folder).values()]
    expected = Counter(r["picture"] for r in rows(made.pool) if r["truth"] == "clean")
    assert Counter(a["picture"] for a in kept["oracle"]) == expected
    copied = {r["picture"] for r in rows(made.pool) if r["truth"] == "copy"}
    left = Counter(a["picture"] for a in kept["dedup"])
    assert max(left[p] for p in copied) <= 3  # a copy at low quality may hash farther away than the filter looks
    assert len(kept["dedup"]) < made.counts["distinct"] + 20


def found(none: float, score: float, oracle: float, random: float, again: float) -> judge_demo.Found:
    scores = {"no_filter": none, "score50": score, "oracle": oracle, "random": random, "no_filter again": again}
    metrics = {entry: {"acc1": value / 100, "positive_rank": -value} for entry, value in scores.items()}
    return judge_demo.Found({}, {"clip": metrics}, dict.fromkeys(scores, 9), 0.8, 0.7, {}, 1.0)


GOOD = [found(20, 30, 32, 20.5, 19.8), found(22, 33, 33, 21.5, 22.4), found(21, 30, 34, 21.1, 20.9)]


@pytest.mark.parametrize("metric", ["acc1", "positive_rank"])
def test_the_bars_hold_where_the_order_does_and_smaller_ranks_are_better(metric: str) -> None:
    said = judge_demo.verdict(GOOD, "clip", metric)
    gain = said.differences["score50", "no_filter"]
    assert (gain.mean, gain.wins) == (pytest.approx(10.0), 3)
    assert {name: b["ok"] for name, b in judge_demo.bars_of({"x": said}).items()} == {
        "x_filtered_over_none": True,
        "x_oracle_over_none": True,
        "x_oracle_over_filtered": True,
        "x_random_over_none": True,
        "x_no_filter_again_over_none": True,
    }


@pytest.mark.parametrize(
    ("change", "bar"),
    [
        ({"score": -9.9}, "x_filtered_over_none"),
        ({"oracle": -11}, "x_oracle_over_none"),
        ({"score": 30}, "x_oracle_over_filtered"),
        ({"random": 8}, "x_random_over_none"),
        ({"again": -8}, "x_no_filter_again_over_none"),
    ],
)
def test_a_bar_fails_where_its_claim_does(change: dict[str, float], bar: str) -> None:
    names = ("none", "score", "oracle", "random", "again")
    plain = [dict(zip(names, [v["acc1"] * 100 for v in f.scores["clip"].values()], strict=True)) for f in GOOD]
    moved = [found(**{name: value + change.get(name, 0) for name, value in p.items()}) for p in plain]
    assert judge_demo.bars_of({"x": judge_demo.verdict(moved, "clip", "acc1")})[bar]["ok"] is False
