"""BLIP with some of its losses: one checkpoint becomes a captioner (lm) and a filter (itc, itm), with weights apart.

    with halves():
        train(folder, scale("tiny", "blip").but(settings={"losses": WRITING}), packs)

Li et al. 2022 (arXiv:2201.12086), section 3.3. What is trained is a BLIP, tensor by tensor: without `losses` and `vary`
among its settings its file is one of the family "blip".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from curate.run.capfilt.vary import DRAWS, varied
from training_smoke.config import Towers
from training_smoke.families import FAMILIES
from training_smoke.families.base import Losses, Moment
from training_smoke.families.blip import Blip, BlipSettings

LOSSES, VARY = "losses", "vary"
OWN = (LOSSES, VARY)  # settings that the family "blip" has not
WRITING, JUDGING = ("lm",), ("itc", "itm")


@dataclass(frozen=True)
class HalfSettings(BlipSettings):
    """Beside those of BLIP: losses, which are added up and learned from. Matching draws its wrong pairs by the
    contrast, so that the two are there together. vary: pictures are shown in part and mirrored (`varied`)."""

    losses: tuple[str, ...] = (*JUDGING, *WRITING)
    vary: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.losses not in (WRITING, JUDGING, (*JUDGING, *WRITING)):
            raise ValueError("losses are [lm], or [itc, itm], or all three in this order")


class Half(Blip):
    """A BLIP that learns from the losses of its settings; of the others nothing is computed."""

    Settings = HalfSettings
    settings: HalfSettings

    @classmethod
    def make(cls, towers: Towers, settings: BlipSettings) -> Half:
        whole = Blip.make(towers, settings)
        made = cls(whole.plan, whole.words, whole.context, settings)
        made.about = whole.about
        made.load_state_dict(whole.state_dict())
        if towers.checkpointing:
            made.encoders.vision.gradient_checkpointing_enable()
        return made

    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        """Those of the losses, and their sum."""
        if self.training and self.settings.vary:
            images = varied(images, moment.uniform("vary", len(images), DRAWS))
        if self.settings.losses == WRITING:
            pictures, _ = self.encoders.images(self.normalised(images))
            written = self._writing(pictures, self.words.trimmed(tokens), moment)
            return {"loss": written, "lm": written}
        found = super().forward(images, tokens, groups, moment)
        return {name: value for name, value in found.items() if name in ("loss", *self.settings.losses)}

    def _writing(self, pictures: Tensor, tokens: Tensor, moment: Moment) -> Tensor:
        if "lm" not in self.settings.losses:
            return pictures.new_zeros(())
        return super()._writing(pictures, tokens, moment)


@contextmanager
def halves() -> Iterator[None]:
    """In this block, and this process, the family "blip" knows the settings `losses` and `vary`."""
    before = FAMILIES["blip"]
    FAMILIES["blip"] = f"{Half.__module__}:{Half.__qualname__}"
    try:
        yield
    finally:
        FAMILIES["blip"] = before
