"""Trained models leave as folders that open_clip loads by itself, and such folders begin trainings here."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from curate.cli_training import export_model as command
from curate.errors import UserError
from tests.training_smoke.pack_parts import packed, pictures
from training_smoke import open_clip_files
from training_smoke.config import Config, Optimiser, Towers
from training_smoke.errors import TrainingError
from training_smoke.export import export_model
from training_smoke.families.coca import CoCa
from training_smoke.learners import begun
from training_smoke.packs import Pack
from training_smoke.towers import build
from training_smoke.towers_file import load_towers, save_model, save_towers, whole_in
from training_smoke.train import train

open_clip = pytest.importorskip("open_clip")

NAME = "ViT-of-these-tests"
TOWERS = Towers(NAME, image_size=32, context=10)
TEXTS = ["a red bicycle", "two men in the snow"]


@pytest.fixture(scope="module", autouse=True)
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A configuration in open_clip's own list, small and without a bias."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    path = tmp_path_factory.mktemp("configurations") / f"{NAME}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    yield
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
    open_clip.factory._MODEL_CONFIGS.pop(NAME)


@pytest.fixture(scope="module", params=["clip", "siglip"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of two steps."""
    root = tmp_path_factory.mktemp(request.param)
    pack = Pack.open(str(packed(root, pictures(8), samples=8)))
    patch = pytest.MonkeyPatch()
    patch.setenv("CURATE_CACHE", str(root / "cache"))
    config = Config(
        objective=request.param, towers=TOWERS, optimiser=Optimiser(lr=1e-2), samples=16, batch=8, log_every=1
    )
    train(root / "run", config, {pack: 1.0}, device="cpu")
    patch.undo()
    return root / "run"


def learned_in(run: Path) -> dict[str, float]:
    state = torch.load(run / "checkpoints/step-000000002.pt", weights_only=True)["objective"]
    return {name: value.item() for name, value in state.items()}


def test_open_clip_loads_a_run(run: Path, tmp_path: Path) -> None:
    export_model(run, tmp_path / "out")
    name = f"local-dir:{tmp_path / 'out'}"
    theirs, _, prepare = open_clip.create_model_and_transforms(name)
    theirs.eval()
    towers, learned = load_towers(run), learned_in(run)
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    assert torch.equal(tokens, towers.tokenize(TEXTS))
    array = np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    middle = torch.from_numpy(array[4:36]).permute(2, 0, 1)[None]
    with torch.no_grad():
        images, texts = theirs(prepare(Image.fromarray(array))[None], tokens)[:2]
        torch.testing.assert_close(images, towers.encode_images(middle), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(texts, towers.encode_texts(tokens), rtol=1e-5, atol=1e-6)
    assert theirs.logit_scale.item() == pytest.approx(learned["logit_scale"])
    assert learned["logit_scale"] not in (math.log(10), math.log(1 / 0.07))  # it has learned
    if "logit_bias" in learned:
        assert theirs.logit_bias.item() == pytest.approx(learned["logit_bias"])
    else:
        assert theirs.logit_bias is None


def test_a_training_begins_with_an_exported_folder(run: Path, tmp_path: Path) -> None:
    export_model(run, tmp_path / "out")
    towers, learned = load_towers(run), learned_in(run)
    for weights in (tmp_path / "out", tmp_path / "out" / open_clip_files.WEIGHTS[0]):
        again = build(Towers(NAME, str(weights), 32, 10), seed=9)
        for name, value in towers.state_dict().items():
            if "logit_" not in name:
                assert torch.equal(again.state_dict()[name], value), name
        assert dict(again.learned) == pytest.approx(learned)
        objective = "siglip" if "logit_bias" in learned else "clip"
        assert {n: p.item() for n, p in begun(objective, again).named_parameters()} == pytest.approx(learned)
        save_towers(tmp_path / "again.pt", again, TOWERS, {"objective": learned})
        assert torch.equal(
            load_towers(tmp_path / "again.pt").encode_texts(towers.tokenize(TEXTS)),
            again.eval().encode_texts(towers.tokenize(TEXTS)),
        )


def test_a_file_of_towers_is_written_as_its_run_is(run: Path, tmp_path: Path) -> None:
    save_towers(tmp_path / "towers.pt", load_towers(run), TOWERS, {"objective": learned_in(run)})
    folders = [export_model(path, tmp_path / name) for name, path in (("a", run), ("b", tmp_path / "towers.pt"))]
    for file in (open_clip_files.CONFIG, open_clip_files.WEIGHTS[0]):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_what_a_comparison_leaves_of_a_run_is_written(run: Path, tmp_path: Path) -> None:
    """Weights in towers.pt, and no checkpoint."""
    folder = tmp_path / "judge"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "packs.json"):
        shutil.copy(run / name, folder)
    config = Config.load(run / "config.json")
    save_model(folder / "towers.pt", load_towers(run), config, {"objective": learned_in(run)})
    export_model(folder, tmp_path / "out")
    export_model(run, tmp_path / "expected")
    weights = open_clip_files.WEIGHTS[0]
    assert (tmp_path / "out" / weights).read_bytes() == (tmp_path / "expected" / weights).read_bytes()
    assert whole_in(run) == run
    save_model(folder / "filter.pt", load_towers(run), config, {})
    assert whole_in(folder) == folder / "filter.pt"


def test_what_fails_midway_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path, *_: object) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise OSError("no space left on device")

    (tmp_path / "empty").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("training_smoke.export.write_model", broken)
        for name in ("out", "empty"):
            with pytest.raises(OSError, match="no space"):
                export_model(run, tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    monkeypatch.chdir(tmp_path)
    export_model(run, "empty")
    assert {path.name for path in tmp_path.iterdir()} == {"empty"}
    assert all(b"part-" not in path.read_bytes() for path in (tmp_path / "empty").rglob("*.json"))


def test_weights_that_lie_in_one_memory_are_written(tmp_path: Path) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    state = {"a": tied, "b": tied, "turned": tied.T, "row": tied[1], "alone": torch.ones(2)}
    open_clip_files.write_model(tmp_path / "out", {}, state, [0.5] * 3, [0.5] * 3)
    found = load_file(tmp_path / "out" / open_clip_files.WEIGHTS[0])
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_names_of_tensors_are_read_without_the_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"module.visual": torch.zeros(4), "module.logit_bias": torch.zeros(())}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "run.pt")
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    save_file({"visual": torch.zeros(4), "logit_bias": torch.zeros(())}, tmp_path / "a.safetensors")
    (tmp_path / "text.pt").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pt")
    names = {"visual", "logit_bias"}
    assert open_clip_files.names_in(tmp_path / "old.bin") == names  # a format that cannot be mapped
    for name in ("text.pt", "list.pt"):
        with pytest.raises(TrainingError, match=rf"{name} is no checkpoint of open_clip"):
            open_clip_files.names_in(tmp_path / name)
    monkeypatch.setattr("open_clip.factory.load_state_dict", None)  # nor is anything read by open_clip,
    monkeypatch.setattr("safetensors.torch.load_file", None)
    load, mapped = torch.load, []
    monkeypatch.setattr("torch.load", lambda *a, **more: mapped.append(more.get("mmap")) or load(*a, **more))
    assert (
        open_clip_files.names_in(tmp_path / "run.pt") == open_clip_files.names_in(tmp_path / "a.safetensors") == names
    )
    assert mapped == [True]


def test_weights_of_other_towers_are_refused(run: Path, tmp_path: Path) -> None:
    export_model(run, tmp_path / "out")
    with pytest.raises(TrainingError, match=r"has another model than ViT-S-32: .*vision_cfg.width 32 in place of 384"):
        build(Towers("ViT-S-32", str(tmp_path / "out")), seed=0)
    said = json.loads((tmp_path / "out" / open_clip_files.CONFIG).read_text())
    said["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (tmp_path / "out" / open_clip_files.CONFIG).write_text(json.dumps(said))
    with pytest.raises(TrainingError, match=r"than .*: mean of pixels \(0.5, 0.5, 0.5\) in place of \(0.48"):
        build(Towers(NAME, str(tmp_path / "out")), seed=0)
    (tmp_path / "out" / open_clip_files.CONFIG).unlink()
    with pytest.raises(TrainingError, match=r"out has no open_clip_config.json of a model of open_clip"):
        build(Towers(NAME, str(tmp_path / "out")), seed=0)


def test_an_unclear_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"expected one file of weights .* there are: none"):
        open_clip_files.weights_in(tmp_path)
    for name in ("a.pt", "b.bin"):
        (tmp_path / name).touch()
    with pytest.raises(TrainingError, match=r"there are: a.pt, b.bin"):
        open_clip_files.weights_in(tmp_path)
    (tmp_path / "open_clip_pytorch_model.bin").touch()
    assert open_clip_files.weights_in(tmp_path).name == "open_clip_pytorch_model.bin"


@pytest.mark.parametrize(
    ("learned", "said"),
    [({}, "was learned: nothing"), ({"logit_scale": 2.0, "curvature": 1.0}, "was learned: logit_scale, curvature")],
)
def test_what_cosines_do_not_say_is_refused(learned: dict[str, float], said: str, tmp_path: Path) -> None:
    save_towers(tmp_path / "towers.pt", build(TOWERS, 0), TOWERS, {"objective": learned})
    with pytest.raises(TrainingError, match=said):
        export_model(tmp_path / "towers.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tiny_towers_and_folders_with_files_are_refused(tmp_path: Path) -> None:
    tiny = Towers("tiny-conv", image_size=16, context=8)
    save_towers(tmp_path / "towers.pt", build(tiny, 0), tiny, {"objective": {"logit_scale": 2.0}})
    with pytest.raises(TrainingError, match=r"curate alone knows \(TinyTowers\)"):
        export_model(tmp_path / "towers.pt", tmp_path / "out")
    with pytest.raises(TrainingError, match=r"is there already"):
        export_model(tmp_path / "towers.pt", tmp_path)
    with pytest.raises(TrainingError, match=r"nowhere"):
        export_model(tmp_path / "nowhere", tmp_path / "out")


def test_the_command_writes_a_family_as_its_library_has_it(tmp_path: Path) -> None:
    config = Config(objective="coca", towers=Towers("tiny", image_size=32, context=10))
    made = CoCa.build(config.towers, {}, seed=0).eval()
    save_model(tmp_path / "towers.pt", made, config, {})
    app = typer.Typer()
    app.command()(command)
    words = [str(tmp_path / "towers.pt"), str(tmp_path / "out")]
    said = CliRunner().invoke(app, words, catch_exceptions=False)
    assert said.output == f"model: {tmp_path / 'out'}\n"
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    with torch.no_grad():
        features = F.normalize(theirs.encode_text(made.tokenize(TEXTS)), dim=-1)
    torch.testing.assert_close(made.encode_texts(TEXTS), features, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match=r"out is there already"):
        CliRunner().invoke(app, words, catch_exceptions=False)
