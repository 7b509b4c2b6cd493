"""CapFilt from end to end: what is in the pack, going on after a kill, and that the filter tells wrong pairs."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.errors import UserError
from curate.recipe import load_recipe
from curate.run.capfilt.main import Asked, capfilt, prepare
from curate.run.capfilt.recipe import RECIPE, CapFilt, Web, write_recipe
from curate.run.capfilt.start import Start
from curate.run.capfilt.summary import lines, summary
from curate.run.main import run_recipe
from curate.run.progress import Telling
from tests.run.capfilt_parts import CLEAN, WEB, blip, clean_pack, web_pack
from tests.training_smoke.pack_parts import by_tarfile, packed, pictures
from training_smoke.packs import Pack


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("capfilt")


@pytest.fixture(scope="module")
def clean(root: Path) -> Pack:
    return clean_pack(root)


@pytest.fixture(scope="module")
def asked(root: Path, clean: Pack) -> Asked:
    os.environ["CURATE_CACHE"] = str(root / "cache")
    start = Start.of(str(blip(root, clean)), batch=4)
    return Asked(start, Web.of(web_pack(root).url), clean, root / "out", epochs=1)


@pytest.fixture(scope="module")
def done(asked: Asked) -> dict[str, Any]:
    return capfilt(asked, "inline")


def pack_of(pool: Path) -> list[dict[str, Any]]:
    """What each sample of the pool's newest pack says."""
    newest = max((pool / "packs").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    return [sample["json"] for sample in by_tarfile(newest)]


def at(threshold: float, asked: Asked) -> Counter[tuple[str, str]]:
    """How many pairs of which list and source the pack has, under another threshold, of the same models and pool."""
    out, recipe = asked.out, asked.out / f"at-{threshold:g}.yaml"
    chosen = CapFilt(
        str(out / "pool"), asked.clean.url, str(out / "captioner.pt"), str(out / "filter.pt"), asked.clean.digest,
        threshold=threshold,
    )  # fmt: skip
    write_recipe(recipe, chosen, asked.web)
    run_recipe(
        load_recipe(str(recipe)), "inline", None, pack=True, report=None, command="x", telling=Telling("text", True)
    )
    return Counter((said["list"].split("@")[0][:11], said["texts"][0]["source"]) for said in pack_of(out / "pool"))


def test_the_union(asked: Asked, done: dict[str, Any]) -> None:
    """Pairs of the pack are those that the summary counts, web text and caption of a picture two of them."""
    found = Counter(
        (said["list"].split("@")[0][:11], said["texts"][0]["source"]) for said in pack_of(asked.out / "pool")
    )
    assert found["clean_pairs", "web"] == done["clean"] == CLEAN
    assert found["web", "web"] == done["web"]["matches"]
    assert found["web", "synthetic"] == done["synthetic"]["matches"]
    assert found.total() == done["pairs"]
    assert done["web"]["pictures"] == done["web"]["judged"] == done["synthetic"]["written"] == WEB
    assert json.loads((asked.out / "summary.json").read_text()) == done
    assert len(lines(done)) == 4


def test_a_filter_that_is_always_right_gives_both_texts_and_one_that_is_never_only_clean_pairs(
    asked: Asked, done: dict[str, Any]
) -> None:
    """Other thresholds ask no model again: captions and probabilities are those that the pool has."""

    def parts() -> list[str]:
        return sorted(str(p) for p in (asked.out / "pool" / "columns").rglob("0*.parquet"))

    before = parts()
    assert before
    assert at(0, asked) == {("clean_pairs", "web"): CLEAN, ("web", "web"): WEB, ("web", "synthetic"): WEB}
    assert at(1, asked) == {("clean_pairs", "web"): CLEAN}
    assert parts() == before


def test_again_nothing_is_done(asked: Asked, done: dict[str, Any]) -> None:
    def files() -> dict[str, int]:
        there = (p for p in asked.out.rglob("*") if p.is_file() and "runs" not in p.parts)
        return {str(p): p.stat().st_mtime_ns for p in there if p.name not in ("summary.json", "lock")}

    before = files()
    assert capfilt(asked, "inline") == done
    assert {name: when for name, when in files().items() if before.get(name) != when} == {}


def test_the_recipe_runs_by_itself(asked: Asked, done: dict[str, Any]) -> None:
    recipe = load_recipe(str(asked.out / RECIPE))
    telling = Telling("text", True)
    again = run_recipe(recipe, "inline", None, pack=True, report=None, command="x", telling=telling)
    assert again.pick == done["pick"]
    assert summary(recipe.pool, str(asked.out / RECIPE), 0.5).items() <= done.items()


def test_a_web_without_pictures_is_refused_before_anything_is_trained(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("recipe: web\npool: pools/web\n")
    nothing = Asked(asked.start, Web.of(str(tmp_path / "web.yaml")), asked.clean, tmp_path / "out")
    with pytest.raises(UserError, match="has no `source:`: say with --pool"):
        prepare(nothing)
    assert not (tmp_path / "out").exists()


def test_a_pool_that_knows_clean_pairs_by_another_list_is_refused(asked: Asked, tmp_path: Path) -> None:
    """Before anything is trained: they would be judged like the web's, and D' would have none of them."""
    (tmp_path / "coco.yaml").write_text(
        f"recipe: coco\npool: {tmp_path}/pool\n"
        f"source: {{path: '{asked.clean.url}/*.tar', kind: webdataset, uid: null, name: coco}}\n"
    )
    telling = Telling("text", True)
    run_recipe(
        load_recipe(str(tmp_path / "coco.yaml")), "inline", None, pack=False, report=None, command="x", telling=telling
    )
    again = replace(asked, out=tmp_path / "out", pool=str(tmp_path / "pool"))
    with pytest.raises(UserError, match=f"{CLEAN} in the list coco@.*leave --pool out"):
        prepare(again)
    assert not (tmp_path / "out").exists()


def test_other_clean_pairs_in_the_same_pool_are_not_emitted(asked: Asked, done: dict[str, Any], tmp_path: Path) -> None:
    """A second run's D' has its own clean pairs and no others; those of the first are not even judged."""
    other = Pack.open(packed(tmp_path / "clean", pictures(5, 500), samples=8))
    second = replace(asked, clean=other, out=tmp_path / "out", pool=str(asked.out / "pool"))
    found = capfilt(second, "inline")
    said = pack_of(asked.out / "pool")
    lists = Counter(s["list"].split("@")[0] for s in said if s["list"].startswith("clean_pairs"))
    assert lists == {f"clean_pairs_{other.digest[:8]}": 5}
    assert found["clean"] == 5
    assert found["web"]["pictures"] == WEB
