"""Models that answer in a chat: LLaVA, Qwen-VL and their like, by whatever class transformers has for them.

The question and the picture are put in place by the model's own processor and chat template; prompts of several
lengths, as pictures of native resolution make them, are filled up on the left. Pictures and prompts are read once,
whatever the number of texts.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.captioner_blip import grouped
from stages.captioner_decode import Ends, written
from stages.captioner_models import Asking

if TYPE_CHECKING:
    from training_smoke.sampling import Sampling

OF_TOKENS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")  # one number a token of the prompt
TOKENS = 1536  # of a prompt with its picture, for each of `batch`: longer ones, and several texts, go fewer at a time
KEPT_BYTES = 2_000_000  # of what a processor makes of a picture; more of it is made again when its turn comes
Given = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Shown:
    """uint8 (height, width, 3); tokens of its prompt; what the processor gives for it, where that is not large."""

    picture: np.ndarray
    tokens: int
    given: Given | None


class ChatWriter:
    """As `stages.captioner_models.Writer`."""

    def __init__(self, model: Any, processor: Any, asking: Asking) -> None:
        self.model, self.processor, self.batch, self.max_pixels = model, processor, asking.batch, asking.max_pixels
        self.asked = _asked(processor, asking.prompt)
        said, tokenizer = model.generation_config, processor.tokenizer
        end = tokenizer.eos_token_id if said.eos_token_id is None else said.eos_token_id
        ends = tuple(end) if isinstance(end, list) else (end,)
        if None in ends:
            raise ValueError("neither generation_config.json nor the tokenizer says which token ends a text")
        pad = next(p for p in (said.pad_token_id, tokenizer.pad_token_id, ends[0]) if p is not None)
        self.ends = Ends(int(pad), tuple(int(e) for e in ends), int(pad))
        self.places = getattr(model.config.get_text_config(), "max_position_embeddings", None)

    def shown(self, picture: np.ndarray) -> Shown:
        """The picture with at most `max_pixels`, and what the processor says of it."""
        picture = bounded(picture, self.max_pixels)
        given = self._given(picture)
        small = sum(value.nbytes for value in given.values()) <= KEPT_BYTES
        return Shown(
            np.zeros((0, 0, 3), np.uint8) if small else picture, given["input_ids"].shape[1], given if small else None
        )

    def _given(self, picture: np.ndarray) -> Given:
        """What the processor gives for the picture and the question; pixels in the model's precision."""
        from PIL import Image

        begin = self.processor.tokenizer.bos_token
        # A template that writes the first token itself: as `apply_chat_template(tokenize=True)` has it, no second one.
        more = {"add_special_tokens": False} if begin and self.asked.startswith(begin) else {}
        made = self.processor(images=[Image.fromarray(picture)], text=[self.asked], return_tensors="pt", **more)
        return {k: v.to(self.model.dtype) if v.is_floating_point() else v for k, v in made.items()}

    def length(self, shown: Shown) -> int:
        """Tokens of the prompt, the picture's included."""
        return shown.tokens

    def together(self, texts: int, length: int) -> int:
        """One forward pass of pictures, or fewer where keys and values of all texts would be of too many tokens."""
        return max(1, min(self.batch, self.batch * TOKENS // (length * texts)))

    @torch.inference_mode()
    def texts(self, shown: Sequence[Shown], how: Sampling, keys: Sequence[Sequence[str]]) -> list[list[str]]:
        """See `stages.captioner_models.Writer`."""
        given = stacked([self._given(s.picture) if s.given is None else s.given for s in shown], self.ends.pad)
        last = given["input_ids"][:, -1]
        if not bool((last == last[0]).all()):
            raise ValueError("the chat template lets a prompt end with the picture: no text can begin alike behind it")
        given = {k: v.to(self.model.device) for k, v in given.items()}
        if self.places is not None:
            how = how.within(max(1, int(self.places) - given["input_ids"].shape[1]))
        tokens = written(Chat(self.model, given), self.model.device, how, keys, self.ends, int(last[0]))
        return grouped(self.processor.batch_decode(tokens, skip_special_tokens=True), len(keys[0]))


def _asked(processor: Any, prompt: str) -> str:
    """The whole prompt, with the place of the picture in it."""
    if processor.chat_template:
        content = [{"type": "image"}, *([{"type": "text", "text": prompt}] if prompt else [])]
        asked: str = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return asked
    image = getattr(processor, "image_token", None)
    if image is None:
        raise ValueError("the model has no chat template, and its processor no token for the picture: it is not known")
    return prompt if image in prompt else f"{image}\n{prompt}"


def bounded(picture: np.ndarray, most: int) -> np.ndarray:
    """uint8 (height, width, 3), made smaller where it has more pixels, its shape kept."""
    height, width = picture.shape[:2]
    if height * width <= most:
        return picture
    from PIL import Image

    scale = (most / (height * width)) ** 0.5
    size = max(1, min(most, int(width * scale))), max(1, min(most, int(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def stacked(shown: Sequence[Given], pad: int) -> dict[str, Tensor]:
    """Prompts filled up on the left, pixels and what else there is one behind the other, filled up with zeros."""
    longest = max(s["input_ids"].shape[1] for s in shown)
    found = {}
    for name in shown[0]:
        parts = [s[name] for s in shown]
        if name in OF_TOKENS:
            value = pad if name == "input_ids" else 0
            parts = [F.pad(part, (longest - part.shape[1], 0), value=value) for part in parts]
        found[name] = torch.cat(_even(parts))
    return found


def _even(parts: Sequence[Tensor]) -> list[Tensor]:
    """[n_i, ...] each of one size behind the first dimension, zeros added at the ends."""
    sizes = [max(part.shape[d] for part in parts) for d in range(1, parts[0].ndim)]
    found = []
    for part in parts:
        short = [size - have for size, have in zip(sizes, part.shape[1:], strict=True)]
        found.append(F.pad(part, [n for s in reversed(short) for n in (0, s)]) if any(short) else part)
    return found


class State(NamedTuple):
    """cache: of transformers, used once. there: int64 [n, t], 0 where a shorter prompt was filled up. at: int64 [n],
    the position of the next token."""

    cache: Any
    there: Tensor
    at: Tensor


@dataclass(frozen=True, eq=False)
class Chat:
    """A `training_smoke.generation.Decoder` that goes on from prompts, all but the last token of them.

    given: of the processor: input_ids, attention_mask int64 [n, t], and what else the model takes.
    """

    model: Any
    given: Mapping[str, Tensor]

    def begin(self) -> State:
        given = {k: v[:, :-1] if k in OF_TOKENS else v for k, v in self.given.items()}
        there = given["attention_mask"]
        positions = self._positions(given)
        found = self.model(**given, position_ids=positions, use_cache=True, logits_to_keep=1)
        last = positions.masked_fill(there == 0, 0).amax(dim=(0, 2)) if self._turned else positions.amax(dim=1)
        return State(found.past_key_values, there, last + 1)

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        there = torch.cat([state.there, torch.ones_like(state.there[:, :1])], dim=1)
        positions = state.at[:, None]
        found = self.model(
            input_ids=tokens[:, None],
            attention_mask=there,
            position_ids=positions.expand(3, -1, -1) if self._turned else positions,
            past_key_values=state.cache,
            use_cache=True,
        )
        return found.logits[:, -1], State(found.past_key_values, there, state.at + 1)

    def rows(self, state: State, index: Tensor) -> State:
        state.cache.batch_select_indices(index)
        return State(state.cache, state.there[index], state.at[index])

    def _positions(self, given: Mapping[str, Tensor]) -> Tensor:
        """int64 [n, t]; [3, n, t] where they are of time, height and width, of which a picture takes fewer than it has
        tokens."""
        if not self._turned:
            return (given["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        ask = self.model.model.get_rope_index
        known = inspect.signature(ask).parameters
        positions: Tensor = ask(**{k: v for k, v in given.items() if k in known})[0]
        return positions

    @property
    def _turned(self) -> bool:
        """Whether the model has Qwen2-VL's positions in three dimensions (M-RoPE)."""
        return hasattr(self.model.model, "get_rope_index")
