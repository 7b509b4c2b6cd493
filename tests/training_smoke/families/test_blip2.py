"""BLIP-2's first stage: who sees whom, losses against transformers' model and loops, files both ways."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training_smoke.families.mini_blip2 import TEXTS, mini, pictures, shaken
from training_smoke.abilities import Captioner, Encoders, Matcher
from training_smoke.config import Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.families.base import Moment
from training_smoke.families.blip2 import Blip2
from training_smoke.families.blip2_qformer import CachedWriting, attention
from training_smoke.objectives.blip2 import hard_negatives, nearest, query_contrast
from training_smoke.sampling import Sampling
from training_smoke.towers_file import save_model

MOMENT = Moment(step=3, steps=10, seed=5)


@pytest.fixture(scope="module", autouse=True)
def _mini() -> Iterator[None]:
    with mini():
        yield


def built(weights: Path | None = None, name: str = "mini", **settings: Any) -> Blip2:
    found = Blip2.build(Towers(name, weights=None if weights is None else str(weights)), settings, seed=0)
    assert isinstance(found, Blip2)
    return found


@pytest.fixture(scope="module")
def model() -> Blip2:
    found = built().eval()
    shaken(found)
    return found


@pytest.fixture(scope="module")
def folder(model: Blip2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("exported")
    model.export(made)
    return made


# ------------------------------------------------------------------------------------------- who sees whom


def test_masks_place_by_place() -> None:
    there = torch.tensor([[True, True, True], [True, False, False]])
    q = 2
    for kind in ("alone", "together", "writing"):
        found = attention(kind, 0 if kind == "alone" else q, there)
        queries = 0 if kind == "alone" else q
        places = queries + 3
        found = found.expand(2, 1, places, places)
        for row in range(2):
            for i in range(places):
                for j in range(places):
                    text = j >= queries
                    sees = (not text) or bool(there[row, j - queries])
                    if kind == "writing" and text:
                        sees = sees and i >= j  # neither queries nor earlier tokens look at what comes
                    assert bool(found[row, 0, i, j]) == sees, (kind, row, i, j)


def test_queries_of_a_text_that_is_written_are_those_without_it(model: Blip2) -> None:
    tokens = model.tokenize(TEXTS)
    with torch.no_grad():
        states = model.see(pictures())
        with_text, hidden, _ = model._write(states, tokens)
        logits = model._logits(hidden)
        torch.testing.assert_close(with_text, model.query_vectors(pictures()))
        other = tokens.clone()
        other[:, 3] = 700
        changed = model._logits(model._write(states, other)[1])
    torch.testing.assert_close(changed[:, :3], logits[:, :3])
    assert (changed[0, 3] - logits[0, 3]).abs().max() > 1e-3


def test_padding_says_nothing(model: Blip2) -> None:
    long, short = ["a boat", TEXTS[2]], ["a boat"]
    torch.testing.assert_close(model.encode_texts(long)[:1], model.encode_texts(short))
    torch.testing.assert_close(model.match(pictures(2), long)[:1], model.match(pictures(2)[:1], short))
    of_long, of_short = model.caption_loss(pictures(2), long), model.caption_loss(pictures(2)[:1], short)
    torch.testing.assert_close(of_long[0][:1], of_short[0])
    assert of_long[1][:1].tolist() == of_short[1].tolist()


def test_token_by_token_is_all_at_once(model: Blip2) -> None:
    tokens = model.tokenize(TEXTS)
    with torch.no_grad():
        states = model.see(pictures())
        _, hidden, labels = model._write(states, tokens)
        expected = model._logits(hidden)
        decoder = CachedWriting(model.model, model.writer, states)
        state, fed = decoder.begin(), torch.cat([torch.full((len(TEXTS), 1), model.words.begin), tokens[:, 1:]], 1)
        found = []
        for place in range(expected.shape[1]):
            logits, state = decoder.next(fed[:, place], state)
            found.append(logits)
    said = labels != -100
    torch.testing.assert_close(torch.stack(found, 1)[said], expected[said], rtol=1e-4, atol=1e-5)
    some = decoder.rows(state, torch.tensor([4, 1, 1]))
    with torch.no_grad():
        after, _ = decoder.next(fed[[4, 1, 1], -1], some)
        whole, _ = decoder.next(fed[:, -1], state)
    torch.testing.assert_close(after, whole[[4, 1, 1]], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------- losses


def theirs(model: Blip2, images: Tensor, tokens: Tensor, matching: bool) -> Tensor:
    """What transformers' own forward pass says."""
    with torch.no_grad():
        found: Tensor = model.model(
            pixel_values=model.normalised(images),
            input_ids=tokens,
            attention_mask=(tokens != model.words.pad).long(),
            use_image_text_matching_head=matching,
        ).logits_per_image
    return found


def test_vectors_and_matches_are_those_of_transformers(model: Blip2) -> None:
    tokens = model.tokenize(TEXTS)
    with torch.no_grad():
        ours = nearest(model.query_vectors(pictures()), model.encode_texts(TEXTS))
    torch.testing.assert_close(ours, theirs(model, pictures(), tokens, matching=False), rtol=0, atol=1e-5)
    # Of a world with two wrong pairs to a true one, as in training: odds doubled they are of one with as many.
    odds = 2 * (theirs(model, pictures(), tokens, matching=True) @ torch.tensor([-1.0, 1.0])).exp()
    yes = odds / (1 + odds)
    torch.testing.assert_close(model.match(pictures(), TEXTS), yes, rtol=0, atol=1e-5)
    assert yes.max() - yes.min() > 1e-4


def test_losses_are_their_definitions(model: Blip2) -> None:
    """Contrast and matching from transformers' similarities and logits, captions token by token, in Python's floats."""
    tokens, groups = model.tokenize(TEXTS), torch.tensor([0, 1, 2, 0, 3, 4])
    with torch.no_grad():
        found = {n: v.item() for n, v in model(pictures(), tokens, groups, MOMENT).items()}
        vectors = model.query_vectors(pictures())
        contrast = query_contrast(vectors, model.encode_texts(TEXTS), model.tau, groups=groups)
    assert found["itc"] == pytest.approx(contrast.loss.item(), abs=1e-5)
    assert found["itm"] == pytest.approx(matching_by_loops(model, tokens, groups, contrast), abs=1e-5)
    assert found["itg"] == pytest.approx(writing_by_loops(model, tokens), abs=1e-5)
    assert found["loss"] == pytest.approx(found["itc"] + found["itm"] + found["itg"], abs=1e-5)


def matching_by_loops(
    model: Blip2,
    tokens: Tensor,
    groups: Tensor,
    contrast: Any,
    rows: Sequence[int] = range(len(TEXTS)),
    moment: Moment = MOMENT,
) -> float:
    draws = moment.uniform("itm", len(tokens), 2)
    text, _ = hard_negatives(contrast.image_to_text, draws[:, 0], groups=groups)
    image, _ = hard_negatives(contrast.text_to_image, draws[:, 1], groups=groups)
    pairs = [(i, i, 1) for i in rows] + [(int(image[i]), i, 0) for i in rows] + [(i, int(text[i]), 0) for i in rows]
    assert all(groups[i] != groups[t] for i, t, yes in pairs if not yes)
    total = 0.0
    for i, t, label in pairs:
        no, yes = theirs(model, pictures()[i : i + 1], tokens[t : t + 1], matching=True)[0].tolist()
        total += math.log(math.exp(no) + math.exp(yes)) - (yes if label else no)
    return total / len(pairs)


def writing_by_loops(model: Blip2, tokens: Tensor) -> float:
    """Each token from a pass over what stands before it alone."""
    total, count = 0.0, 0
    with torch.no_grad():
        states = model.see(pictures())
        for row, said in enumerate(tokens.tolist()):
            for place in range(1, said.index(model.words.end) + 1):
                short = torch.tensor([[*said[:place], model.words.end]])
                hidden = model._write(states[row : row + 1], short)[1][0, place - 1]
                logits = model._logits(hidden).double().tolist()
                norm = math.log(sum(math.exp(v) for v in logits))
                total += norm - 0.9 * logits[said[place]] - 0.1 * sum(logits) / len(logits)
                count += 1
    return total / count


def test_captions_cost_what_their_tokens_do(model: Blip2) -> None:
    sums, counts = model.caption_loss(pictures(), TEXTS)
    tokens = model.tokenize(TEXTS)
    assert counts.tolist() == [(row != model.words.pad).sum().item() - 1 for row in tokens]
    loss = model(pictures(), tokens, None, MOMENT)
    unsmoothed = built(smoothing=0.0).eval()
    unsmoothed.load_state_dict(model.state_dict())
    plain = unsmoothed(pictures(), tokens, None, MOMENT)
    assert plain["itg"].item() == pytest.approx(sums.sum().item() / counts.sum().item(), rel=1e-5)
    assert plain["itg"].item() != pytest.approx(loss["itg"].item(), abs=1e-3)


def test_duplicates_are_no_negatives(model: Blip2) -> None:
    found = model(pictures(), model.tokenize(TEXTS), torch.zeros(len(TEXTS), dtype=torch.int64), MOMENT)
    assert found["itc"].item() == pytest.approx(0, abs=1e-6)
    yes = theirs(model, pictures(), model.tokenize(TEXTS), matching=True).log_softmax(1)[:, 1]
    assert found["itm"].item() == pytest.approx(-yes.mean().item(), abs=1e-5)  # of true pairs alone


@pytest.mark.parametrize(("step", "rows"), [(3, [1, 3, 5]), (4, [0, 2, 4])])
def test_matching_may_learn_from_a_part_of_the_batch(model: Blip2, step: int, rows: list[int]) -> None:
    """Of half of it every other pair, the others in the next step, true and wrong ones alike; other losses of all."""
    moment = Moment(step=step, steps=10, seed=5)
    half, tokens = built(matched=0.5).eval(), model.tokenize(TEXTS)
    half.load_state_dict(model.state_dict())
    with torch.no_grad():
        found, whole = (m(pictures(), tokens, None, moment) for m in (half, model))
        contrast = query_contrast(model.query_vectors(pictures()), model.encode_texts(TEXTS), model.tau)
    expected = matching_by_loops(model, tokens, torch.arange(6), contrast, rows, moment)
    assert found["itm"].item() == pytest.approx(expected, abs=1e-5)
    assert found["itm"].item() != pytest.approx(whole["itm"].item(), abs=1e-5)
    assert (found["itc"], found["itg"]) == (whole["itc"], whole["itg"])
    few = built(matched=0.01)  # of two pairs one
    assert few(pictures(2), few.tokenize(TEXTS[:2]), None, moment)["itm"].item() > 0
    with pytest.raises(TrainingError, match="matched lies in"):
        Blip2.checked({"matched": 0.0})


def test_every_loss_reaches_the_queries_and_the_picture() -> None:
    found = built()
    for name, silent in (("itc", "writer.dense.weight"), ("itm", "tau"), ("itg", "model.itm_head.weight")):
        losses = found(pictures(), found.tokenize(TEXTS), None, MOMENT)
        names, parameters = zip(*found.named_parameters(), strict=True)
        gradients = dict(zip(names, torch.autograd.grad(losses[name], parameters, allow_unused=True), strict=True))
        for part in ("model.query_tokens", "model.vision_model.embeddings.patch_embedding.weight"):
            assert gradients[part] is not None
            assert gradients[part].abs().sum() > 0, (name, part)
        assert gradients[silent] is None, name


# ------------------------------------------------------------------------------------------- how it begins


def test_random_weights_can_learn() -> None:
    """transformers begins with equal queries, which would stay equal, and an image encoder that says 0 of all."""
    found = built()
    queries = found.model.query_tokens[0]
    assert torch.pdist(queries).min() > 0.05
    states = found.see(pictures(2))
    assert (states[0] - states[1]).abs().mean() > 0.01


def test_tau_is_learned_within_bounds() -> None:
    found = built()
    found(pictures(), found.tokenize(TEXTS), None, MOMENT)
    assert found.told() == {"tau": pytest.approx(0.07)}
    for value, expected in ((-1.0, 0.001), (2.0, 0.5), (0.2, 0.2)):
        found.tau.data.fill_(value)
        found.after_step(MOMENT)
        assert found.tau.item() == pytest.approx(expected)


def test_what_is_loaded_is_frozen_and_what_is_random_learns(folder: Path) -> None:
    assert all(p.requires_grad for p in built().parameters())
    for found in (built(folder), built(train_vision=False)):
        frozen = {n for n, p in found.named_parameters() if not p.requires_grad}
        of_vision = {n for n, _ in found.named_parameters() if n.startswith("model.vision_model.")}
        assert frozen == {n for n in of_vision if "post_layernorm" not in n}
        found(pictures(), found.tokenize(TEXTS), None, MOMENT)["loss"].backward()
        assert all((p.grad is None) == (n in frozen) for n, p in found.named_parameters())
    assert all(p.requires_grad for p in built(folder, train_vision=True).parameters())


def test_activations_that_are_made_anew_change_nothing() -> None:
    found = []
    for checkpointing in (False, True):
        made = Blip2.build(Towers("mini", checkpointing=checkpointing), {}, seed=0).train()
        loss = made(pictures(), made.tokenize(TEXTS), None, MOMENT)["loss"]
        loss.backward()
        found.append({"loss": loss.detach()} | {n: p.grad for n, p in made.named_parameters()})
    torch.testing.assert_close(found[0], found[1])


def test_abilities(model: Blip2) -> None:
    assert isinstance(model, Encoders)
    assert isinstance(model, Captioner)
    assert isinstance(model, Matcher)
    assert model.encode_images(pictures()).shape == model.encode_texts(TEXTS).shape == (6, 16)
    said = model.caption(pictures(), Sampling("greedy", max_tokens=5), [str(i) for i in range(6)])
    assert len(said) == 6
    assert all(isinstance(s, str) for s in said)


# ------------------------------------------------------------------------------------------- files


def test_transformers_loads_what_is_exported(model: Blip2, folder: Path) -> None:
    from transformers import AutoTokenizer, Blip2ForImageTextRetrieval

    loaded, about = Blip2ForImageTextRetrieval.from_pretrained(folder, output_loading_info=True)
    assert not about["missing_keys"]
    assert not about["unexpected_keys"]
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=True, truncation=True, max_length=12, return_tensors="pt"
    )
    with torch.no_grad():
        found = loaded.eval()(model.normalised(pictures()), **tokens).logits_per_image
        matched = loaded(model.normalised(pictures()), **tokens, use_image_text_matching_head=True).logits_per_image
    with torch.no_grad():
        torch.testing.assert_close(found, nearest(model.query_vectors(pictures()), model.encode_texts(TEXTS)))
    yes = matched.softmax(1)[:, 1]
    torch.testing.assert_close(2 * yes / (1 + yes), model.match(pictures(), TEXTS))


def test_its_processor_prepares_pictures_as_we_do(model: Blip2, folder: Path) -> None:
    pytest.importorskip("torchvision")
    from PIL import Image
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    given = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pictures(2)]
    found = processor(images=given, text=TEXTS[:2], padding=True, return_tensors="pt")
    torch.testing.assert_close(found["pixel_values"], model.normalised(pictures(2)), rtol=0, atol=1e-5)
    assert torch.equal(found["input_ids"], model.words.trimmed(model.tokenize(TEXTS[:2])))


@pytest.mark.parametrize("by_name", [False, True])
def test_what_is_exported_begins_a_run(model: Blip2, folder: Path, by_name: bool) -> None:
    """Weights alone into towers of the same size, or the folder as the towers' name too."""
    towers = Towers(str(folder) if by_name else "mini", weights=str(folder), context=12)
    found = Blip2.build(towers, {}, seed=0).eval()
    ours, theirs = found.state_dict(), model.state_dict()
    assert ours.keys() - {"about"} == theirs.keys()
    assert ("about" in ours) == by_name
    assert [n for n in theirs if not torch.equal(ours[n], theirs[n])] == []
    assert torch.equal(found.tokenize(TEXTS), model.tokenize(TEXTS))
    assert found.words.begin == model.words.begin


def test_published_weights_have_no_head_that_writes(model: Blip2, tmp_path: Path) -> None:
    model.model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="no head that writes"):
        found = built(tmp_path)
    assert torch.equal(found.model.qformer.layernorm.weight, model.model.qformer.layernorm.weight)
    assert not torch.equal(found.writer.dense.weight, model.writer.dense.weight)


def test_a_file_of_ours_begins_a_run(model: Blip2, tmp_path: Path) -> None:
    save_model(tmp_path / "towers.pt", model, Config(objective="blip2", towers=Towers("mini")), {})
    found = built(tmp_path / "towers.pt").state_dict()
    assert [n for n, v in model.state_dict().items() if not torch.equal(v, found[n])] == []


def test_an_image_encoder_of_blip_begins_a_run(tmp_path: Path) -> None:
    from transformers import BlipVisionConfig, BlipVisionModel

    shape = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 1}
    same = {"image_size": 32, "patch_size": 16, "layer_norm_eps": 1e-6}  # 1e-5 by default there
    theirs = BlipVisionModel(BlipVisionConfig(**shape, **same, initializer_range=0.02)).eval()
    theirs.save_pretrained(tmp_path)
    found = built(tmp_path).eval()
    pixels = found.normalised(pictures())
    with torch.no_grad():
        torch.testing.assert_close(found.see(pictures()), theirs(pixels).last_hidden_state, rtol=0, atol=1e-5)
    assert not found.model.vision_model.embeddings.class_embedding.requires_grad
    assert torch.equal(found.model.itm_head.weight, built().model.itm_head.weight)


# ------------------------------------------------------------------------------------------- what is refused


def test_what_does_not_fit_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no size 'huge'"):
        built(name="huge")
    with pytest.raises(TrainingError, match="does not fit"):
        built(folder, name="tiny")
    with pytest.raises(TrainingError, match="neither ours nor transformers'"):
        built(tmp_path)
    with pytest.raises(TrainingError, match="no whole number of patches"):
        Blip2.build(Towers("mini", image_size=33), {}, 0)
    with pytest.raises(TrainingError, match="context of 2"):
        Blip2.build(Towers("mini", context=2), {}, 0)
    (tmp_path / "x.pt").write_bytes(b"no")
    with pytest.raises(TrainingError, match="no file of a run of ours"):
        built(tmp_path / "x.pt")
