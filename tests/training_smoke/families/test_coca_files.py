"""Files of CoCa go both ways: what is exported open_clip loads, what open_clip wrote begins a training."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from training_smoke.config import Towers, scale
from training_smoke.errors import TrainingError
from training_smoke.families import coca_config
from training_smoke.families.coca import CoCa
from training_smoke.towers_file import load_model, save_model

open_clip = pytest.importorskip("open_clip")

from tests.training_smoke.families.coca_cases import PLAIN, SIZE, TEXTS, TINY, build, moved, narrow  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with narrow(tmp_path_factory.mktemp("configurations")):
        yield


@pytest.fixture(scope="module", params=["tiny", PLAIN])
def made(request: pytest.FixtureRequest, small: None) -> CoCa:
    return build(request.param)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_open_clip_loads_what_is_exported(made: CoCa, tmp_path: Path) -> None:
    made.export(tmp_path / "out")
    name = f"local-dir:{tmp_path / 'out'}"
    theirs, _, prepare = open_clip.create_model_and_transforms(name)
    theirs.eval()
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    assert torch.equal(tokens, made.tokenize(TEXTS))
    array = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    given = torch.from_numpy(array).permute(2, 0, 1)[None]
    with torch.no_grad():
        ours = made.model(made.normalised(given), tokens[:1])
        found = theirs(prepare(Image.fromarray(array))[None], tokens[:1])
    for part in ("logits", "image_features", "text_features", "logit_scale"):
        torch.testing.assert_close(found[part].squeeze(), ours[part].squeeze(), rtol=1e-5, atol=1e-5)


def test_what_open_clip_wrote_is_loaded(made: CoCa, tmp_path: Path) -> None:
    """Its folders and its files; half a context as well, whose last position stays that of the token behind a text."""
    name = "tiny" if isinstance(made.words, coca_config.Vocabulary) else PLAIN
    made.export(tmp_path / "folder")
    state = made.model.state_dict()
    torch.save({"state_dict": {f"module.{n}": v for n, v in state.items()}, "epoch": 3}, tmp_path / "epoch_3.pt")
    for weights in ("folder", "epoch_3.pt"):
        towers = Towers(name, str(tmp_path / weights), SIZE, 12)
        loaded = CoCa.build(towers, {}, seed=5).eval()
        assert all(
            torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), made.state_dict().values(), strict=True)
        )
        shorter = CoCa.build(replace(towers, context=6), {}, seed=5).eval()
        torch.testing.assert_close(shorter.encode_texts(["two"])[0], _at(made, "two", 6), rtol=1e-5, atol=1e-5)
        patch = 16 if name == "tiny" else 8
        bigger = CoCa.build(replace(towers, image_size=2 * SIZE), {}, seed=5)
        assert bigger.model.visual.positional_embedding.shape[0] == (2 * SIZE // patch) ** 2 + 1
    with pytest.raises(TrainingError, match=r"was trained with texts of 12 tokens: towers.context 14 is longer"):
        CoCa.build(replace(towers, context=14), {}, seed=5)


def _at(made: CoCa, text: str, context: int) -> Tensor:
    """The vector of a text whose reader stands where it stood in training, by loops over what is before it."""
    reader = deepcopy(made.model.text)
    keep = [*range(context), len(reader.positional_embedding) - 1]
    reader.positional_embedding = torch.nn.Parameter(reader.positional_embedding[keep])
    reader.attn_mask = reader.attn_mask[: context + 1, : context + 1]
    with torch.no_grad():
        return F.normalize(reader(made.words.encode([text], context))[0], dim=-1)[0]


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    first = moved(CoCa.build(TINY, {}, seed=0))
    config = scale("tiny", "coca").but(towers={"image_size": SIZE, "context": 12})
    save_model(tmp_path / "towers.pt", first, config, {})
    again = load_model(tmp_path / "towers.pt")
    begun = CoCa.build(replace(TINY, weights=str(tmp_path / "towers.pt")), {}, seed=7)
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
        assert torch.equal(begun.state_dict()[name], value), name


def test_another_models_weights_are_refused(tmp_path: Path) -> None:
    CoCa.build(TINY, {}, seed=0).export(tmp_path / "out")
    with pytest.raises(TrainingError, match=r"has another model than .*text_cfg.heads 1 in place of 2"):
        CoCa.build(replace(TINY, name=PLAIN, weights=str(tmp_path / "out")), {}, seed=0)
    torch.save({"logit_scale": torch.zeros(()), "text.positional_embedding": torch.zeros(13, 32)}, tmp_path / "x.pt")
    with pytest.raises(TrainingError, match=r"x.pt: no weights of tiny"):
        CoCa.build(replace(TINY, weights=str(tmp_path / "x.pt")), {}, seed=0)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_files_that_are_none_are_refused(tmp_path: Path, name: str) -> None:
    for content in (b"", b"nothing of weights", b"\x80\x04garbage" * 9):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TrainingError, match=rf"{name}: no weights of tiny: .* It is to be a checkpoint"):
            CoCa.build(replace(TINY, weights=str(tmp_path / name)), {}, seed=0)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(TrainingError, match=r"list.pt: no weights of tiny"):
        CoCa.build(replace(TINY, weights=str(tmp_path / "list.pt")), {}, seed=0)


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def download_pretrained(said: object) -> str:
        raise FileNotFoundError("no network")

    monkeypatch.setattr(open_clip, "download_pretrained", download_pretrained)
    with pytest.raises(TrainingError, match=r"'laion2b_s13b_b90k' could not be fetched: no network. Fetch them once"):
        coca_config._file({}, Towers("coca_ViT-B-32", "laion2b_s13b_b90k"))
