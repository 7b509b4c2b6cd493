"""Steps of the judge's training loop beside a plain open_clip loop, and how long it waits for packs.

    python bench/judge_step.py [--quick]         # also a part of bench/judge.py

Both train the same weights on the same batch size on this machine's cores. The plain loop does what open_clip_train
does in a step (its groups of AdamW, ClipLoss, the clamp, a loss read every ten steps) over float images and tokens that
lie in memory. Ours is `training_smoke.train.train` as it is, over a pack of photos that `curate run` made, and its time
has the gathering of samples, uids, guard and metrics in it. Passes are alternated; medians of their ratios count.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from common import WORK, Bar, alternated, at_least, at_most, curate, finish, fresh, photos
from open_clip_loop import open_clip_adamw, open_clip_step
from torch import Tensor, nn
from torch.nn import functional as F

from training_smoke.config import SCALES, Config, Towers
from training_smoke.packs import Pack
from training_smoke.resident import resident_pixels
from training_smoke.towers import TwoTowers, build
from training_smoke.train import train
from training_smoke.writers import read_metrics

LOOK = 10  # steps between two readings of the loss; the first so many are not timed
VIT = "judge-bench-vit"
VIT_CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "width": 128, "heads": 4, "layers": 2},
}
RECIPE = """
recipe: judge-step
pool: {pool}
shard_size: 500
source: {{path: {photos}, kind: parquet, image: image, text: caption}}
ingest: {{resize: short, side: 128}}
pack: {{samples: 500}}
"""


def measure(quick: bool) -> dict[str, Bar]:
    """Ratios of samples a second, ours over plain, and shares of waiting."""
    pack = Pack.open(made_pack(500 if quick else 2000))
    bars: dict[str, Bar] = {}
    for name, towers in {"tiny_conv": SCALES["tiny"].towers, "open_clip_vit": registered_vit()}.items():
        config = SCALES["tiny"].but(towers=towers, log_every=LOOK, save_every=None)
        bars |= compared(name, config.but(samples=config.batch * LOOK * (2 if quick else 4)), pack, 1 if quick else 5)
    for tier, resident in (("resident", True), ("streamed", False)):
        bars[f"wait_share_{tier}"] = at_most(wait_share(pack, resident, quick), 0.05, 4)
    return bars


def compared(name: str, config: Config, pack: Pack, passes: int) -> dict[str, Bar]:
    images, tokens = in_memory(config, pack)
    paces: dict[str, list[float]] = {"ours": [], "plain": []}

    def kept(which: str, pace: Callable[[], float]) -> Callable[[int], float]:
        def once(_: int) -> float:
            paces[which].append(pace())
            return paces[which][-1]

        return once

    medians = alternated(
        {
            "ours": kept("ours", lambda: of_ours(config, pack)),
            "plain": kept("plain", lambda: of_plain(config, images, tokens)),
        },
        passes,
    )
    ratios = sorted(a / b for a, b in zip(paces["ours"], paces["plain"], strict=True))
    print(f"{name}: ours {medians['ours']:.0f}, plain {medians['plain']:.0f} samples/s; ratios {rounded(ratios)}")
    return {f"step_{name}_over_open_clip": at_least(ratios[len(ratios) // 2], 1.0)}


def rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]


# ---------------------------------------------------------------------------------------------- ours


def of_ours(config: Config, pack: Pack) -> float:
    """Samples a second of all intervals but the first."""
    folder = fresh("judge-step-run")
    train(folder, config, {pack: 1.0}, device="cpu")
    lines = read_metrics(folder)[1:]
    seconds = sum(LOOK * config.batch / line["samples_per_s"] for line in lines)
    return len(lines) * LOOK * config.batch / seconds


def wait_share(pack: Pack, resident: bool, quick: bool) -> float:
    """Of the time of all intervals but the first; weighted by time."""
    config = SCALES["tiny"].but(resident=resident, log_every=LOOK, samples=256 * LOOK * (3 if quick else 6))
    folder = fresh("judge-step-run")
    train(folder, config, {pack: 1.0}, device="cpu")
    lines = read_metrics(folder)[1:]
    seconds = [1 / line["samples_per_s"] for line in lines]
    share = sum(s * line["wait_share"] for s, line in zip(seconds, lines, strict=True)) / sum(seconds)
    print(f"{'resident' if resident else 'streamed'}: waits {share:.2%} at {len(lines) / sum(seconds):.0f} samples/s")
    return share


# ---------------------------------------------------------------------------------------------- theirs


class Plain(nn.Module):
    """Towers of ours with a logit scale of their own, called as a model of open_clip is."""

    def __init__(self, towers: TwoTowers) -> None:
        super().__init__()
        self.towers, self.logit_scale = towers, nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image_features = F.normalize(self.towers.image_features(images), dim=-1)
        text_features = F.normalize(self.towers.text_features(tokens), dim=-1)
        return image_features, text_features, self.logit_scale.exp()


def of_plain(config: Config, images: Tensor, tokens: Tensor) -> float:
    """Samples a second of open_clip's step after its first ten."""
    torch.manual_seed(config.init_seed)
    model = plain_model(config)
    optimiser = open_clip_adamw(model, config.optimiser)
    one_step = open_clip_step(model, model, optimiser, low=False)
    order = torch.randint(len(images), (config.steps, config.batch))
    began = time.perf_counter()
    for step in range(config.steps):
        if step == LOOK:
            began = time.perf_counter()
        rate = config.optimiser.lr * config.optimiser.multiple((step + 1) * config.batch, config.samples)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = one_step(images[order[step]], tokens[order[step]])
        if (step + 1) % LOOK == 0:
            loss.item()
    return (config.steps - LOOK) * config.batch / (time.perf_counter() - began)


def plain_model(config: Config) -> nn.Module:
    if config.towers.name == VIT:
        import open_clip

        model: nn.Module = open_clip.create_model(VIT)
        return model
    return Plain(build(config.towers, config.init_seed))


def in_memory(config: Config, pack: Pack) -> tuple[Tensor, Tensor]:
    """Normalised images, float [n, 3, size, size], and tokens of the first text, int64 [n, context]."""
    towers = build(config.towers, config.init_seed)
    pixels = torch.from_numpy(resident_pixels(pack, towers.image_size).copy()).permute(0, 3, 1, 2)
    images = ((pixels.float() / 255 - towers.mean) / towers.std).contiguous()
    return images, towers.tokenize([pack.texts(i)[0][0] for i in range(len(pack))])


# ---------------------------------------------------------------------------------------------- what both take


def registered_vit() -> Towers:
    """A small ViT, told to open_clip."""
    import open_clip

    folder = fresh("judge-step-models")
    (folder / f"{VIT}.json").write_text(json.dumps(VIT_CONFIG))
    open_clip.add_model_config(folder)
    return Towers(VIT)


def made_pack(rows: int) -> Path:
    """A pack of real photos where they are, else of drawn ones, by `curate run`."""
    folder = WORK / f"judge-step-{rows}"
    if not (found := list(folder.glob("pool/packs/*/manifest.json"))):
        folder.mkdir(parents=True, exist_ok=True)
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(pool=folder / "pool", photos=photos(rows)))
        curate("run", str(recipe), "--executor", "inline", "--quiet")
        found = list(folder.glob("pool/packs/*/manifest.json"))
    return found[0].parent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure(parser.parse_args().quick), None)
