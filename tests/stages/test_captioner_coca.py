"""CoCa by `model:`, with weights that open_clip wrote: the stage says what open_clip's own model finds likeliest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages.captioner import Caption, one_line
from tests.stages import captioner_parts as parts

torch = parts.packages()

import open_clip  # noqa: E402

from tests.training_smoke.families.coca_cases import PLAIN, SIZE, TINY, moved, narrow  # noqa: E402
from training_smoke.families.coca import CoCa  # noqa: E402

TOKENS = 6
PICTURES = [parts.image(i, (SIZE, SIZE)) for i in range(5)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A file of open_clip's training, and its configuration in open_clip's own list."""
    folder = tmp_path_factory.mktemp("coca")
    with narrow(folder):
        made = moved(CoCa.build(replace(TINY, name=PLAIN, context=16), {}, seed=0))
        torch.save({"state_dict": made.model.state_dict(), "epoch": 1}, folder / "epoch_1.pt")
        yield str(folder / "epoch_1.pt")


def theirs(weights: str, prompt: str) -> list[str]:
    """Greedy texts by open_clip's model, preparation of pictures and tokenizer: the whole text anew for each token."""
    model, _, prepare = open_clip.create_model_and_transforms(PLAIN, pretrained=weights)
    words, begins = open_clip.SimpleTokenizer(), [49406]
    begins += words.encode(prompt) if prompt else []
    return [_greedy(model.eval(), prepare(p)[None], words, begins) for p in parts.opened(PICTURES)]


def _greedy(model: Any, image: Any, words: Any, begins: list[int]) -> str:
    bos, eos = 49406, 49407
    said: list[int] = []
    while len(said) < TOKENS and eos not in said:
        with torch.no_grad():
            logits = model(image, torch.tensor([begins + said]), output_labels=False)["logits"][0, -1]
        logits[[bos] if said else [bos, eos]] = -torch.inf
        said.append(int(logits.argmax()))
    return one_line(words.decode([token for token in said if token != eos]))


def _letters(text: str) -> str:
    """Without white space: open_clip's tokenizer leaves some before a full stop, the stage does not."""
    return "".join(text.split())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("prompt", ["", "a photo of"])
def test_it_says_what_open_clips_model_finds_likeliest(weights: str, prompt: str) -> None:
    stage = Caption(model=PLAIN, weights=weights, prompt=prompt, sampling="greedy", max_tokens=TOKENS, batch=3)
    found = parts.said(stage, PICTURES)
    assert [_letters(text) for text in found] == [_letters(text) for text in theirs(weights, prompt)]
    assert len(set(found)) > 1, "pictures make no difference: this shows nothing"


def test_its_draws_are_the_same_in_any_company(weights: str) -> None:
    how: dict[str, Any] = {"n": 3, "sampling": "top_k", "k": 20, "max_tokens": TOKENS, "seed": 4, "temperature": 2.0}
    many = parts.said(Caption(model=PLAIN, weights=weights, batch=3, **how), PICTURES)
    alone = Caption(model=PLAIN, weights=weights, batch=1, **how)
    assert many == [parts.said(alone, [picture], first=i)[0] for i, picture in enumerate(PICTURES)]
    assert len({text["text"] for row in many for text in row}) > 3


def test_texts_are_of_the_weights_and_the_model_named(weights: str, tmp_path: Path) -> None:
    stage = Caption(model=PLAIN, weights=weights)
    assert stage.files() == (weights,)
    with pytest.raises(ValueError, match="coca_nowhere"):
        Caption(model="coca_nowhere", weights=weights).files()
    with pytest.raises(ValueError, match="no weights at"):
        Caption(model=PLAIN, weights=str(tmp_path / "none.pt")).files()
