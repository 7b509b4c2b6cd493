"""Models in the layout of transformers: found in a folder or in the hub's cache, or clear words on what is missing."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from stages import hub_weights
from stages.hub_weights import files, settled
from stages.perplexity import Perplexity
from tests.stages.text_model_parts import answers, libraries, save_causal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no way to the hub itself."""
    constants = pytest.importorskip("huggingface_hub", reason="no huggingface_hub: names are not tested").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub_weights, "_TAKEN", {})
    return tmp_path / "hub"


def in_cache(hub: Path, name: str, folder: str, commit: str = "0" * 40) -> Path:
    """A model as the hub's own client lays it down; `main` then is this commit."""
    home = hub / f"models--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text(commit)
    for file in Path(folder).iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    return snapshot


def test_a_folder_means_the_same_everywhere(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(folder).parent)
    assert settled(Path(folder).name) == folder
    assert settled("some-org/some-model@v1.0") == "some-org/some-model@v1.0"
    assert settled("./nothing/here/at-all") == str(Path(folder).parent / "nothing/here/at-all")
    assert [Path(f).name for f in files(folder)] == [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ]


def test_a_name_of_the_hub_is_its_snapshot(folder: str, hub: Path) -> None:
    snapshot = in_cache(hub, "some-org/tiny", folder)
    by_name = Perplexity(weights="some-org/tiny", max_tokens=64)
    assert {str(Path(f).parent) for f in by_name.files()} == {str(snapshot)}
    assert by_name.identity() == Perplexity(weights=folder, max_tokens=64).identity()
    assert answers(by_name, "a red car") == answers(Perplexity(weights=folder, max_tokens=64), "a red car")


def test_a_snapshot_without_weights_is_not_enough(folder: str, hub: Path) -> None:
    """Somebody may have looked at the tokenizer alone: the rest is to be fetched, which here cannot be."""
    (in_cache(hub, "some-org/half", folder) / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"the hub's model of that name cannot be fetched"):
        Perplexity(weights="some-org/half").files()


def in_pieces(folder: str, there: Path, index: bool = True) -> Path:
    """The same model with weights in two files."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    there.mkdir()
    for file in Path(folder).iterdir():
        if file.suffix == ".json":
            (there / file.name).write_bytes(file.read_bytes())
    with safe_open(Path(folder) / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    home = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for piece in set(home.values()):
        save_file({n: t for n, t in tensors.items() if home[n] == piece}, there / piece, metadata={"format": "pt"})
    if index:
        about = {"metadata": {}, "weight_map": home}
        (there / "model.safetensors.index.json").write_text(json.dumps(about))
    return there


def test_weights_in_pieces_are_complete_or_refused(folder: str, tmp_path: Path) -> None:
    there = in_pieces(folder, tmp_path / "pieces")
    whole, pieces = (Perplexity(weights=str(place), max_tokens=64) for place in (folder, there))
    assert answers(pieces, "a red car") == answers(whole, "a red car")
    (there / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"perplexity: .*pieces has a part of the weights only: it lacks model-00002-of"
    ):
        Perplexity(weights=str(there)).files()
    without = in_pieces(folder, tmp_path / "without", index=False)
    with pytest.raises(ValueError, match=r"it lacks model\.safetensors\.index\.json"):
        files(str(without))
    (without / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"index\.json is no index of weights \(KeyError"):
        files(str(without))


@pytest.mark.parametrize(
    "lost",
    [
        "config.json",
        "tokenizer.json tokenizer_config.json",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ],
)
def test_an_incomplete_snapshot_is_fetched_or_refused(
    folder: str, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """As an interrupted download leaves it, or somebody who wanted one file."""
    there = in_pieces(folder, tmp_path / "pieces")
    snapshot = in_cache(hub, "some-org/half", str(there))
    for name in lost.split():
        (snapshot / name).rename(tmp_path / name)
    first = lost.split()[0] if "tokenizer" not in lost else "a tokenizer"
    with pytest.raises(ValueError, match=rf"cannot be fetched \(\w+: .* lacks .*{first}.*`hf download some-org/half`"):
        Perplexity(weights="some-org/half").files()

    import huggingface_hub

    find, asked = huggingface_hub.snapshot_download, []

    def fetches(*, local_files_only: bool = False, **wanted: Any) -> str:
        if not local_files_only:
            asked.append(wanted["allow_patterns"])
            for name in lost.split():
                (snapshot / name).write_bytes((tmp_path / name).read_bytes())
        return str(find(local_files_only=True, **wanted))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetches)
    assert Perplexity(weights="some-org/half").identity()["parameters"]["weights"] == [
        Path(f).name for f in files(str(there))
    ]
    assert asked == [["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]]


def test_links_to_what_the_cache_has_let_go_are_no_files(folder: str, hub: Path) -> None:
    weights = in_cache(hub, "some-org/pruned", folder) / "model.safetensors"
    weights.unlink()
    weights.symlink_to(hub / "blobs" / "gone")
    with pytest.raises(ValueError, match=r"lacks weights \(\*\.safetensors\)"):
        Perplexity(weights="some-org/pruned").files()


def test_a_worker_takes_the_commit_that_was_fingerprinted(
    folder: str, hub: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_cache(hub, "some-org/moving", folder, "a" * 40)
    driver = Perplexity(weights="some-org/moving", max_tokens=64)
    identity = driver.identity()
    sent = pickle.dumps(driver)
    monkeypatch.setattr(hub_weights, "_TAKEN", {})  # another process, in whose cache `main` has moved on
    other = save_causal(tmp_path_factory.mktemp("flat"), flat=True)
    in_cache(hub, "some-org/moving", other, "b" * 40)
    worker = pickle.loads(pickle.dumps(pickle.loads(sent)))
    assert worker == driver
    assert worker.identity() == identity
    assert {Path(f).parent.name for f in worker.files()} == {"a" * 40}
    assert answers(worker, "a red car") == answers(Perplexity(weights=folder, max_tokens=64), "a red car")
    assert answers(Perplexity(weights="some-org/moving", max_tokens=64), "a red car") != answers(worker, "a red car")


def test_a_worker_without_that_commit_refuses(folder: str, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = in_cache(hub, "some-org/moving", folder, "a" * 40)
    driver = Perplexity(weights="some-org/moving")
    driver.files()
    sent = pickle.dumps(driver)
    monkeypatch.setattr(hub_weights, "_TAKEN", {})
    snapshot.rename(snapshot.with_name("b" * 40))
    (snapshot.parents[1] / "refs" / "main").write_text("b" * 40)
    with pytest.raises(
        ValueError, match=r"perplexity: .*`hf download some-org/moving --revision a{40}`, for each machine"
    ):
        pickle.loads(sent).open()


def test_memory_of_a_name_goes_by_its_snapshot(folder: str, hub: Path, tmp_path: Path) -> None:
    by_name, by_folder = Perplexity(weights="some-org/large"), Perplexity(weights=folder)
    snapshot = in_cache(hub, "some-org/large", folder)
    assert by_name.need() == by_folder.need()  # vocabulary, too
    with (snapshot / "model.safetensors").open("r+b") as file:
        file.truncate(16_000_000_000)  # a hole: eight billion parameters of two bytes
    assert Perplexity(weights="some-org/large", precision="bf16").need().memory_gb == pytest.approx(37.7, abs=1)
    config = json.loads((snapshot / "config.json").read_text())
    (snapshot / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    assert Perplexity(weights="some-org/large", precision="bf16").need().memory_gb == pytest.approx(37.7, abs=1)
    assert Perplexity(weights="some-org/large", precision="fp32").need().memory_gb == pytest.approx(55.3, abs=1)


def test_memory_of_what_is_not_here_is_asked_for_nothing(hub: Path) -> None:
    """`files` refuses it before it runs; who only looks at a recipe is not disturbed."""
    assert Perplexity(weights="some-org/none").need().memory_gb > 1.5
    with pytest.raises(ValueError, match="cannot be fetched"):
        Perplexity(weights="some-org/none").files()


def test_memory_goes_by_the_models_size(folder: str) -> None:
    small, large = Perplexity(weights=folder, batch=8), Perplexity(weights=folder, batch=4096)
    assert hub_weights.vocabulary(folder) == 258
    assert small.need().memory_gb < 4 < large.need().memory_gb


def test_neither_folder_nor_name(hub: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"perplexity: there is no folder 'some-org/none' here, and the hub's .* cannot be fetched .*weights: ",
    ):
        Perplexity(weights="some-org/none").files()
    with pytest.raises(ValueError, match=r"perplexity: no folder of weights at /nowhere/at/all; give one"):
        Perplexity(weights="/nowhere/at/all").files()


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (("config.json", "tokenizer.json"), r"has no weights \(\*\.safetensors\): save a model"),
        (("model.safetensors", "tokenizer.json"), r"has no config\.json"),
        (("config.json", "model.safetensors"), r"has no tokenizer: save it there"),
    ],
)
def test_a_folder_that_lacks_something(folder: str, tmp_path: Path, kept: tuple[str, ...], said: str) -> None:
    for name in kept:
        (tmp_path / name).write_bytes((Path(folder) / name).read_bytes())
    with pytest.raises(ValueError, match=said):
        Perplexity(weights=str(tmp_path)).files()


def test_damaged_weights(folder: str, tmp_path: Path) -> None:
    for file in Path(folder).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"perplexity: transformers cannot load .* as AutoModelForCausalLM: \w+"):
        Perplexity(weights=str(tmp_path)).open()


def test_no_gpu_here(folder: str) -> None:
    libraries()
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(ValueError, match=r"perplexity: `device: cuda`, and no GPU is seen here"):
        Perplexity(weights=folder, device="cuda").open()
    assert Perplexity(weights=folder, device="cuda").need().gpus == 1


def test_pure_bf16_is_close(folder: str) -> None:
    exact, coarse = (Perplexity(weights=folder, max_tokens=64, precision=p) for p in ("fp32", "bf16"))
    text = "a dog on a beach"
    assert answers(coarse, text)[0]["perplexity"] == pytest.approx(answers(exact, text)[0]["perplexity"], rel=0.2)
    assert exact.identity() != coarse.identity()
