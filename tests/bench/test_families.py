"""What the benches of families say of numbers that are given to them: no training here."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import families_compare
import families_data
import families_learn
import families_learn_others
import families_runs
from families_learn import BESIDE, CLAIMS, METRICS, SHOWN, about, claimed, distinct, shown, told_rows
from families_learn_others import OTHERS
from families_runs import Case, Found

DRAWN = {"flickr8k/distinct": 0.9, "flickr8k/distinct_likeliest": 0.4}


def found(score: float, blind: float = 0.1, shuffled: float = 0.1, family: str = "coca") -> Found:
    """All metrics of a family with one score and its controls."""
    metrics = dict(DRAWN)
    for name in METRICS[family]:
        metrics |= {name: score, f"{name}_blind": blind, f"{name}_shuffled": shuffled}
    return Found(metrics, 1.0, 1.0, 2.0, 0.5)


def runs(*scores: float, family: str = "coca") -> list[tuple[Found, Found]]:
    return [(found(s, family=family), found(0.05, family=family)) for s in scores]


def said(family: str, *scores: float) -> dict[str, families_learn.Shown]:
    return {metric: shown(metric, runs(*scores, family=family)) for metric in METRICS[family]}


# ---------------------------------------------------------------- what is learned


def test_what_is_claimed_is_what_was_asked_for() -> None:
    short = {family: [m.split("/")[1] for m in metrics] for family, metrics in CLAIMS.items()}
    assert short["coca"] == ["cider", "cider_nucleus"]
    assert short["blip"] == ["cider", "cider_nucleus", "itm_accuracy", "itm_pair_accuracy", "itm_auroc"]
    assert short["llava"] == ["exact_match", "exact_match_other"]
    assert short["meru"] == ["mean_recall@10"]
    from training_smoke.families import NAMES

    assert METRICS.keys() == set(NAMES)
    assert all(len({*CLAIMS.get(name, ()), *BESIDE.get(name, ())}) == len(METRICS[name]) for name in METRICS)


def test_only_what_is_claimed_has_a_bar() -> None:
    bars = claimed("coca", said("coca", 0.5, 0.52, 0.51), quick=False)
    assert bars["coca_cider_over_blind"]["ok"] is bars["coca_cider_over_shuffled"]["ok"] is True
    assert bars["coca_cider_over_blind"]["value"].startswith("+0.410 [")  # the better of two blind scores
    recall = bars["coca_mean_recall@10_over_blind"]
    assert (recall["limit"], recall["ok"]) == (None, None)
    greys = {"coca_cider_over_grey", "coca_mean_recall@10_over_grey"}
    assert greys < bars.keys()
    draws = [bars[f"coca_cider_nucleus_over_{control}"]["ok"] for control in ("blind", "shuffled", "grey")]
    assert draws == [True, True, None]
    noisy = claimed("coca", said("coca", 0.9, 0.1, 0.1), quick=False)
    assert noisy["coca_cider_over_blind"]["ok"] is False
    assert claimed("coca", said("coca", 0.5), quick=True)["coca_cider_over_blind"]["ok"] is None


def test_distinct_captions_stand_beside_those_of_the_blind() -> None:
    pairs = runs(0.5, 0.5)
    pairs[0] = (replace(pairs[0][0], metrics=pairs[0][0].metrics | {"flickr8k/distinct": 0.45}), pairs[0][1])
    pairs[1] = (pairs[1][0], replace(pairs[1][1], metrics=pairs[1][1].metrics | {"flickr8k/distinct": 0.8}))
    bars = distinct("coca", pairs, quick=False)
    assert bars["coca_distinct"] == {"value": 0.45, "limit": 0.5, "ok": False}
    assert bars["coca_distinct_likeliest"] == {"value": 0.4, "limit": None, "ok": None}
    assert bars["coca_distinct_blind"] == {"value": 0.8, "limit": None, "ok": None}
    rows = told_rows("coca", said("coca", 0.5, 0.6), pairs)
    assert [row[1] for row in rows] == ["cider *", "cider_nucleus *", "mean_recall@10"]
    assert rows[0][-1] == "68% / 40% / 85%"
    assert "asked of draws, which differ where nothing is seen" in about({"coca": said("coca", 0.5, 0.6)})


def test_the_number_of_intervals_is_told() -> None:
    text = about({"coca": said("coca", 0.5, 0.52, 0.51), "blip": said("blip", 0.9, 0.1, 0.1)})
    assert "19 differences in all, not corrected" in text  # five of CoCa, fourteen of BLIP
    assert (
        "about 0.5\nwould lie above zero though nothing were learned. 5 do; after Holm's correction over them, 5."
        in text
    )
    assert "3 seeds from 4200 (coca: 5, blip: 8)" in text


def test_every_family_is_learned_in_one_of_two_parts() -> None:
    assert sorted([*SHOWN, *OTHERS]) == sorted(METRICS)


def test_a_part_asks_for_its_families_and_controls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[str] = []

    def gathered(cases: list[Case]) -> Any:
        asked.extend(c.name for c in cases)
        for c in cases:
            yield c, found(0.05 if c.blind else 0.5 + c.seed / 1e5, family=c.family)

    monkeypatch.setattr(families_learn, "gathered", gathered)
    monkeypatch.setattr(families_learn, "SHARED", tmp_path)
    bars = families_learn.measure(quick=False)
    assert asked[:4] == ["coca 4200", "coca 4200 blind", "coca 4201", "coca 4201 blind"]
    seeds = dict.fromkeys(SHOWN, 3) | {"coca": 5, "llava": 5, "blip": 8}
    assert len(asked) == len(set(asked)) == 2 * sum(seeds.values())
    assert "| coca | cider * |" in capsys.readouterr().out
    assert bars["llava_exact_match_other_over_shuffled"]["ok"] is True
    assert "albef_itm_auroc_over_blind" not in bars
    assert families_learn_others.measure(quick=False)["albef_itm_auroc_over_blind"]["ok"] is True


# ---------------------------------------------------------------- data


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The folder of data is made of nothing; how often it was."""
    calls: list[str] = []

    def write_held_out(folder: Path, source: str, pictures: object) -> Path:
        calls.append(source)
        return folder

    monkeypatch.setattr(families_data, "FOLDER", tmp_path / "families")
    monkeypatch.setattr(families_data, "split", lambda *a: ([], [], 0))
    monkeypatch.setattr(families_data, "packed", lambda folder, pictures: folder / "pack")
    monkeypatch.setattr(families_data, "write_held_out", write_held_out)
    return calls


def test_data_are_made_anew_where_their_makers_have_changed(
    made: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = families_data.data()
    assert first == families_data.data()
    assert len(made) == 1
    maker = tmp_path / "questions.py"
    maker.write_text("ASKED = 1\n")
    monkeypatch.setattr(families_data, "MAKERS", ("bench/families_data.py", str(maker)))
    families_data.data()
    assert len(made) == 2
    maker.write_text("ASKED = 2\n")
    families_data.data()
    families_data.data()
    assert len(made) == 3
    marker = tmp_path / "families" / "data" / "data.json"
    marker.write_text(json.dumps({k: v for k, v in json.loads(marker.read_text()).items() if k != "made_by"}))
    families_data.data()
    assert len(made) == 4  # of before there was a digest


def test_questions_decide_what_a_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"training_smoke/questions.py", "training_smoke/question_words.py"} < set(families_data.MAKERS)
    monkeypatch.setattr(families_runs, "data", lambda quick: families_data.Data(Path("pack"), {}, 0, 0))
    monkeypatch.setattr("training_smoke.packs.Pack.open", lambda url: type("P", (), {"digest": "d"}))
    before = families_runs.folder_of(Case("clip"))
    assert before == families_runs.folder_of(Case("clip"))
    monkeypatch.setattr(families_runs, "digest", lambda: "other")
    assert families_runs.folder_of(Case("clip")) != before


def test_a_pool_is_made_anew_where_questions_or_source_have_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps: list[str] = []
    made = type("Made", (), {"counts": {}})

    def make(data: Path, folder: Path, seed: int) -> Any:
        folder.mkdir(parents=True)
        steps.append("pool")
        return made

    monkeypatch.setattr(families_compare, "make", make)
    monkeypatch.setattr(families_compare, "split", lambda *a: ([], [], 0))
    for name in ("ran", "recipe_file", "train_network", "write_recipes"):
        monkeypatch.setattr(families_compare, name, lambda *a: None)
    monkeypatch.setattr(families_compare, "questions", lambda *a: steps.append("questions"))
    here = tmp_path / "compare"
    families_compare.prepared(here)
    (here / "old").touch()
    families_compare.prepared(here)
    assert steps == ["pool", "questions"]
    monkeypatch.setattr(families_compare, "digest", lambda more: "other")
    families_compare.prepared(here)
    assert steps == ["pool", "questions"] * 2
    assert not (here / "old").exists()
    monkeypatch.setattr("training_smoke.provenance.source_digest", lambda: "other")
    families_compare.prepared(here)
    assert steps == ["pool", "questions"] * 3


# ---------------------------------------------------------------- comparisons


def compared(scores: dict[str, list[float | None]]) -> dict[str, Any]:
    return {"entries": [{"name": n, "runs": [{"score": s} for s in of]} for n, of in scores.items()]}


def test_a_comparison_is_whole_with_a_score_of_each_recipe_and_seed() -> None:
    every: dict[str, list[float | None]] = {
        name: [0.1, 0.2, 0.3] for name in ("no_filter", "random", "filtered", "oracle")
    }
    assert families_compare.is_whole(compared(every), 3)
    assert not families_compare.is_whole(compared(every), 2)
    assert not families_compare.is_whole(compared(every | {"oracle": [0.1, None, 0.3]}), 3)
    assert not families_compare.is_whole(compared({n: s for n, s in every.items() if n != "random"}), 3)
