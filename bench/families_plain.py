"""One training step as one writes it with transformers or open_clip alone: what our loop is measured beside.

    plain = plain_of("blip", family, config, folder)           # same sizes and weights, by what our family exports
    loss = plain.step(images, *plain.inputs(tokens))           # forward, backward, AdamW; float images

CoCa: open_clip's model, its CoCaLoss and the step of open_clip_train. LLaVA: transformers' class, which brings its
loss, and AdamW as its Trainer has it (fused). BLIP: transformers has its modules and no pre-training; the loss is
written here over them as in the authors' code (salesforce/BLIP, models/blip_pretrain.py): momentum encoders, queue,
hard negatives one by one. Texts are padded to the longest of a batch but for CoCa's, which open_clip pads to its
context.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from open_clip_loop import open_clip_adamw
from torch import Tensor, nn
from torch.nn import functional as F

from training_smoke.config import Config, Optimiser


class Plain(nn.Module):
    """A model with its own loss; `low`: bf16 autocast; `run`: what is called in a step, `loss_of` or compiled."""

    low = False

    @classmethod
    @abstractmethod
    def of(cls, family: Any, folder: Path) -> Plain:
        """With the weights that the family exported into the folder."""

    def begin(self, said: Optimiser) -> None:
        self.optimiser, self.clip_norm = self.adamw(said), said.clip_norm
        self.run: Callable[..., Tensor] = self.loss_of

    def adamw(self, said: Optimiser) -> torch.optim.AdamW:
        """Two groups, fused: transformers' Trainer, optim="adamw_torch_fused"."""
        learned = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": said.weight_decay},
            {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        return torch.optim.AdamW(groups, lr=said.lr, betas=said.betas, eps=said.eps, fused=True)

    def inputs(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """What the model is given for tokens of our family's `tokenize`."""
        return (tokens,)

    @abstractmethod
    def loss_of(self, images: Tensor, *inputs: Tensor) -> Tensor: ...

    def after(self) -> None:
        """Once the optimiser has changed the parameters."""

    def step(self, images: Tensor, *inputs: Tensor) -> Tensor:
        self.optimiser.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.low):
            loss = self.run(images, *inputs)
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm)
        self.optimiser.step()
        self.after()
        return loss.detach()


class PlainCoCa(Plain):
    @classmethod
    def of(cls, family: Any, folder: Path) -> PlainCoCa:
        import open_clip
        from open_clip.loss import CoCaLoss

        made = cls()
        made.model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        made.criterion = CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0)
        return made.train()  # type: ignore[return-value]

    def adamw(self, said: Optimiser) -> torch.optim.AdamW:
        return open_clip_adamw(self.model, said, fused=True)

    def loss_of(self, images: Tensor, *inputs: Tensor) -> Tensor:
        found: dict[str, Tensor] = self.criterion(**self.model(images, inputs[0]), output_dict=True)
        return sum(found.values(), torch.zeros((), device=images.device))

    @torch.no_grad()
    def after(self) -> None:
        self.model.logit_scale.clamp_(0, math.log(100))


class PlainBlip(Plain):
    """Numbers are those of the family's settings; alpha is what it rises to."""

    @classmethod
    def of(cls, family: Any, folder: Path) -> PlainBlip:
        from transformers import BlipForConditionalGeneration, BlipForImageTextRetrieval

        made, words, said = cls(), family.words, family.settings
        retrieval = BlipForImageTextRetrieval.from_pretrained(folder / "retrieval")
        captioning = BlipForConditionalGeneration.from_pretrained(folder / "captioning")
        made.vision, made.text, made.decoder = retrieval.vision_model, retrieval.text_encoder, captioning.text_decoder
        made.vision_proj, made.text_proj, made.itm_head = retrieval.vision_proj, retrieval.text_proj, retrieval.itm_head
        tied(made.text, made.decoder)
        made.slow = nn.ModuleList(copy.deepcopy(m) for m in made.fast()).requires_grad_(False)
        made.temp = nn.Parameter(torch.tensor(said.tau))
        dim = made.vision_proj.out_features
        made.register_buffer("images", F.normalize(torch.randn(dim, said.queue), dim=0))
        made.register_buffer("texts", F.normalize(torch.randn(dim, said.queue), dim=0))
        made.place, made.said = 0, said
        made.marks = (words.pad, words.fused, words.begin)
        return made.train()  # type: ignore[return-value]

    def fast(self) -> list[nn.Module]:
        return [self.vision, self.text, self.vision_proj, self.text_proj]

    def inputs(self, tokens: Tensor) -> tuple[Tensor, ...]:
        there = tokens != self.marks[0]
        longest = int(there.sum(1).max())
        return tokens[:, :longest], there[:, :longest].long()

    def loss_of(self, images: Tensor, *inputs: Tensor) -> Tensor:
        found = self.parts(images, *inputs)
        return found["itc"] + found["itm"] + found["lm"]

    def parts(self, images: Tensor, *inputs: Tensor) -> dict[str, Tensor]:
        tokens, there = inputs
        with torch.no_grad():
            self.temp.clamp_(0.001, 0.5)
        pictures = self.vision(pixel_values=images).last_hidden_state
        image = F.normalize(self.vision_proj(pictures[:, 0]), dim=-1)
        said = self.text(input_ids=tokens, attention_mask=there).last_hidden_state
        text = F.normalize(self.text_proj(said[:, 0]), dim=-1)
        contrast, from_image, from_text = self.contrast(images, tokens, there, image, text)
        matching = self.matching(pictures, tokens, there, from_image, from_text)
        return {"itc": contrast, "itm": matching, "lm": self.writing(pictures, tokens, there)}

    def contrast(
        self, images: Tensor, tokens: Tensor, there: Tensor, image: Tensor, text: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self._followed(), strict=True):
                slow.mul_(self.said.momentum).add_(fast, alpha=1 - self.said.momentum)
            vision, encoder, vision_proj, text_proj = self.slow
            image_m = F.normalize(vision_proj(vision(pixel_values=images).last_hidden_state[:, 0]), dim=-1)
            text_m = encoder(input_ids=tokens, attention_mask=there).last_hidden_state
            text_m = F.normalize(text_proj(text_m[:, 0]), dim=-1)
            images_all = torch.cat([image_m.t(), self.images.clone()], dim=1)  # [dim, batch + queue]
            texts_all = torch.cat([text_m.t(), self.texts.clone()], dim=1)
            own = torch.zeros(len(image), images_all.shape[1], device=images.device).fill_diagonal_(1)
            alpha = self.said.alpha
            to_text = alpha * F.softmax(image_m @ texts_all / self.temp, dim=1) + (1 - alpha) * own
            to_image = alpha * F.softmax(text_m @ images_all / self.temp, dim=1) + (1 - alpha) * own
        from_image, from_text = image @ texts_all / self.temp, text @ images_all / self.temp
        i2t = -torch.sum(F.log_softmax(from_image, dim=1) * to_text, dim=1).mean()
        t2i = -torch.sum(F.log_softmax(from_text, dim=1) * to_image, dim=1).mean()
        self._enqueue(image_m, text_m)
        return (i2t + t2i) / 2, from_image, from_text

    def _followed(self) -> list[nn.Parameter]:
        return [p for module in self.fast() for p in module.parameters()]

    @torch.no_grad()
    def _enqueue(self, image: Tensor, text: Tensor) -> None:
        n = len(image)
        place = torch.arange(self.place, self.place + n) % self.images.shape[1]
        self.images[:, place], self.texts[:, place] = image.t(), text.t()
        self.place = (self.place + n) % self.images.shape[1]

    def matching(self, pictures: Tensor, tokens: Tensor, there: Tensor, i2t: Tensor, t2i: Tensor) -> Tensor:
        n = len(tokens)
        tokens = tokens.clone()
        tokens[:, 0] = self.marks[1]
        right = self._fused(tokens, there, pictures)
        with torch.no_grad():
            of_texts, of_images = (F.softmax(s[:, :n], dim=1) + 1e-4 for s in (t2i, i2t))
            of_texts.fill_diagonal_(0), of_images.fill_diagonal_(0)
        wrong_pictures = torch.stack([pictures[torch.multinomial(of_texts[b], 1).item()] for b in range(n)])
        wrong = [int(torch.multinomial(of_images[b], 1).item()) for b in range(n)]
        wrong_tokens, wrong_there = tokens[wrong], there[wrong]
        others = self._fused(
            torch.cat([tokens, wrong_tokens]), torch.cat([there, wrong_there]), torch.cat([wrong_pictures, pictures])
        )
        labels = torch.cat([torch.ones(n, dtype=torch.long), torch.zeros(2 * n, dtype=torch.long)]).to(pictures.device)
        return F.cross_entropy(self.itm_head(torch.cat([right, others])), labels)

    def _fused(self, tokens: Tensor, there: Tensor, pictures: Tensor) -> Tensor:
        hidden: Tensor = self.text(
            input_ids=tokens, attention_mask=there, encoder_hidden_states=pictures
        ).last_hidden_state
        return hidden[:, 0]

    def writing(self, pictures: Tensor, tokens: Tensor, there: Tensor) -> Tensor:
        """The smoothing lies in the configuration of the decoder's head."""
        tokens = tokens.clone()
        tokens[:, 0] = self.marks[2]
        labels = tokens.masked_fill(there == 0, -100)
        found = self.decoder(
            input_ids=tokens, attention_mask=there, encoder_hidden_states=pictures, labels=labels, reduction="mean"
        )
        loss: Tensor = found.loss
        return loss


def tied(encoder: Any, decoder: Any) -> None:
    """All but self-attention: tie_encoder_decoder_weights of salesforce/BLIP."""
    decoder.bert.embeddings = encoder.embeddings
    for own, other in zip(decoder.bert.encoder.layer, encoder.encoder.layer, strict=True):
        own.crossattention, own.intermediate, own.output = other.crossattention, other.intermediate, other.output
    decoder.cls.predictions.decoder.weight = encoder.embeddings.word_embeddings.weight


class PlainLlava(Plain):
    """Stage 2: projector and language model, and the vision tower where the family trains it."""

    @classmethod
    def of(cls, family: Any, folder: Path) -> PlainLlava:
        from transformers import LlavaForConditionalGeneration

        made = cls()
        made.model = LlavaForConditionalGeneration.from_pretrained(folder)
        made.marks = (family.chat.image, family.patches)
        learned = {name: p.requires_grad for name, p in family.model.named_parameters()}
        for name, parameter in made.model.named_parameters():
            parameter.requires_grad_(learned[name])
        return made.train()  # type: ignore[return-value]

    def inputs(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Conversations (tokens of the family have another form too), the picture's one token drawn out to as many as
        it has patches, cut at the longest."""
        image, patches = self.marks
        ids, labels = tokens[:, 1].unbind(dim=1)  # int64 [n, context] each
        last = ((labels != -100) * torch.arange(1, labels.shape[1] + 1)).amax(dim=1)  # padding lies behind
        place = (ids == image).int().argmax(dim=1).tolist()
        shown, unsaid = ids.new_full((patches,), image), ids.new_full((patches,), -100)
        ids = torch.stack([torch.cat([row[:p], shown, row[p + 1 :]]) for row, p in zip(ids, place, strict=True)])
        labels = torch.stack([torch.cat([y[:p], unsaid, y[p + 1 :]]) for y, p in zip(labels, place, strict=True)])
        lengths = last + patches - 1
        longest = int(lengths.max())
        there = torch.arange(longest) < lengths[:, None]
        return ids[:, :longest], there.long(), labels[:, :longest]

    def loss_of(self, images: Tensor, *inputs: Tensor) -> Tensor:
        ids, there, labels = inputs
        loss: Tensor = self.model(
            input_ids=ids, attention_mask=there, labels=labels, pixel_values=images, use_cache=False
        ).loss
        return loss


PLAIN: dict[str, type[Plain]] = {"coca": PlainCoCa, "blip": PlainBlip, "llava": PlainLlava}


def plain_of(name: str, family: Any, config: Config, folder: Path, device: str = "cpu") -> Plain:
    """
    Args:
        family: of that name, as it is built; folder: for what it exports, not there yet.
    """
    family.export(folder)
    made = PLAIN[name].of(family, folder).to(device)
    made.begin(config.optimiser)
    return made
