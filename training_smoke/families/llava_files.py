"""LLaVA as transformers loads it, without any code of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from training_smoke.conversations import IMAGE, Chat
from training_smoke.families.llava_lora import plain_state

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration


@torch.no_grad()
def write_llava(folder: Path, model: LlavaForConditionalGeneration, chat: Chat, pixels: tuple[Any, Any]) -> None:
    """Model, tokenizer and processor, with the chat template; pixels: mean and deviation of the colours, of [0, 1]."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    folder.mkdir(parents=True, exist_ok=True)
    config: Any = model.config
    vision = config.vision_config
    state = {name: t.detach().cpu().clone() for name, t in plain_state(model).items()}
    bare = type(model)(config)
    bare.load_state_dict(state)
    bare.generation_config.eos_token_id = chat.end
    bare.generation_config.pad_token_id = chat.tokenizer.pad_token_id
    bare.save_pretrained(folder)
    size = vision.image_size
    default = config.vision_feature_select_strategy == "default"
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": size},
            crop_size={"height": size, "width": size},
            image_mean=list(pixels[0]),
            image_std=list(pixels[1]),
        ),
        tokenizer=chat.tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        chat_template=chat.template.jinja(),
        image_token=IMAGE,
        # Of the tokens of a picture those that stand for no patch; transformers takes one away again under "default".
        num_additional_image_tokens=config.image_seq_length - (size // vision.patch_size) ** 2 + int(default),
    ).save_pretrained(folder)
