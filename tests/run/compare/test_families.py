"""`curate compare` under families beside two towers: judged by what they are able to do, on the sets that ask it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from compared import build_pool, held_out

from curate.errors import UserError
from curate.recipe import Recipe, load_recipe
from curate.run.compare.found import Comparison
from curate.run.compare.main import compare
from curate.run.compare.request import Request, Said, make_request
from curate.run.progress import Telling
from training_smoke.export import export_model
from training_smoke.towers_file import load_model

WIDE = {"image_size": 32, "context": 12}
COCA = {"batch": 16, "optimiser": {"warmup": 0}, "towers": WIDE}
MERU = {"batch": 16, "optimiser": {"warmup": 0}, "towers": {"image_size": 16, "context": 8}}


def run(request: Request) -> Comparison:
    return compare(request, "inline", None, telling=Telling(quiet=True), command="curate compare")


def right(folder: Path, family: str, parameters: dict[str, object]) -> Recipe:
    """A recipe over the pool in the folder, judged by a family that is smaller than its `tiny`."""
    said = {
        "recipe": "right",
        "pool": str(folder / "pool"),
        "shard_size": 100,
        "ingest": {"resize": "none"},
        "filters": [{"id": "w", "where": "url LIKE '%/right/%'", "on_missing": "drop"}],
        "pack": {"samples": 100},
        "judge": {"family": family, "scale": "tiny", "parameters": parameters},
    }
    path = folder / f"{family}.yaml"
    path.write_text(yaml.safe_dump(said))
    return load_recipe(str(path))


def asked(folder: Path, family: str, parameters: dict[str, object], sets: tuple[Path, ...]) -> Request:
    said = Said(seeds=2, evaluate=tuple(map(str, sets)), samples_seen=32, controls=("no_filter",))
    return make_request([right(folder, family, parameters)], said)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Path, ...]]:
    folder = tmp_path_factory.mktemp("families")
    build_pool(folder / "pool", 60)
    return folder, held_out(folder / "sets")


def test_a_captioner_is_judged_by_what_it_writes_and_finds(pool: tuple[Path, tuple[Path, ...]], tmp_path: Path) -> None:
    folder, sets = pool
    request = asked(folder, "coca", COCA, sets)
    found = run(request)
    scores = found.entry("right").runs[0].scores
    assert {"scenes/cider", "scenes/caption_loss", "scenes/mean_recall@1", "colours/acc1"} <= scores.keys()
    controls = found.entry("right").runs[0].controls
    assert scores["scenes/cider_seen"] == scores["scenes/cider"] - controls["scenes/cider_shuffled"]
    assert "scenes/caption_loss_blind" in controls
    mains = (scores["scenes/cider"] + scores["colours/acc1"]) / 2
    assert found.entry("right").runs[0].score == pytest.approx(mains)
    lower = {m.name: m.lower for m in found.metrics}
    assert (lower["scenes/caption_loss"], lower["scenes/cider"]) == (True, False)
    assert [name for name in lower if name.endswith(("_blind", "_shuffled"))] == []
    loss = next(d for d in found.others if (d.a, d.b, d.metric) == ("right", "no_filter", "scenes/caption_loss"))
    kept, whole = (found.entry(name).scores("scenes/caption_loss") for name in ("right", "no_filter"))
    assert loss.comparison.mean == pytest.approx(sum(whole) / 2 - sum(kept) / 2)
    files = list((folder / "pool" / "judge").glob("*/run.json"))
    assert {type(load_model(path.with_name("towers.pt"))).__name__ for path in files} == {"CoCa"}
    exported = export_model(files[0].parent, tmp_path / "out")  # of what is left of a run: weights, no checkpoint
    assert not list((files[0].parent / "checkpoints").iterdir())
    assert (exported / "open_clip_config.json").is_file()
    before = {path: path.stat().st_mtime_ns for path in files}
    assert run(request).entries == found.entries
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_families_share_packs_and_not_runs(pool: tuple[Path, tuple[Path, ...]]) -> None:
    folder, sets = pool
    packs = folder / "pool" / "packs"
    run(asked(folder, "clip", MERU, sets))
    before = sorted(packs.iterdir()), len(list((folder / "pool" / "judge").glob("*/run.json")))
    found = run(asked(folder, "meru", MERU, sets))
    assert sorted(packs.iterdir()) == before[0]
    assert len(list((folder / "pool" / "judge").glob("*/run.json"))) == before[1] + 4
    assert "scenes/positive_rank" in found.entry("right").runs[0].scores


def test_what_no_family_has_is_refused_before_anything_runs(pool: tuple[Path, tuple[Path, ...]]) -> None:
    folder, sets = pool
    with pytest.raises(UserError, match="flamingo"):
        make_request([right(folder, "clip", {})], Said(family="flamingo", evaluate=(str(sets[0]),)))
    with pytest.raises(UserError, match="coca is not trained at scale feature"):
        make_request([right(folder, "clip", {})], Said(family="coca", scale="feature", evaluate=(str(sets[0]),)))
    with pytest.raises(UserError, match="no settings no_such"):
        run(asked(folder, "coca", {**COCA, "settings": {"no_such": 1}}, sets))
