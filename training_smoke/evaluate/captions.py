"""What a model writes of pictures, and how likely it finds what people wrote; each beside its controls.

    found = captions(model, some, Effort())
    found.metrics["cider"], found.metrics["cider_shuffled"], found.metrics["caption_loss_blind"]

Captions are written once by beams (or greedily) and once by chance (nucleus): the first are the likeliest, of which a
small model has few; of the second hardly two are alike. Both are measured against people's. A caption of the wrong
picture is one of another picture's, so that the shuffled control costs nothing to write; all grey pictures have one
likeliest caption, and a draw each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from training_smoke.abilities import Captioner, Encoders
from training_smoke.errors import TrainingError
from training_smoke.evaluate.caption_metrics import References, distinct, words
from training_smoke.evaluate.effort import Effort
from training_smoke.evaluate.encode import encode_texts, image_batches
from training_smoke.evaluate.hyperbolic import HyperbolicEncoders
from training_smoke.evaluate.measured import Measured
from training_smoke.evaluate.pictures import Pictures, grey, rolled
from training_smoke.sampling import Sampling

TOKENS = 24
CLIPSCORE_PROMPT = "A photo depicts {}"
CLIPSCORE_WEIGHT = 2.5


def captions(model: Captioner, some: Pictures, effort: Effort, second: Encoders | None = None) -> Measured:
    """All that is measured of a captioner on pictures with people's captions.

    Args:
        second: a model that was trained on other data; with it CLIPScore.

    Raises:
        TrainingError: a picture without a caption, or a likelihood that is not finite.
    """
    truth = References(some.answers)
    likely = Sampling("beam" if effort.beams > 1 else "greedy", beams=effort.beams, max_tokens=TOKENS)
    said = written(model, some, likely)
    blind = model.caption(grey(some.images[:1]), likely, ["grey"]) * len(some)
    found = _against(truth, said, "") + _against(truth, rolled(said), "_shuffled") + _against(truth, blind, "_blind")
    metrics = {"distinct_likeliest": distinct(said), "caption_words": float(np.mean([len(words(s)) for s in said]))}
    by_chance = Sampling("nucleus", p=0.9, max_tokens=TOKENS, seed=effort.seed)
    drawn = written(model, some, by_chance)
    draws = {"": drawn, "_shuffled": rolled(drawn), "_blind": written(model, some, by_chance, grey(some.images))}
    metrics |= {f"cider_nucleus{control}": float(truth.cider_d(texts).mean()) for control, texts in draws.items()}
    metrics |= {"distinct": distinct(drawn), "n_captioned": len(some)}
    found += Measured(metrics) + likelihood(model, some)
    found = found if second is None else found + clip_score(second, some, {"": said, "_blind": blind})
    return found.of(some.numbers)


def written(model: Captioner, some: Pictures, how: Sampling, shown: Tensor | None = None) -> list[str]:
    """A caption of each picture; `shown` is looked at in their place."""
    said: list[str] = []
    for rows, images in some.batches(shown):
        said += model.caption(images, how, some.keys[rows])
    return said


def _against(truth: References, said: Sequence[str], control: str) -> Measured:
    cider, rouge = truth.cider_d(said), truth.rouge_l(said)
    items = {f"cider{control}": cider, f"rouge_l{control}": rouge}
    orders = {f"bleu{n}{control}": value for n, value in enumerate(truth.bleu(said), 1) if n == 4 or not control}
    return Measured({name: float(values.mean()) for name, values in items.items()} | orders, items)


# ---------------------------------------------------------------------------------------------- likelihood


def likelihood(model: Captioner, some: Pictures) -> Measured:
    """Nats a token of each picture's first caption: all tokens of the set count alike. Beside it the same text under
    another picture and under none, and the share of texts that are likelier under their own picture than under
    another's, 1/2 where pictures say nothing (equal counts half)."""
    texts = [answers[0] for answers in some.answers]
    own, tokens = text_losses(model, some, some.images, texts)
    others = {"_blind": grey(some.images), "_shuffled": rolled(some.images)}
    losses = {"": own} | {control: text_losses(model, some, images, texts)[0] for control, images in others.items()}
    items = {f"caption_loss{control}": loss * len(some) / tokens.sum() for control, loss in losses.items()}
    own_picture = ((own < losses["_shuffled"]) + 0.5 * (own == losses["_shuffled"])).astype(np.float64)
    items["caption_own_picture"] = own_picture
    return Measured({name: float(values.mean()) for name, values in items.items()}, items)


def text_losses(
    model: Captioner, some: Pictures, images: Tensor, texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(minus the log likelihood of each text, in nats; its tokens): float64 [n] each.

    Raises:
        TrainingError: one is not finite.
    """
    parts = [model.caption_loss(batch, texts[rows]) for rows, batch in some.batches(images)]
    losses, tokens = (torch.cat(side).double().numpy() for side in zip(*parts, strict=True))
    if not np.isfinite(losses).all():
        raise TrainingError("likelihoods of texts have NaN or infinity: this model cannot be evaluated; see its loss")
    return losses, tokens


# ---------------------------------------------------------------------------------------------- a second model


def clip_score(second: Encoders, some: Pictures, said: dict[str, list[str]]) -> Measured:
    """CLIPScore, 2.5 max(cos(picture, text), 0), of captions by control, and of those without control RefCLIPScore,
    the harmonic mean with max(cos(text, reference), 0) of the nearest reference. Hessel et al. 2021, "CLIPScore",
    arXiv:2104.08718, section 3; texts stand behind "A photo depicts", as there.

    Args:
        said: by control, "" for none.
    """
    second = second.flat if isinstance(second, HyperbolicEncoders) else second  # cosines: of directions
    pictures = torch.cat([rows for rows, _ in image_batches(second, some.samples)])
    vectors = {control: _vectors(second, texts) for control, texts in said.items()}
    cosines = {control: (pictures * texts).sum(1) for control, texts in vectors.items()}
    cosines["_shuffled"] = (pictures * rolled(vectors[""])).sum(1)
    items = {f"clipscore{c}": CLIPSCORE_WEIGHT * cos.clamp(min=0).double().numpy() for c, cos in cosines.items()}
    nearest = torch.tensor(list(_nearest(second, vectors[""], some.answers)), dtype=torch.float64).clamp(min=0).numpy()
    score = items["clipscore"]
    items["refclipscore"] = 2 * score * nearest / np.maximum(score + nearest, np.finfo(np.float64).tiny)
    return Measured({name: float(values.mean()) for name, values in items.items()}, items)


def _vectors(second: Encoders, texts: Sequence[str]) -> Tensor:
    return encode_texts(second, [CLIPSCORE_PROMPT.format(text) for text in texts])


def _nearest(second: Encoders, said: Tensor, references: Sequence[Sequence[str]]) -> Iterator[float]:
    """The highest cosine of each caption with those that people gave."""
    theirs = _vectors(second, [text for texts in references for text in texts])
    for own, some in zip(said, theirs.split([len(texts) for texts in references]), strict=True):
        yield float((some @ own).max())
