"""A filter network from clean pairs to a file that the stage loads, whatever stops it on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from stages.base import Batch, Column
from stages.clip import ClipScore
from tests.training_smoke.pack_parts import packed, picture, pictures, thirty
from training_smoke import train as loop
from training_smoke.average import Average
from training_smoke.config import Config, Optimiser, Towers
from training_smoke.errors import TrainingError
from training_smoke.filter_network import FineTune, Plan, interpolated, train_filter
from training_smoke.packs import Pack
from training_smoke.towers_file import load_towers, read_file
from training_smoke.writers import read_metrics

SMALL = Config(
    towers=Towers("tiny-conv", image_size=16, context=8),
    optimiser=Optimiser(lr=3e-3, warmup=8),
    samples=96,
    batch=8,
    log_every=2,
    save_every=3,
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack.open(thirty(tmp_path_factory.mktemp("pack")))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack.open(packed(tmp_path_factory.mktemp("clean"), pictures(12, first=40), samples=8))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path_factory.getbasetemp() / "filters"))
    torch.set_num_threads(1)


def state(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = read_file(path)["state"]
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_stage_scores_with_what_was_trained(tmp_path: Path, pack: Pack) -> None:
    path = train_filter(tmp_path / "dfn", Plan(SMALL, {pack: 1.0}), device="cpu")
    assert sorted(p.name for p in path.parent.iterdir()) == ["README.md", "filter.json", "filter.pt", "train"]
    assert same(state(path), loop.train(tmp_path / "alone", SMALL, {pack: 1.0}, device="cpu").state_dict())
    stage = ClipScore(weights=str(path))
    rows = Batch.of(
        pa.table({"text": ["picture number 1", "picture number 2"]}), [picture(1, "PNG"), picture(2, "PNG")]
    )
    vectors = stage.embedding().run(rows)
    rows.add({Column(stage.embedding(), n): vectors.column(n).combine_chunks() for n in vectors.column_names})
    towers = load_towers(path)
    with torch.no_grad():
        texts = towers.encode_texts(towers.tokenize(["picture number 1", "picture number 2"])).numpy()
    assert vectors.column("clip_text").to_pylist()[1] == pytest.approx(texts[1], abs=5e-4)
    assert all(-1 <= s <= 1 for s in stage.run(rows).column("clip_score").to_pylist())
    about = read_file(path)["about"]
    assert about["packs"] == [{"pack": pack.url, "digest": pack.digest, "samples": 30, "share": 1.0}]
    last = read_metrics(tmp_path / "dfn/train")[-1]
    assert about["objective"]["logit_scale"] == pytest.approx(torch.tensor(last["scale"]).log().item(), abs=1e-5)
    assert Config(**{**about["config"], "towers": SMALL.towers, "optimiser": SMALL.optimiser}) == SMALL


def test_a_finished_filter_is_not_made_again(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, plan = tmp_path / "dfn", Plan(SMALL, {pack: 1.0})
    before = train_filter(folder, plan, device="cpu").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("training_smoke.filter_network.train", None)
        assert train_filter(folder, plan).read_bytes() == before
    with pytest.raises(TrainingError, match=r"has another filter \(another average\): give another folder"):
        train_filter(folder, Plan(SMALL, {pack: 1.0}, average=Average(decay=0.9)))
    with pytest.raises(TrainingError, match=r"another filter \(another config\)"):
        train_filter(folder, Plan(SMALL.but(init_seed=1), {pack: 1.0}))
    (folder / "filter.pt").write_bytes(b"torn")
    assert train_filter(folder, plan, device="cpu").read_bytes() == before


def stopped(pack: Pack, clean: Pack) -> Plan:
    return Plan(SMALL, {pack: 1.0}, FineTune({clean: 1.0}, 64), Average(decay=0.7), wise=0.5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pack: Pack, clean: Pack) -> Path:
    """The file of a training that nothing stopped."""
    return train_filter(tmp_path_factory.mktemp("whole"), stopped(pack, clean), device="cpu")


@pytest.mark.parametrize("cut_at", [10, 12, 15])
def test_a_stop_anywhere_changes_nothing(
    tmp_path: Path, pack: Pack, clean: Pack, whole: Path, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    plan = stopped(pack, clean)

    class Cut(Exception):
        pass

    plain, calls = loop.one_step, 0

    def cut(*arguments: object) -> object:
        nonlocal calls
        if calls == cut_at:
            raise Cut
        calls += 1
        return plain(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "one_step", cut)
        with pytest.raises(Cut):
            train_filter(tmp_path / "cut", plan, device="cpu")
    path = train_filter(tmp_path / "cut", plan, device="cpu")
    assert same(state(path), state(whole))
    assert path.read_bytes() == whole.read_bytes()


def test_a_fine_tune_begins_where_the_training_ends(tmp_path: Path, pack: Pack, clean: Pack) -> None:
    plan = Plan(SMALL, {pack: 1.0}, FineTune({clean: 1.0}, 40, rate=0.0))
    path = train_filter(tmp_path / "dfn", plan, device="cpu")
    alone = train_filter(tmp_path / "alone", Plan(SMALL, {pack: 1.0}), device="cpu")
    assert same(state(path), state(alone))  # at a rate of nothing, it stays there
    assert read_file(path)["about"]["objective"] == read_file(alone)["about"]["objective"]
    assert [line["step"] for line in read_metrics(tmp_path / "dfn/fine-tune")] == [2, 4, 6]


def test_a_fine_tune_learns_from_its_own_pairs(tmp_path: Path, pack: Pack, clean: Pack) -> None:
    long = Plan(SMALL, {pack: 1.0}, FineTune({clean: 1.0}, 480, rate=0.5))
    path = train_filter(tmp_path / "dfn", long, device="cpu")
    losses = [line["loss"] for line in read_metrics(tmp_path / "dfn/fine-tune")]
    assert losses[-1] < 0.8 * losses[0]
    about = read_file(path)["about"]
    assert [p["digest"] for p in about["fine_tune"]["packs"]] == [clean.digest]
    config = about["fine_tune"]["config"]
    assert (config["samples"], config["optimiser"]["lr"], config["order_seed"]) == (488, 0.0015, 1)


def test_wise_lies_between(tmp_path: Path, pack: Pack, clean: Pack) -> None:
    def made(name: str, wise: float | None) -> dict[str, torch.Tensor]:
        tuned = FineTune({clean: 1.0}, 64, rate=1.0)
        return state(train_filter(tmp_path / name, Plan(SMALL, {pack: 1.0}, tuned, wise=wise), device="cpu"))

    base = state(train_filter(tmp_path / "base", Plan(SMALL, {pack: 1.0}), device="cpu"))
    tuned, mixed = made("tuned", None), made("mixed", 0.25)
    assert not same(base, tuned)
    for name, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * base[name] + 0.25 * tuned[name], rtol=1e-5, atol=1e-7)


def test_interpolation_leaves_counters_alone() -> None:
    a = {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)}
    b = {"w": torch.tensor([8.0, 4.0]), "n": torch.tensor(5)}
    found = interpolated(a, b, 0.25)
    assert found["w"].tolist() == [2.0, 4.0]
    assert found["n"].item() == 5


def test_plans_that_make_no_sense_are_refused(pack: Pack) -> None:
    with pytest.raises(TrainingError, match="it needs one"):
        Plan(SMALL, {pack: 1.0}, wise=0.5)
    with pytest.raises(TrainingError, match="between 0 and 1"):
        Plan(SMALL, {pack: 1.0}, FineTune({pack: 1.0}, 8), wise=1.0)


def test_several_processes_are_refused(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="by one process"):
        train_filter(tmp_path / "dfn", Plan(SMALL, {pack: 1.0}))


def test_checkpoints_are_written_though_the_scale_asks_for_none(pack: Pack) -> None:
    assert Plan(SMALL.but(save_every=None, samples=8 * 100), {pack: 1.0}).first.save_every == 5
    assert Plan(SMALL.but(save_every=None, samples=8), {pack: 1.0}).first.save_every == 1
    assert json.dumps(Plan(SMALL, {pack: 1.0}).about())
