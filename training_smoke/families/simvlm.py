"""Prefix language modelling: a picture and the beginning of its text are read, the rest is said.

    made = family("simvlm").build(Towers("tiny"), {}, seed=0)

Wang et al. 2021 ("SimVLM: Simple Visual Language Model Pretraining with Weak Supervision", arXiv:2108.10904), section
3.1, eq. 3: an encoder sees patches and prefix in both directions, a decoder looks at all of that and says what follows.
Departures: patches come from one convolution, or the few of `tiny`, and not from three stages of a ResNet; there are no
texts without pictures in a batch; and a share of samples has no prefix (`whole`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training_smoke.families.base import Losses, Moment
from training_smoke.families.captioner import Captioning
from training_smoke.families.decoder import Size, causal


@dataclass(frozen=True)
class SimVLMSettings:
    """whole: the share of samples whose text is said from its first token on; of the others the prefix has 0 to all but
    one of its tokens (the end is one), each number as likely as another. 0 is the paper's; a caption is said without a
    prefix, so a short training does well with more."""

    whole: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.whole <= 1:
            raise ValueError(f"whole is a share, not {self.whole}")


class SimVLM(Captioning):
    """A prefix of patches and words, and the words that follow."""

    Settings = SimVLMSettings
    separable = True
    scales: ClassVar = {**Captioning.scales, "tiny": {**Captioning.scales["tiny"], "settings": {"whole": 0.5}}}

    def __init__(self, size: Size, settings: SimVLMSettings) -> None:
        super().__init__(size, settings)
        self.prefix_positions = nn.Parameter(0.02 * torch.randn(1, size.context - 1, size.width))

    def read(self, tokens: Tensor, moment: Moment) -> Tensor:
        """int64 [batch, context], or with lengths already -> [batch, context + 1]: behind each text, how many of its
        tokens are its prefix."""
        if tokens.shape[1] > self.context:
            return tokens
        return torch.cat([tokens, self.prefixes(tokens, moment)[:, None]], dim=1)

    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        tokens, lengths = self._parted(self.read(tokens, moment))
        memory, seen = self.remembered(images, tokens, lengths)
        inputs, labels, places = self.rest(tokens, lengths)
        mask = causal(inputs.shape[1], inputs.device)
        return {"loss": self.written(self.decoder(inputs, memory, mask, seen, places), labels, moment)}

    def weight(self, tokens: Tensor) -> Tensor:
        """Tokens that are said, of what `read` gave."""
        texts, lengths = self._parted(tokens)
        return (self.labels(texts) >= 0).sum() - lengths.sum()

    def _parted(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return tokens[:, : self.context], tokens[:, self.context]

    def prefixes(self, tokens: Tensor, moment: Moment) -> Tensor:
        """How many tokens of each text are read, its start not counted: int64 [batch]."""
        to_say = (self.labels(tokens) >= 0).sum(dim=1)  # the end is one
        whole, share = moment.uniform("prefix", len(tokens), 2, tokens.device).unbind(dim=1)
        return torch.where(whole < self.settings.whole, 0, (share * to_say).long())

    def remembered(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(memory [batch, patches + context - 1, width], which of it is patches or prefix, bool [batch, 1, 1, all])."""
        words = self.decoder.tokens(tokens[:, 1:]) + self.prefix_positions
        there = torch.arange(words.shape[1], device=tokens.device) < lengths[:, None]  # [batch, context - 1]
        patches = self.encoder.positions.shape[1]
        seen = F.pad(there, (patches, 0), value=True)[:, None, None]
        return self.encoder(self.normalised(images), words, seen), seen

    def rest(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(inputs, labels, places), each int64 [batch, context - 1]: from the last token that is read, or the start."""
        count = tokens.shape[1] - 1
        places = lengths[:, None] + torch.arange(count, device=tokens.device)
        inputs = F.pad(tokens, (0, count), value=self.vocabulary.pad).gather(1, places)
        labels = F.pad(self.labels(tokens), (0, count), value=-100).gather(1, places)
        return inputs, labels, places.clamp(max=count)
