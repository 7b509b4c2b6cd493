"""SigLIP with SigLIP 2's caption term, and nothing else of SigLIP 2.

    made = family("siglip_caption").build(Towers("tiny"), {}, seed=0)

The sigmoid loss of Zhai et al. 2023 (arXiv:2303.15343) over pairs of vectors, and beside it, from the start, a decoder
that looks at the picture's patches before they are pooled and says the caption, half of the time all tokens at once
(Tschannen et al. 2025, arXiv:2502.14786, section 2.2; LocCa, Wan et al. 2024, arXiv:2403.19596). SigLIP 2's captions of
regions, self-distillation, masked prediction, active curation and its schedule of sizes are not here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training_smoke.families.base import Losses, Moment
from training_smoke.families.captioner import Captioning
from training_smoke.families.decoder import Attention, Block, Size, two_layers
from training_smoke.objectives.pairs import clamp_scale
from training_smoke.objectives.siglip import siglip_loss


@dataclass(frozen=True)
class SigLIPCaptionSettings:
    """caption: weight of the caption term beside the sigmoid loss. parallel: the share of captions said all at once.
    init_scale, init_bias: of the sigmoid loss, as `training_smoke.objectives.SigLIP` begins."""

    caption: float = 1.0
    parallel: float = 0.5
    init_scale: float = 10.0
    init_bias: float = -10.0

    def __post_init__(self) -> None:
        if self.caption < 0 or not 0 <= self.parallel <= 1 or not self.init_scale > 0:
            raise ValueError(f"caption is at least 0, parallel a share, init_scale above 0: not {self}")


class TextEncoder(nn.Module):
    """int64 [n, context] -> [n, width]: every token sees every other, padding aside; the mean over them."""

    def __init__(self, size: Size, pad: int) -> None:
        super().__init__()
        self.pad = pad
        self.tokens = nn.Embedding(size.vocabulary, size.width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, size.context, size.width))
        self.blocks = nn.ModuleList(Block(size.width, size.heads) for _ in range(size.text))
        self.norm = nn.LayerNorm(size.width)

    def forward(self, tokens: Tensor) -> Tensor:
        there = tokens != self.pad  # of an empty text its start and end
        x = self.tokens(tokens) + self.positions[:, : tokens.shape[1]]
        for block in self.blocks:
            x = block(x, there[:, None, None])
        weights = there.unsqueeze(2).to(x.dtype)
        return (self.norm(x) * weights).sum(dim=1) / weights.sum(dim=1)


class Pool(nn.Module):
    """[n, patches, width] -> [n, width]: a learned query looks at the patches, and two layers (SigLIP's "map" head)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, size.width) / math.sqrt(size.width))
        self.look, self.norm = Attention(size.width, size.heads), nn.LayerNorm(size.width)
        self.out = two_layers(size.width)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.look(self.query.expand(len(patches), -1, -1), self.look.keys(patches))[:, 0]
        pooled: Tensor = x + self.out(self.norm(x))
        return pooled


class SigLIPCaption(Captioning):
    """A sigmoid loss of two towers, and captions from the patches of one."""

    Settings = SigLIPCaptionSettings
    scales: ClassVar = {
        **Captioning.scales,
        "tiny": {
            **Captioning.scales["tiny"],
            # One seed: recall at 10 of 500 held-out pictures is 8.5 % so, and 6.5 at twice the rate.
            "optimiser": {"lr": 1e-3, "weight_decay": 0.1, "warmup": 1_280, "clip_norm": 1.0},
            "samples": 20_480,
            "batch": 64,
        },
    }

    def __init__(self, size: Size, settings: SigLIPCaptionSettings) -> None:
        super().__init__(size, settings)
        self.text, self.pool = TextEncoder(size, self.vocabulary.pad), Pool(size)
        self.text_projection = nn.Linear(size.width, size.width)
        # Of shape [1], as FSDP2 refuses scalars.
        self.logit_scale = nn.Parameter(torch.tensor([math.log(settings.init_scale)]))
        self.logit_bias = nn.Parameter(torch.tensor([settings.init_bias]))

    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        patches = self.memory(images)
        pairs = siglip_loss(
            F.normalize(self.pool(patches), dim=-1),
            F.normalize(self.text_projection(self.text(tokens)), dim=-1),
            self.logit_scale[0],
            self.logit_bias[0],
            groups=groups,
            world=moment.world,
        )
        caption = self.said(patches, tokens, self.settings.parallel, moment)
        return {"loss": pairs + self.settings.caption * caption, "sigmoid": pairs, "caption": caption}

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        clamp_scale(self.logit_scale)

    def told(self) -> dict[str, float]:
        """The learned scale, as a factor, and bias; of the first process, under FSDP."""
        scale, bias = (getattr(p, "to_local", lambda p=p: p)() for p in (self.logit_scale, self.logit_bias))
        return {"scale": scale.exp().item(), "bias": bias.item()}

    def encode_images(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> unit vectors float32 [n, width] in main memory."""
        with self.inference():
            return F.normalize(self.pool(self.memory(images)).float(), dim=-1).cpu()

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings -> unit vectors float32 [n, width] in main memory."""
        with self.inference():
            tokens = self.tokenize(texts).to(self.mean.device)
            return F.normalize(self.text_projection(self.text(tokens)).float(), dim=-1).cpu()
