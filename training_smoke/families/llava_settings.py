"""What decides a training of LLaVA beside what decides any, and the sizes that it knows by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training_smoke.conversations import TEMPLATES


@dataclass(frozen=True)
class LlavaSettings:
    """vision, language: a folder, or a name on the hub, of a vision tower and of a causal language model of
    transformers, with their weights; None: as `Towers.name` has them.

    template: one of `conversations.TEMPLATES`. layer: whose output is the picture's features, -2 the last but one.
    cls: whether the first feature, where it is of no patch, is one of them.
    alignment: share of the run that is stage 1: the projector alone learns, of plain captions. The rest is stage 2:
    the language model too, of conversations. second_rate: the learning rate of stage 2, over that of stage 1.
    train_vision: whether the vision tower learns in stage 2; at another rate by `Optimiser.groups`.
    questions: share of the captions of which questions are made, and `turns` the most of them in a conversation.
    group_steps: of how many steps the samples are put together by length; 1: not at all.
    lora: rank of adapters that learn in the language model's place; 0: itself. lora_alpha: their scale is it / rank.
    """

    vision: str | None = None
    language: str | None = None
    template: str = "roles"
    layer: int = -2
    cls: bool = False
    alignment: float = 0.456
    second_rate: float = 0.02
    train_vision: bool = False
    questions: float = 0.5
    turns: int = 3
    group_steps: int = 1
    lora: int = 0
    lora_alpha: float = 256.0

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise ValueError(f"template {self.template!r}: there are {', '.join(TEMPLATES)}")
        if not (0 <= self.alignment <= 1 and 0 <= self.questions <= 1):
            raise ValueError("alignment and questions are shares, between 0 and 1")
        if not self.second_rate > 0 or self.turns < 1 or self.group_steps < 1 or self.lora < 0:
            raise ValueError("second_rate is above 0, turns and group_steps at least 1, lora at least 0")


# Ours; CLIP's ViT-B/16 and the shape of Qwen2-0.5B, of whose 494 million parameters 136 are embeddings of its words;
# LLaVA-1.5-7B (CLIP's ViT-L/14 at 336 px, Vicuna).
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tiny": (
        {
            "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
            "image_size": 48, "patch_size": 16, "hidden_act": "gelu", "initializer_range": 0.06,
        },
        {
            "vocab_size": 4096, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512,
            "tie_word_embeddings": True, "initializer_range": 0.06,
        },
    ),
    "half-billion": (
        {
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "image_size": 224, "patch_size": 16,
        },
        {
            "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
            "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
        },
    ),
    "7b": (
        {
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "image_size": 336, "patch_size": 14,
        },
        {
            "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
            "tie_word_embeddings": False,
        },
    ),
}  # fmt: skip


# The two stages of LLaVA-1.5 in one run: 558,128 captions, 665,298 conversations, its rates and warm-up. One batch for
# both, 128 as in its second (256 in its first). Not compiled: there are as many logits as labels, other ones each step.
_LLAVA = {
    "samples": 9_558 * 128,
    "batch": 128,
    "optimiser": {
        "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "clip_norm": 1.0,
        "warmup": 36_703,  # 3 %
    },
    "precision": "bf16",
    "compile": False,
    "spike": None,  # from stage to stage and from batch to batch the loss is of other texts
}  # fmt: skip

GROUP_STEPS = 50
"""Of transformers' `group_by_length`. LLaVA's `group_by_modality_length` looks at one global batch only: it evens out
what processes get of it."""

SCALES: dict[str, dict[str, Any]] = {
    # Language and vision of random weights: there is nothing yet that a projector could be aligned with, so that all
    # learns from the start, the vision tower too.
    "tiny": {
        "towers": {"name": "tiny", "image_size": 48, "context": 40},
        "settings": {"alignment": 0.0, "train_vision": True, "layer": -1, "questions": 1.0},
        "samples": 40_960,
        "batch": 32,
        "optimiser": {"lr": 1e-3, "weight_decay": 0.1, "warmup": 1_280, "clip_norm": 1.0},
    },
    "small": _LLAVA
    | {
        "towers": {"name": "half-billion", "image_size": None, "context": 1024},
        "settings": {
            "vision": "openai/clip-vit-base-patch16", "language": "Qwen/Qwen2-0.5B-Instruct", "template": "chatml",
            "group_steps": GROUP_STEPS,
        },
    },
    "large": _LLAVA
    | {
        "towers": {"name": "7b", "image_size": None, "context": 2048, "checkpointing": True},
        "settings": {
            "vision": "openai/clip-vit-large-patch14-336", "language": "lmsys/vicuna-7b-v1.5", "template": "vicuna",
            "group_steps": GROUP_STEPS,
        },
        "sharding": "fsdp",
    },
}  # fmt: skip
"""`small` and `large` are made of published models, from the hub or its cache."""
