"""BLIP-2's second stage: losses and texts against transformers' own, what is frozen, files both ways."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training_smoke.families.mini_blip2 import TEXTS, mini, pictures, shaken
from training_smoke.abilities import Captioner, Encoders, Matcher
from training_smoke.config import Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.families.base import Moment
from training_smoke.families.blip2 import Blip2
from training_smoke.families.blip2_generate import Blip2Generate, CachedLanguage
from training_smoke.optimiser import adamw
from training_smoke.sampling import Sampling
from training_smoke.towers_file import load_model, save_model
from training_smoke.vocabulary import Vocabulary

MOMENT = Moment(step=3, steps=10, seed=5)
KEYS = [str(i) for i in range(len(TEXTS))]


@pytest.fixture(scope="module", autouse=True)
def _mini() -> Iterator[None]:
    with mini():
        yield


def built(name: str = "mini", weights: Path | None = None, **settings: Any) -> Blip2Generate:
    found = Blip2Generate.build(Towers(name, weights=None if weights is None else str(weights)), settings, seed=0)
    assert isinstance(found, Blip2Generate)
    return found


@pytest.fixture(scope="module")
def model() -> Blip2Generate:
    found = built().eval()
    shaken(found, by=0.2)
    return found


@pytest.fixture(scope="module")
def folder(model: Blip2Generate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("exported")
    model.export(made)
    return made


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Blip2, Path]:
    """A first stage, and its file."""
    made = Blip2.build(Towers("mini"), {}, seed=7)
    assert isinstance(made, Blip2)
    path = tmp_path_factory.mktemp("stage1") / "towers.pt"
    save_model(path, made, Config(objective="blip2", towers=Towers("mini")), {})
    return made, path


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a causal language model of another make; its tokenizer has no token for pictures."""
    from transformers import LlamaConfig, LlamaForCausalLM

    made = tmp_path_factory.mktemp("llama")
    vocabulary = Vocabulary.small(900)
    config = LlamaConfig(
        vocab_size=900, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    language = LlamaForCausalLM(config)
    shaken(language)
    language.save_pretrained(made)
    vocabulary.hf().save_pretrained(made)
    return made


# ------------------------------------------------------------------------------------------- losses and texts


def theirs(model: Any, ours: Blip2Generate, images: Tensor, tokens: Tensor) -> Any:
    """transformers' own forward pass, with a placeholder for each query before the text."""
    queries = torch.full((len(tokens), model.config.num_query_tokens), model.config.image_token_index)
    there = (tokens != ours.words.pad).long()
    ids = torch.cat([queries, tokens], 1)
    with torch.no_grad():
        return model(
            pixel_values=ours.normalised(images),
            input_ids=ids,
            attention_mask=torch.cat([torch.ones_like(queries), there], 1),
            labels=torch.cat([torch.full_like(queries, -100), tokens.masked_fill(there == 0, -100)], 1),
        )


def nll(logits: Tensor, tokens: Tensor, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """In numpy: minus the log likelihood of each row's tokens behind the first, and how many."""
    z = logits.double().numpy()
    log_p = z - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True)) - z.max(-1, keepdims=True)
    sums, counts = np.zeros(len(tokens)), np.zeros(len(tokens), np.int64)
    for row, said in enumerate(tokens.tolist()):
        for place in range(1, len(said)):
            if said[place] != pad:
                sums[row] -= log_p[row, place - 1, said[place]]
                counts[row] += 1
    return sums, counts


def test_losses_are_of_transformers_logits(model: Blip2Generate) -> None:
    tokens = model.tokenize(TEXTS)
    said = theirs(model.model, model, pictures(), tokens)
    sums, counts = nll(said.logits[:, 4:], tokens, model.words.pad)
    found = model.caption_loss(pictures(), TEXTS)
    np.testing.assert_allclose(found[0].numpy(), sums, rtol=1e-4)
    assert found[1].tolist() == counts.tolist()
    loss = model(pictures(), tokens, None, MOMENT)["loss"].item()
    assert loss == pytest.approx(sums.sum() / counts.sum(), rel=1e-5)
    # Theirs counts the first token too, which is the same in all texts.
    assert loss != pytest.approx(said.loss.item(), rel=1e-5)


def test_greedy_texts_are_those_of_transformers(model: Blip2Generate) -> None:
    with torch.no_grad():
        said = model.model.generate(pixel_values=model.normalised(pictures()), max_new_tokens=8, do_sample=False)
    found = model.caption(pictures(), Sampling("greedy", min_tokens=0, max_tokens=8), KEYS)
    assert found == model.words.decode(said[:, said.shape[1] - 8 :] if said.shape[1] > 8 else said)
    assert len(set(found)) > 1


def test_token_by_token_is_all_at_once_and_rows_change_places(model: Blip2Generate) -> None:
    tokens = model.tokenize(TEXTS)[:, :5]
    with torch.no_grad():
        expected, _ = model._write(pictures(), torch.cat([tokens, tokens[:, -1:]], 1))
        decoder = CachedLanguage(model.model.language_model, model.prompts(pictures()))
        state = decoder.begin()
        for place in range(5):
            logits, after = decoder.next(tokens[:, place], state)
            torch.testing.assert_close(logits[:3], expected[:3, place], rtol=1e-4, atol=1e-5)  # none has ended
            again, after = decoder.next(tokens[:, place], state)  # a state stays what it was
            assert torch.equal(again, logits)
            state = after
        some = torch.tensor([2, 0, 0])
        torch.testing.assert_close(
            decoder.next(tokens[some, 0], decoder.rows(state, some))[0], decoder.next(tokens[:, 0], state)[0][some]
        )


def test_shorter_parts_of_a_batch_have_the_batchs_loss(model: Blip2Generate) -> None:
    """Weighted by their tokens; texts of like length together."""
    tokens = model.tokenize(TEXTS)
    order = model.lengths(tokens).argsort()
    whole = model(pictures(), tokens, None, MOMENT)["loss"]
    parts = [(model(pictures()[i], tokens[i], None, MOMENT)["loss"], model.weight(tokens[i])) for i in order.split(2)]
    assert sum(w for _, w in parts) == model.weight(tokens)
    mean = sum(loss * w for loss, w in parts) / model.weight(tokens)
    torch.testing.assert_close(mean, whole, rtol=1e-5, atol=0)


def test_abilities(model: Blip2Generate) -> None:
    assert isinstance(model, Captioner)
    assert not isinstance(model, Encoders | Matcher)


# ------------------------------------------------------------------------------------------- what it begins with


def frozen(model: Blip2Generate) -> set[str]:
    return {n for n, p in model.named_parameters() if not p.requires_grad}


def parts(model: Blip2Generate, *names: str) -> set[str]:
    return {n for n, _ in model.named_parameters() if n.startswith(tuple(f"model.{p}." for p in names))}


def test_a_first_stage_gives_image_encoder_queries_and_former(stage1: tuple[Blip2, Path]) -> None:
    before, path = stage1
    found = built(weights=path)
    for name in ("query_tokens", "vision_model", "qformer"):
        ours = {n: v for n, v in found.model.state_dict().items() if n.startswith(name)}
        assert ours
        assert [n for n, v in ours.items() if not torch.equal(v, before.model.state_dict()[n])] == []
    norm = {n for n in parts(found, "vision_model") if "post_layernorm" in n}
    assert frozen(found) == parts(found, "vision_model") - norm  # the language model has random weights, and learns
    assert frozen(built(weights=path, train_vision=True)) == set()
    given = adamw({"": found}, Config().optimiser).param_groups
    assert sum(len(g["params"]) for g in given) == len([p for p in found.parameters() if p.requires_grad])


def test_a_random_model_learns_whole_and_can_be_told_not_to() -> None:
    assert frozen(built()) == set()
    found = built(train_language=False)
    assert frozen(found) == parts(found, "language_model")
    found(pictures(), found.tokenize(TEXTS), None, MOMENT)["loss"].backward()
    assert all((p.grad is None) == (n in frozen(found)) for n, p in found.named_parameters())
    assert found.model.query_tokens.grad.abs().sum() > 0


def test_any_causal_language_model_is_frozen_as_it_came(llama: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    found = built(language=str(llama)).eval()
    assert frozen(found) == parts(found, "language_model")
    plain = AutoModelForCausalLM.from_pretrained(llama).state_dict()
    own = found.model.language_model.state_dict()
    assert [n for n, v in plain.items() if not torch.equal(v, own[n])] == []
    tokens = found.tokenize(TEXTS)
    assert tokens[:, 0].tolist() == [1] * len(TEXTS)
    assert all(2 in row for row in tokens.tolist())
    sums, _ = nll(theirs(found.model, found, pictures(), tokens).logits[:, 4:], tokens, 0)
    np.testing.assert_allclose(found.caption_loss(pictures(), TEXTS)[0].numpy(), sums, rtol=1e-4)
    save_model(
        tmp_path / "towers.pt", found, Config(objective="blip2_generate", towers=Towers("mini"), settings={
            "language": str(llama)}), {},
    )  # fmt: skip
    again = load_model(tmp_path / "towers.pt").state_dict()
    assert [n for n, v in found.state_dict().items() if not torch.equal(v, again[n])] == []


# ------------------------------------------------------------------------------------------- files


def test_transformers_loads_what_is_exported(model: Blip2Generate, folder: Path) -> None:
    from transformers import Blip2ForConditionalGeneration

    loaded, about = Blip2ForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not about["missing_keys"]
    assert not about["unexpected_keys"]
    tokens = model.tokenize(TEXTS)
    found = theirs(loaded.eval(), model, pictures(), tokens).logits
    torch.testing.assert_close(found, theirs(model.model, model, pictures(), tokens).logits, rtol=0, atol=1e-5)


def test_its_processor_and_generate_need_nothing_of_ours(model: Blip2Generate, folder: Path) -> None:
    pytest.importorskip("torchvision")
    from PIL import Image
    from transformers import AutoProcessor, Blip2ForConditionalGeneration

    processor = AutoProcessor.from_pretrained(folder)
    loaded = Blip2ForConditionalGeneration.from_pretrained(folder)
    given = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pictures()]
    with torch.no_grad():
        said = loaded.generate(**processor(images=given, return_tensors="pt"), max_new_tokens=8, do_sample=False)
    found = [t.strip() for t in processor.batch_decode(said, skip_special_tokens=True)]
    assert found == model.caption(pictures(), Sampling("greedy", min_tokens=0, max_tokens=8), KEYS)
    prompted = processor(images=given[:1], text="a boat", return_tensors="pt")["input_ids"]
    own = model.tokenize(["a boat"])[0]
    assert prompted[0].tolist() == [4] * 4 + own[: int((own != 0).sum()) - 1].tolist()


@pytest.mark.parametrize("by_name", [False, True])
def test_what_is_exported_begins_a_run(model: Blip2Generate, folder: Path, by_name: bool) -> None:
    towers = Towers(str(folder) if by_name else "mini", weights=str(folder), context=12)
    found = Blip2Generate.build(towers, {}, seed=3).eval()
    theirs = found.state_dict()
    assert [n for n, v in model.state_dict().items() if not torch.equal(v, theirs[n])] == []
    assert torch.equal(found.tokenize(TEXTS), model.tokenize(TEXTS))
    assert parts(found, "language_model") < frozen(found)  # type: ignore[arg-type]
    assert (found.words.begin, found.words.end, found.words.pad) == (1, 2, 0)


# ------------------------------------------------------------------------------------------- what is refused


def test_what_does_not_fit_is_said(folder: Path, llama: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    with pytest.raises(TrainingError, match="has a language model already"):
        built(str(folder), language=str(llama))
    with pytest.raises(TrainingError, match=r"settings\.language"):
        built(language=str(tmp_path))
    with pytest.raises(TrainingError, match="second stage needs"):
        built(str(llama))
    without = AutoTokenizer.from_pretrained(llama)
    without.pad_token = None
    (tmp_path / "no_pad").mkdir()
    for file in llama.iterdir():
        (tmp_path / "no_pad" / file.name).write_bytes(file.read_bytes())
    without.save_pretrained(tmp_path / "no_pad")
    with pytest.raises(TrainingError, match="another for padding"):
        built(language=str(tmp_path / "no_pad"))


@pytest.mark.parametrize("whole", [False, True])
def test_a_file_needs_no_language_model_beside_it(llama: Path, folder: Path, tmp_path: Path, whole: bool) -> None:
    there = tmp_path / "theirs"
    shutil.copytree(folder if whole else llama, there)
    towers = Towers(str(there), weights=str(there)) if whole else Towers("mini")
    settings = {} if whole else {"language": str(there)}
    model = Blip2Generate.build(towers, settings, seed=0).eval()
    config = Config(objective="blip2_generate", towers=towers, settings=settings)
    save_model(tmp_path / "towers.pt", model, config, {})
    shutil.rmtree(there)
    again = load_model(tmp_path / "towers.pt")
    assert isinstance(again, Blip2Generate)
    assert torch.equal(again.tokenize(TEXTS), model.tokenize(TEXTS))
    assert torch.equal(again.caption_loss(pictures(), TEXTS)[0], model.caption_loss(pictures(), TEXTS)[0])
    how = Sampling("greedy", max_tokens=6)
    assert again.caption(pictures(), how, KEYS) == model.caption(pictures(), how, KEYS)


@pytest.mark.parametrize("whole", [False, True])
def test_a_language_model_in_half_precision_speaks(
    llama: Path, model: Blip2Generate, tmp_path: Path, whole: bool
) -> None:
    from transformers import AutoModelForCausalLM

    if whole:
        model.export(tmp_path)
        copy.deepcopy(model.model).half().save_pretrained(tmp_path)
        found = built(str(tmp_path), weights=tmp_path)
    else:
        shutil.copytree(llama, tmp_path, dirs_exist_ok=True)
        AutoModelForCausalLM.from_pretrained(llama).half().save_pretrained(tmp_path)
        found = built(language=str(tmp_path))
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    assert len(found.caption(pictures(), Sampling("greedy", max_tokens=3), KEYS)) == len(TEXTS)


def test_a_language_model_without_its_tokenizer_is_refused(llama: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(llama / name, tmp_path)
    with pytest.raises(TrainingError, match=r"settings.language|do not belong together"):
        built(language=str(tmp_path))
