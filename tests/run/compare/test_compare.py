"""`curate compare` from recipes to the table: controls, equal compute, going on, nothing done twice."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from compared import SCENES, build_pool, held_out, recipe, recipe_file

from curate.errors import UserError
from curate.pool.pool import Pool
from curate.recipe import load_recipe
from curate.run.compare.found import Comparison
from curate.run.compare.main import compare
from curate.run.compare.request import Request, Said, make_request
from curate.run.progress import Telling

RIGHT = "url LIKE '%/right/%'"


def run(request: Request) -> Comparison:
    return compare(request, "inline", None, telling=Telling(quiet=True), command="curate compare")


def said(sets: tuple[Path, ...], seeds: int = 2, samples: int = 1024) -> Said:
    return Said(scale="feature", seeds=seeds, evaluate=tuple(map(str, sets)), samples_seen=samples)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Path, ...], Comparison]:
    folder = tmp_path_factory.mktemp("compare")
    pool, sets = build_pool(folder / "pool"), held_out(folder / "sets")
    recipes = [recipe(folder, "right", pool, RIGHT), recipe(folder, "third", pool, "phash64 % 3 = 0")]
    return folder, sets, run(make_request(recipes, said(sets)))


def test_recipes_and_controls_see_equally_many_samples(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    _, _, found = made
    kinds = {e.name: (e.kind, e.samples) for e in found.entries}
    assert kinds == {
        "right": ("recipe", SCENES // 2),
        "third": ("recipe", SCENES // 3),
        "no_filter": ("no_filter", SCENES),
        "random, as right": ("random", SCENES // 2),
        "random, as third": ("random", SCENES // 3),
        "no_filter again": ("a_a", SCENES),
    }
    assert {e.seen for e in found.entries} == {1024}
    assert {len(e.runs) for e in found.entries} == {2}
    assert found.entry("third").repeats == pytest.approx(1024 / 80)


def test_differences_are_those_of_the_runs(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    _, _, found = made
    pairs = {(d.a, d.b) for d in found.differences}
    assert pairs == {
        ("right", "no_filter"), ("third", "no_filter"), ("right", "random, as right"), ("third", "random, as third"),
        ("random, as right", "no_filter"), ("random, as third", "no_filter"), ("third", "right"),
    }  # fmt: skip
    scores = zip(found.entry("right").scores(), found.entry("no_filter").scores(), strict=True)
    each = [a - b for a, b in scores]
    told = found.difference("right", "no_filter").comparison
    assert told.mean == pytest.approx(sum(each) / 2)
    assert told.n == 2
    assert told.p_holm >= told.p
    assert found.a_a is not None
    assert found.a_a.comparison.mean != 0  # other seeds


def test_lower_is_better_for_losses_and_ranks(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    _, _, found = made
    lower = {m.name for m in found.metrics if m.lower}
    assert "scenes/loss" in lower
    assert "scenes/positive_rank" in lower
    assert "scenes/auroc" not in lower
    loss = next(d for d in found.others if (d.a, d.b, d.metric) == ("right", "no_filter", "scenes/loss"))
    right, whole = found.entry("right").scores("scenes/loss"), found.entry("no_filter").scores("scenes/loss")
    assert loss.comparison.mean == pytest.approx(sum(whole) / 2 - sum(right) / 2)


def test_again_nothing_is_trained_and_a_seed_more_trains_that_one(
    made: tuple[Path, tuple[Path, ...], Comparison],
) -> None:
    folder, sets, found = made
    recipes = [
        recipe(folder, "right", folder / "pool", RIGHT),
        recipe(folder, "third", folder / "pool", "phash64 % 3 = 0"),
    ]
    runs = folder / "pool" / "judge"
    before = {p: p.stat().st_mtime_ns for p in runs.glob("*/run.json")}
    assert len(before) == 12
    again = run(make_request(recipes, said(sets)))
    assert {p: p.stat().st_mtime_ns for p in runs.glob("*/run.json")} == before
    assert again.entries == found.entries
    more = run(make_request(recipes, said(sets, seeds=3)))
    assert len(list(runs.glob("*/run.json"))) == 18
    assert [r.score for r in more.entry("right").runs[:2]] == found.entry("right").scores()


def test_another_set_is_only_evaluated(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    folder, sets, _ = made
    one = [recipe(folder, "right", folder / "pool", RIGHT)]
    before = len(list((folder / "pool" / "judge").glob("*/run.json")))
    shutil.copytree(held_out(folder / "more", 30)[0], folder / "thirty")
    found = run(make_request(one, said((*sets, folder / "thirty"))))
    assert len(list((folder / "pool" / "judge").glob("*/run.json"))) == before
    assert {s.name: s.n for s in found.sets} == {"scenes": 24, "colours": 24, "thirty": 30}
    assert "thirty/loss" in found.entry("right").runs[0].scores


def test_probes_are_measured_where_a_set_has_a_part_to_train_on(
    made: tuple[Path, tuple[Path, ...], Comparison],
) -> None:
    folder, sets, found = made
    colours = next(s for s in sets if s.name == "colours")
    shutil.copytree(colours, folder / "probed")
    shutil.copytree(colours / "test", folder / "probed" / "train")
    asked = dataclasses.replace(said((*sets, folder / "probed")), probe=True)
    again = run(make_request([recipe(folder, "right", folder / "pool", RIGHT)], asked))
    names = {m.name for m in again.metrics if m.name.split("/")[1].startswith(("lp_", "knn_"))}
    assert {"probed/lp_acc1", "probed/knn_acc1"} <= names
    assert all(n.startswith("probed/") and not n.endswith(("strength", "converged")) for n in names)
    scores = again.entry("right").runs[0].scores
    assert scores["probed/knn_acc1"] >= scores["probed/acc1"]  # its neighbours know the answers: train/ is test/
    assert again.entry("right").runs[0].scores.items() >= found.entry("right").runs[0].scores.items()
    plain = dataclasses.replace(said(sets), probe=True)
    with pytest.raises(UserError, match="--probe: none of the evaluation sets has classes and, beside test/, a train/"):
        run(make_request([recipe(folder, "right", folder / "pool", RIGHT)], plain))


def test_seeds_may_begin_elsewhere(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    folder, sets, found = made
    asked = dataclasses.replace(said(sets), first_seed=1)
    again = run(make_request([recipe(folder, "right", folder / "pool", RIGHT)], asked))
    assert again.seeds == (1, 2)
    assert again.entry("right").runs[0] == found.entry("right").runs[1]


def test_weights_that_do_not_fit_are_told_before_anything_runs(
    made: tuple[Path, tuple[Path, ...], Comparison], tmp_path: Path
) -> None:
    _, sets, _ = made
    file = recipe_file(tmp_path, "right", tmp_path / "no_pool_yet", RIGHT)
    chosen = load_recipe(str(file), ["judge.scale=debug", "judge.pretrained=openai"])
    with pytest.raises(UserError, match="openai of ViT-B-32 was trained with another activation"):
        run(make_request([chosen], Said(scale="debug", evaluate=tuple(map(str, sets)), gpus=0)))
    assert not (tmp_path / "no_pool_yet").exists()


def test_pictures_of_a_set_that_are_in_the_pool_are_counted(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    _, _, found = made
    assert {s.name: (s.n, s.in_pool) for s in found.sets} == {"scenes": (24, 0), "colours": (24, 0)}


def test_a_run_says_what_it_was(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    folder, _, found = made
    of = found.entry("right").runs[1]
    run_folder = folder / "pool" / of.folder
    assert json.loads((run_folder / "config.json").read_text())["init_seed"] == 1
    digest = json.loads((run_folder / "packs.json").read_text())
    assert list(digest) == [f"{Pool.open(str(folder / 'pool')).storage.url}/{found.entry('right').pack}"]
    assert of.curve[-1][0] == 1024
    assert (run_folder / "towers.pt").exists()
    assert "scenes" in (run_folder / "README.md").read_text()
    assert not list((run_folder / "checkpoints").glob("*"))


def test_a_recipe_of_another_pool_is_refused(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    folder, sets, _ = made
    with pytest.raises(UserError, match="recipes of several pools"):
        make_request(
            [recipe(folder, "a", folder / "pool", None), recipe(folder, "b", folder / "other", None)], said(sets)
        )


def test_names_that_would_share_a_controls_scores(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    folder, sets, _ = made
    with pytest.raises(UserError, match="a recipe called no_filter has filters"):
        make_request([recipe(folder, "no_filter", folder / "pool", RIGHT)], said(sets))
    found = run(make_request([recipe(folder, "random", folder / "pool", RIGHT)], said(sets)))
    assert {e.name: e.kind for e in found.entries}["random"] == "recipe"
    assert found.entry("random").runs != found.entry("random subset").runs


def test_controls_are_the_same_whichever_recipe_comes_first(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    folder, sets, found = made
    third = load_recipe(str(folder / "third.yaml"), ["seed=7"])
    first = recipe(folder, "right", folder / "pool", RIGHT)
    again = run(make_request([third, first], said(sets)))
    controls = [e.name for e in found.entries if e.kind != "recipe"]
    assert [again.entry(n).pack for n in controls] == [found.entry(n).pack for n in controls]
    assert again.entry("right") == found.entry("right")


def test_one_judge_for_all(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    folder, sets, _ = made
    two = [load_recipe(str(folder / f"{n}.yaml"), [f"judge.seeds={k}"]) for n, k in (("right", 2), ("third", 9))]
    with pytest.raises(UserError, match="`judge:` of third is not that of right"):
        make_request(two, said(sets))


def test_without_a_set_it_says_where_one_goes(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    folder, _, _ = made
    with pytest.raises(UserError, match="nothing to evaluate on"):
        make_request([recipe(folder, "a", folder / "pool", None)], Said(scale="feature"))


def test_a_metric_that_no_set_gives_is_named(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    folder, sets, _ = made
    asked = Said(scale="feature", seeds=2, evaluate=tuple(map(str, sets)), samples_seen=1024, primary="scenes/acc")
    with pytest.raises(UserError, match=r"primary metric scenes/acc: there are mean, scenes/"):
        run(make_request([recipe(folder, "right", folder / "pool", RIGHT)], asked))


def test_a_recipe_that_keeps_nothing_is_named(made: tuple[Path, tuple[Path, ...], Comparison]) -> None:
    folder, sets, _ = made
    with pytest.raises(UserError, match="nobody keeps nothing"):
        run(make_request([recipe(folder, "nobody", folder / "pool", "width > 100")], said(sets)))
