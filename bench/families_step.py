"""Steps of our loop beside plain steps with open_clip or transformers, at the same model, batch and weights.

    python bench/families_step.py [--quick]         # also a part of bench/families.py

The plain side is bench/families_plain.py over float images and tokens that lie in memory; ours is
`training_smoke.train.train` as it is, over a pack, and its time has the gathering of samples, uids, guard and metrics
in it. Sizes are those of `tiny`. Passes are alternated; medians of their ratios count. Families for which no library
has a step (ALBEF, BLIP-2's first stage, ...) are not here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from common import WORK, Bar, alternated, at_least, finish, fresh
from families_plain import PLAIN, PlainBlip, plain_of
from judge_step import LOOK, made_pack, of_ours, rounded
from torch import Tensor

from training_smoke.config import Config, scale
from training_smoke.families.base import Moment
from training_smoke.models import build_model
from training_smoke.packs import Pack
from training_smoke.resident import resident_pixels

UNDRAWN = {"blip": ("itc", "lm")}  # parts of a loss in whose others there are draws, of hard negatives
LIBRARY = {"coca": "open_clip", "blip": "transformers", "llava": "transformers"}


def measure(quick: bool) -> dict[str, Bar]:
    """quick: one pass of CoCa and LLaVA at a quarter of the batch."""
    pack = Pack.open(made_pack(500 if quick else 2000))
    bars: dict[str, Bar] = {}
    for name in ("coca", "llava") if quick else PLAIN:
        config = step_config(name)
        config = config.but(batch=config.batch // 4 if quick else config.batch, samples=config.batch * 64)
        config = config.but(samples=config.batch * LOOK * (2 if quick else 3))
        bars |= compared(name, config, pack, 1 if quick else 5)
    return bars


def step_config(name: str) -> Config:
    """`tiny`, a step of which is like any other: LLaVA's are all of its second stage."""
    config = scale("tiny", name).but(save_every=None, log_every=LOOK, micro_batch=None)
    return config.but(settings={"alignment": 0.0}) if name == "llava" else config


def compared(name: str, config: Config, pack: Pack, passes: int) -> dict[str, Bar]:
    images, tokens = in_memory(config, pack)
    check_same(name, config, pack, images, tokens)
    paces: dict[str, list[float]] = {"ours": [], "plain": []}

    def kept(which: str, pace: Callable[[], float]) -> Callable[[int], float]:
        def once(_: int) -> float:
            paces[which].append(pace())
            return paces[which][-1]

        return once

    ours = kept("ours", lambda: of_ours(config, pack))
    plain = kept("plain", lambda: of_plain(name, config, images, tokens))
    medians = alternated({"ours": ours, "plain": plain}, passes)
    ratios = sorted(a / b for a, b in zip(paces["ours"], paces["plain"], strict=True))
    library = LIBRARY[name]
    told = f"ours {medians['ours']:.0f}, {library} {medians['plain']:.0f} samples/s"
    print(f"{name}: {told}; ratios {rounded(ratios)}", flush=True)
    return {f"step_{name}_over_{library}": at_least(ratios[len(ratios) // 2], 1.0)}


def check_same(name: str, config: Config, pack: Pack, images: Tensor, tokens: Tensor) -> None:
    """Both sides have one model: as many learned numbers, and the same loss of the same pairs, or those parts of it
    in which nothing is drawn.

    Raises:
        ValueError: they have not; a ratio would say nothing.
    """
    family = build_model(config).train()
    plain = plain_of(name, family, config, fresh("families-plain") / "model")
    sizes = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in (family, plain)]
    pixels = torch.from_numpy(resident_pixels(pack, family.image_size)[:16].copy()).permute(0, 3, 1, 2)
    if isinstance(plain, PlainBlip):  # queues begin with draws
        plain.images.copy_(family.queue.images.t())
        plain.texts.copy_(family.queue.texts.t())
    # Alpha is here what it rises to, as it always is on the plain side.
    ours = family(pixels, tokens[:16], None, Moment(999, 1000, 0))
    given = images[:16], *plain.inputs(tokens[:16])
    theirs = plain.parts(*given) if isinstance(plain, PlainBlip) else {"loss": plain.loss_of(*given)}
    pairs = {part: (ours[part].item(), theirs[part].item()) for part in UNDRAWN.get(name, ("loss",))}
    if sizes[0] != sizes[1] or any(abs(a / b - 1) > 1e-4 for a, b in pairs.values()):
        said = "; ".join(f"{part} {a:.5f}, plain {b:.5f}" for part, (a, b) in pairs.items())
        raise ValueError(f"{name}: {sizes[0]:,} parameters, plain {sizes[1]:,}; {said}")


def of_plain(name: str, config: Config, images: Tensor, tokens: Tensor) -> float:
    """Samples a second of the plain step after its first ten."""
    torch.manual_seed(config.init_seed)
    plain = plain_of(name, build_model(config), config, fresh("families-plain") / "model")
    order = torch.randint(len(images), (config.steps, config.batch))
    began = time.perf_counter()
    for step in range(config.steps):
        if step == LOOK:
            began = time.perf_counter()
        loss = plain.step(images[order[step]], *plain.inputs(tokens[order[step]]))
        if (step + 1) % LOOK == 0:
            loss.item()
    return (config.steps - LOOK) * config.batch / (time.perf_counter() - began)


def in_memory(config: Config, pack: Pack) -> tuple[Tensor, Tensor]:
    """Normalised images, float [n, 3, size, size], and tokens of the first text, as the family has them."""
    family = build_model(config)
    pixels = torch.from_numpy(resident_pixels(pack, family.image_size).copy()).permute(0, 3, 1, 2)
    images = ((pixels.float() / 255 - family.mean) / family.std).contiguous()
    return images, family.tokenize([pack.texts(i)[0][0] for i in range(len(pack))])


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
