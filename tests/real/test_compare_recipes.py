"""The pool on which published recipes are compared, how recipes are fitted to it, and the page of what came out."""

from __future__ import annotations

import io
import itertools
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import judge_compare_page
import judge_compare_pool
import judge_compare_recipes
import judge_data
import scores_real
from judge_compare_pool import ASPECT, COPIES, MATCHING, SHARES, SIDES
from judge_data import Picture

from curate.recipe import load_recipe

SOME = 600


@pytest.fixture(scope="module")
def pictures(shared_data: Path) -> list[Picture]:
    return list(itertools.islice(judge_data._flickr8k(shared_data), SOME))


@pytest.fixture(scope="module")
def rows(pictures: list[Picture], shared_data: Path) -> list[dict[str, Any]]:
    return judge_compare_pool.faulty(pictures, shared_data, np.random.default_rng(5))


def size(row: dict[str, Any]) -> tuple[int, int]:
    return Image.open(io.BytesIO(row["image"])).size


def test_each_fault_has_its_share(rows: list[dict[str, Any]]) -> None:
    found = Counter(r["truth"] for r in rows)
    for kind, share in SHARES.items():
        assert found[kind] == round(share * SOME)
    assert found["copy"] / len(rows) == pytest.approx(COPIES, abs=0.002)
    assert len({r["uid"] for r in rows}) == len(rows)


def test_a_fault_is_what_its_name_says(rows: list[dict[str, Any]], pictures: list[Picture], shared_data: Path) -> None:
    own = {p.key: {*p.captions} for p in pictures}
    foreign, titles = judge_compare_pool.foreign_of(shared_data), {*judge_compare_pool.titles_of(shared_data)}
    for r in rows:
        if r["truth"] == "copy":
            continue
        assert (r["caption"] in own[r["picture"]]) is (r["truth"] in ("clean", "thumbnail", "strip"))
        assert r["matches"] is (r["truth"] in MATCHING)
        assert r["truth"] != "foreign" or r["caption"] in foreign[r["picture"]]
        assert r["truth"] != "says_nothing" or r["caption"] in titles
        wide, high = size(r)
        assert (r["truth"] == "thumbnail") is (SIDES[0] <= wide < SIDES[1])
        assert (r["truth"] == "strip") is (wide >= ASPECT * high)


def test_copies_have_what_the_first_has(rows: list[dict[str, Any]]) -> None:
    first = {r["uid"]: r for r in rows if r["truth"] != "copy"}
    copies = [(r, first[r["uid"].rsplit("+", 1)[0]]) for r in rows if r["truth"] == "copy"]
    assert all((c["caption"], c["matches"]) == (f["caption"], f["matches"]) for c, f in copies)
    same = np.mean([c["image"] == f["image"] for c, f in copies])
    assert 0.4 < same < 0.6


def test_the_seed_is_all(pictures: list[Picture], shared_data: Path, rows: list[dict[str, Any]]) -> None:
    assert judge_compare_pool.faulty(pictures, shared_data, np.random.default_rng(5)) == rows
    assert judge_compare_pool.faulty(pictures, shared_data, np.random.default_rng(6)) != rows


def test_labelled_pairs_are_half_right(pictures: list[Picture]) -> None:
    found = judge_compare_pool.labelled(pictures[:80], np.random.default_rng(0))
    own = {p.key: {*p.captions} for p in pictures}
    assert sum(r["matches"] for r in found) == 40
    assert all((r["caption"] in own[r["picture"]]) is r["matches"] for r in found)


# ---------------------------------------------------------------- recipes over it


@pytest.mark.parametrize("name", sorted(judge_compare_recipes.RECIPES))
def test_only_numbers_and_the_names_of_clips_are_other_than_published(name: str) -> None:
    overrides = judge_compare_recipes.RECIPES[name]
    ours = judge_compare_recipes.written_for_network(name, overrides)
    published = load_recipe(name).raw
    for section in ("columns", "filters"):
        assert without_models(published.get(section, []), overrides) == without_models(ours.get(section, []), overrides)
    assert "model" not in str(ours.get("columns", ""))


def without_models(said: Any, overrides: Any) -> Any:
    """The shape of a section: numbers that are set otherwise, and models, are left out."""
    changed = {o.partition("=")[0].rsplit(".", 1)[-1] for o in overrides} | {"model"}
    if isinstance(said, list | tuple):
        return [without_models(s, overrides) for s in said]
    if isinstance(said, dict):
        return {k: without_models(v, overrides) for k, v in said.items() if k not in changed}
    return said


def test_the_page_has_a_row_for_each_and_says_what_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(judge_compare_page, "kinds_kept", lambda pool, pick: {"clean": 30, "mismatched": 10})
    comparison = {"mean": 4.0, "low": None, "high": None, "n": 1, "wins": 1, "p": 1.0, "p_holm": 1.0}
    entry = {"kept": 40, "seen": 80, "kind": "recipe", "pick": "picks/a@0", "runs": [{"score": 10.0}]}
    found = {
        "seeds": [3], "scale": "tiny", "primary": "flickr8k/positive_rank", "environment": {"device": "cpu"},
        "verdict": {"headline": "a is it.", "findings": ["f"], "cautions": ["c"]},
        "entries": [{**entry, "name": "a"}, {**entry, "name": "no_filter", "runs": [{"score": 8.0}]}],
        "differences": [
            {"a": "a", "b": "no_filter", "comparison": comparison},
            {"a": "a", "b": "b", "comparison": comparison},
        ],
    }  # fmt: skip
    text = judge_compare_page.document(found, tmp_path, {"b": "keeps nothing"}, {"a": ("filters.x.t=20",), "b": ()})
    assert text.index("| no_filter | 40 | 2.0 | 75% | 25% |") < text.index("| a | 40 | 2.0 | 75% | 25% |")
    assert "| a | no_filter | +4.0 | – | 1/1 | 1 | within noise |" in text
    assert "| a | b |" not in text  # pairs of recipes are in the findings
    assert "`a`: `filters.x.t=20`" in text
    assert "Left out: `b`: keeps nothing" in text


def test_scores_that_see_both_sides_decide_and_the_others_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    def found(high: float) -> scores_real.Found:
        names = [s.column for s in scores_real.there()[1]]
        auroc = {n: high if n in scores_real.LEARNED else 0.5 + high / 100 for n in names}
        return scores_real.Found(auroc, {n: {"expert": 0.1 * high} for n in names}, dict.fromkeys(names, 0), 9, 1.0)

    of = {"flickr8k": [found(0.7), found(0.71), found(0.72)]}
    bars = scores_real.bars(of)
    assert bars["auroc_flickr8k_dfn_score"]["ok"] is True
    assert bars["tau_expert_dfn_score"]["ok"] is True
    assert bars["auroc_flickr8k_dsir"]["ok"] is None
    worse = scores_real.bars({"flickr8k": [found(0.4), found(0.41), found(0.42)]})
    assert worse["auroc_flickr8k_dfn_score"]["ok"] is False
    scores_real.told(of)
    assert "| `dfn_score` | the network's cosine (DFN) | 0.710 | +0.071 |" in capsys.readouterr().out
