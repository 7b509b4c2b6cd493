"""LLaVA: features of a vision tower, by a projector, are words to a language model that converses.

Liu et al. 2023 (arXiv:2304.08485) and 2024 (arXiv:2310.03744), over transformers' LlavaForConditionalGeneration:

    loss = mean over all answers' tokens of the batch of -log p(token | picture, what was said before)

Stage 1 trains the projector alone, on the picture and its plain caption; stage 2 the language model too, on
conversations (`training_smoke.conversations`). Both are of one run, by shares of it; see `LlavaSettings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from training_smoke.config import Optimiser, Towers
from training_smoke.conversations import REQUEST, Turn, caption_of, conversation_of
from training_smoke.families.base import Family, Losses, Moment
from training_smoke.families.llava_files import write_llava
from training_smoke.families.llava_generate import embedded, expanded, said
from training_smoke.families.llava_lora import adapted
from training_smoke.families.llava_models import Parts, context_of, llava_parts, parts_again
from training_smoke.families.llava_settings import SCALES, LlavaSettings
from training_smoke.objectives.caption import IGNORED, caption_loss, caption_losses
from training_smoke.sampling import Sampling

ROWS = 64  # pictures that something is said about at a time
PLAIN, TALK = 0, 1  # the forms that tokens are in


class Llava(Family):
    """See the module. `tokens` are int64 [n, 2, 2, context]: the plain form and the conversation, tokens and labels."""

    Settings: ClassVar[type] = LlavaSettings
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = SCALES
    separable: ClassVar[bool] = True
    settings: LlavaSettings

    def __init__(self, parts: Parts, settings: LlavaSettings, context: int, checkpointing: bool = False) -> None:
        super().__init__(*parts.pixels)
        self.model, self.chat, self.patches = parts.model, parts.chat, parts.patches
        self.settings, self.context, self.checkpointing = settings, context, checkpointing
        self.image_size, self.group_steps = parts.size, settings.group_steps
        if parts.about is not None:
            self.register_buffer("about", parts.about)
        if settings.lora:
            adapted(self.model.model.language_model, settings.lora, settings.lora_alpha)
        if checkpointing:
            newer = getattr(self.model, "activation_checkpointing_enable", None)  # the older one goes in transformers 6
            (newer or self.model.gradient_checkpointing_enable)({"use_reentrant": False})
        self._freeze()

    @classmethod
    def make(cls, towers: Towers, settings: LlavaSettings) -> Llava:
        parts = llava_parts(towers, settings)
        return cls(parts, settings, context_of(towers, parts), towers.checkpointing)

    @classmethod
    def again(cls, towers: Towers, settings: LlavaSettings, about: Tensor) -> Llava:
        """As `Family.again` has it."""
        parts = parts_again(about, settings)
        return cls(parts, settings, context_of(towers, parts))

    def _freeze(self) -> None:
        """What no stage trains: the vision tower, or of it what the features do not come from; beside adapters, all of
        the language model."""
        tower = self.model.model.vision_tower
        if not self.settings.train_vision:
            tower.requires_grad_(False)
            return
        blank = torch.zeros(1, 3, self.image_size, self.image_size)
        features = self.features(blank)
        used = torch.autograd.grad(features.sum(), list(tower.parameters()), allow_unused=True)
        for parameter, gradient in zip(tower.parameters(), used, strict=True):
            parameter.requires_grad_(gradient is not None)

    # ------------------------------------------------------------------------------------------ how it is trained

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """int64 [n, 2, 2, context]."""
        plain = [self.chat.plain(caption_of(text)) for text in texts]
        talk = [self.chat.talk(conversation_of(text, self.settings.questions, self.settings.turns)) for text in texts]
        return torch.stack([self.chat.encode(form, self.context) for form in (plain, talk)], dim=1)

    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        ids, labels = self.read(tokens, moment).unbind(dim=1)  # [batch, context]
        ids, learned, labels = self._learned(ids, labels)  # before pictures are on their way: it waits for the device
        with self._at_rest(moment):
            logits = self._logits(self.features(self.normalised(images)), ids, learned)
        return {"loss": caption_loss(logits, labels, world=moment.world)}

    def features(self, pixels: Tensor) -> Tensor:
        """float [n, 3, size, size], normalised -> [n, patches, dim of the language model]."""
        found = self.model.get_image_features(pixel_values=pixels).pooler_output
        return torch.stack(list(found))

    def logits(self, features: Tensor, ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of the labelled tokens only: (float [m, vocabulary], int64 [m]), row after row.

        Args:
            features: [n, patches, dim]. ids, labels: int64 [n, t].
        """
        ids, learned, labels = self._learned(ids, labels)
        return self._logits(features, ids, learned), labels

    def _learned(self, ids: Tensor, labels: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """(ids with the picture's places in them, int64 [n, t]; rows and places before a label, [m] each; these labels,
        [m]), made in main memory, as their numbers are not known before."""
        device = ids.device
        ids, labels = ids.cpu(), labels.cpu()
        # What follows the last label moves nothing; the picture is there in any case.
        pictured = (ids == self.chat.image).int().argmax(dim=1) + 1
        longest = int(torch.maximum(self.lengths(torch.stack([ids, labels], dim=1)), pictured).max())
        ids, was = expanded(ids[:, :longest], self.chat.image, self.patches)
        after = labels.gather(1, was)[:, 1:]
        rows, places = (after != IGNORED).nonzero(as_tuple=True)
        ids, rows, places, after = (x.to(device, non_blocking=True) for x in (ids, rows, places, after[rows, places]))
        return ids, (rows, places), after

    def _logits(self, features: Tensor, ids: Tensor, learned: tuple[Tensor, Tensor]) -> Tensor:
        """float [m, vocabulary]."""
        hidden = self.model.model.language_model(
            inputs_embeds=embedded(self.model, ids, features), use_cache=False
        ).last_hidden_state  # [n, longest - 1 + patches, dim]
        logits: Tensor = self.model.lm_head(hidden[learned])
        return logits

    def read(self, tokens: Tensor, moment: Moment) -> Tensor:
        """int64 [n, 2, 2, context], or one of the forms already -> int64 [n, 2, context]."""
        if tokens.ndim == 3:
            return tokens
        return tokens[:, PLAIN if self._aligning(moment.step + 1, moment.steps) else TALK]

    def weight(self, tokens: Tensor) -> Tensor:
        """Tokens that are learned, of what `read` gave, or of the conversations of `tokenize`."""
        return ((tokens if tokens.ndim == 3 else tokens[:, TALK])[:, 1] != IGNORED).sum()

    def lengths(self, tokens: Tensor) -> Tensor:
        """int64 [batch]: up to what is learned last, of what `read` gave, or of the conversations of `tokenize`."""
        learned = (tokens if tokens.ndim == 3 else tokens[:, TALK])[:, 1] != IGNORED
        return (learned * torch.arange(1, learned.shape[1] + 1, device=tokens.device)).amax(dim=1)

    # ------------------------------------------------------------------------------------------ stages

    def _aligning(self, done: float, of: float) -> bool:
        """Whether the step after which so much of the run is done belongs to stage 1."""
        return done / of <= self.settings.alignment

    def held(self, moment: Moment) -> Iterable[nn.Parameter]:
        if not self._aligning(moment.step + 1, moment.steps):
            return ()
        learns = {id(p) for p in self.model.model.multi_modal_projector.parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in learns]

    @contextmanager
    def _at_rest(self, moment: Moment) -> Iterator[None]:
        """Gradients of what is held are not even computed. DDP and FSDP wait for those of all parameters, and
        checkpointing runs again when this is over: there they are computed, and dropped."""
        spared = () if moment.world is not None or self.checkpointing else tuple(self.held(moment))
        try:
            for parameter in spared:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in spared:
                parameter.requires_grad_(True)

    def rate(self, settings: Optimiser, samples: int, horizon: int) -> float:
        """Each stage warms up and goes to nothing by itself, `settings.warmup` as large a share of each as of the run.

        The rate of stage 2 is `second_rate` times that of stage 1.
        """
        first = int(self.settings.alignment * horizon)
        if self._aligning(samples, horizon):
            begin, length, multiple = 0, first, 1.0
        else:
            begin, length, multiple = first, horizon - first, self.settings.second_rate if first else 1.0
        warmup = settings.warmup * length // horizon
        of_stage = Optimiser(warmup=warmup).multiple(samples - begin, length)
        return settings.lr * multiple * of_stage

    def blocks(self) -> Iterator[nn.Module]:
        """Layers of both models; embeddings and head, which may be one, stay with the rest."""
        for part in (self.model.model.vision_tower, self.model.model.language_model):
            for child in part.modules():
                if isinstance(child, nn.ModuleList):
                    yield from child
                    break

    # ------------------------------------------------------------------------------------------ how it is used

    def caption(self, images: Tensor, how: Sampling, keys: Sequence[str]) -> list[str]:
        return self._said(images, [None] * len(images), how, keys)

    def answer(self, images: Tensor, questions: Sequence[str], how: Sampling, keys: Sequence[str]) -> list[str]:
        return self._said(images, questions, how, keys)

    def _said(self, images: Tensor, questions: Sequence[str | None], how: Sampling, keys: Sequence[str]) -> list[str]:
        found: list[str] = []
        with self.inference():
            for first in range(0, len(images), ROWS):
                part = slice(first, first + ROWS)
                features = self.features(self.normalised(images[part]))
                prompts = self.chat.prompts([self._opened(question) for question in questions[part]])
                found += said(self.model, self.chat, features, prompts, how, keys[part])
        return found

    def _opened(self, question: str | None) -> Any:
        """What an answer follows; None: a description. A run that ends with stage 1 knows of no conversation."""
        if self.settings.alignment == 1 and question is None:
            return self.chat.plain(None)
        return self.chat.talk([Turn("human", REQUEST if question is None else question)])

    def caption_loss(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        described = [
            self.chat.plain(text)
            if self.settings.alignment == 1
            else self.chat.talk([Turn("human", REQUEST), Turn("gpt", text)])
            for text in texts
        ]
        sums, counts = [], []
        with self.inference():
            for first in range(0, len(images), ROWS):
                part = slice(first, first + ROWS)
                ids, labels = self.chat.encode(described[part], self.context).to(self.mean.device).unbind(dim=1)
                features = self.features(self.normalised(images[part]))
                logits, targets = self.logits(features, ids, labels)
                of_row = (labels != IGNORED).sum(dim=1)
                each, _ = caption_losses(logits.unsqueeze(1), targets.unsqueeze(1))
                sums.append(torch.stack([losses.sum() for losses in each.split(of_row.tolist())]))
                counts.append(of_row)
        return torch.cat(sums).float().cpu(), torch.cat(counts).cpu()

    def export(self, folder: Path) -> None:
        """A folder that LlavaForConditionalGeneration and AutoProcessor load `from_pretrained`.

        Adapters are added to the weights, and the chat template is the one trained with.
        """
        write_llava(folder, self.model, self.chat, (self.mean.flatten().tolist(), self.std.flatten().tolist()))
