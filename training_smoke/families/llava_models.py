"""What LLaVA is made of: a vision tower and a causal language model of transformers, random or loaded, and a tokenizer.

parts = llava_parts(Towers("tiny"), LlavaSettings())            # parts.model, parts.chat, parts.mean, parts.std
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from training_smoke.config import Towers
from training_smoke.conversations import IMAGE, TEMPLATES, Chat
from training_smoke.errors import TrainingError
from training_smoke.families.blip_text import check_words, tokenizer_of, tokenizer_said
from training_smoke.families.llava_settings import SIZES, LlavaSettings
from training_smoke.families.published import published
from training_smoke.towers import CLIP_MEAN, CLIP_STD
from training_smoke.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

Pixels = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of the colours that a vision tower wants."""

CONTEXT = {"tiny": 40}  # tokens of text; of other models 2048, as in LLaVA-1.5, or as many as they have places for

TINY_PIXELS: Pixels = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@dataclass(frozen=True, eq=False)
class Parts:
    """patches: tokens that a picture becomes. about: where models of others were named, what they are, for
    `parts_again`: uint8 [n]."""

    model: LlavaForConditionalGeneration
    chat: Chat
    pixels: Pixels
    patches: int
    about: torch.Tensor | None = None

    @property
    def size(self) -> int:
        """Pixels a side."""
        config: Any = self.model.config.vision_config
        return int(config.image_size)


def llava_parts(towers: Towers, settings: LlavaSettings) -> Parts:
    """The model by its name, with weights drawn by torch's generator, or loaded.

    towers.name: one of SIZES, or a LLaVA of transformers (a folder, or a name on the hub): its shape and tokenizer.
    towers.weights: such a LLaVA, or a file of ours, with weights for that shape.

    Raises:
        TrainingError: transformers is not installed, no such parts, or weights of another shape.
    """
    try:
        import transformers
    except ImportError as e:
        raise TrainingError(f"llava needs transformers: pip install 'curate[models]' ({e})") from e
    with _asking(towers.name, towers.weights, settings.vision, settings.language):
        config, tokenizer, pixels = _of_size(towers, settings) if towers.name in SIZES else _of_folder(towers, settings)
        chat = _chat(tokenizer, settings)
        config.image_token_id = chat.image
        model = transformers.LlavaForConditionalGeneration(config)
        language: Any = config.text_config
        if len(tokenizer) > language.vocab_size:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        _load_halves(model, settings)
        if towers.weights is not None:
            _load(model, tokenizer, towers.weights)
        patches = _patches(model)
        model.config.image_seq_length = patches
    named = towers.name not in SIZES or settings.vision is not None or settings.language is not None
    return Parts(model, chat, pixels, patches, _about(model, tokenizer, pixels) if named else None)


def _about(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, pixels: Pixels) -> torch.Tensor:
    said = [json.loads(model.config.to_json_string(use_diff=False)), *tokenizer_said(tokenizer), pixels]
    return torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8)


def parts_again(about: torch.Tensor, settings: LlavaSettings) -> Parts:
    """What `about` was made of, with weights of no meaning, to put others in."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    said, tokenizer, names, (mean, std) = json.loads(about.cpu().numpy().tobytes())
    model = LlavaForConditionalGeneration(LlavaConfig.from_dict(said))
    chat = _chat(tokenizer_of(tokenizer, names), settings)
    return Parts(model, chat, (tuple(mean), tuple(std)), _patches(model), about.clone())


def context_of(towers: Towers, parts: Parts) -> int:
    """Tokens of text, the one that stands for the picture among them.

    Raises:
        TrainingError: too few for a conversation, or more than the language model has positions for.
    """
    language: Any = parts.model.config.text_config
    least, most = parts.chat.least, getattr(language, "max_position_embeddings", 1 << 20) + 1 - parts.patches
    context = towers.context or CONTEXT.get(towers.name, min(2048, most))
    if context < least:
        raise TrainingError(
            f"towers.context {context}: template {parts.chat.template.name} has {least} tokens with a request and a "
            "word in answer; raise it, or take a shorter template"
        )
    if context > most:
        raise TrainingError(
            f"towers.context {context}: beside {parts.patches} patches of the picture this language model has "
            f"positions for {most} tokens"
        )
    return context


@contextmanager
def _asking(*names: str | None) -> Iterator[None]:
    """What transformers and its hub raise, as an error that says what to do."""
    try:
        yield
    except (OSError, ValueError, KeyError) as e:
        raise TrainingError(
            f"llava of {', '.join(n for n in names if n)}: {str(e).splitlines()[0]}. Sizes of our own are "
            f"{', '.join(SIZES)}; anything else is a folder of transformers, or a name on its hub (reached or cached)"
        ) from e


# ------------------------------------------------------------------------------------------ shapes


def _of_size(towers: Towers, settings: LlavaSettings) -> tuple[LlavaConfig, PreTrainedTokenizerFast, Pixels]:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    vision, language = SIZES[towers.name]
    pixels = TINY_PIXELS if towers.name == "tiny" else (CLIP_MEAN, CLIP_STD)
    if settings.vision is None:
        size = towers.image_size or vision["image_size"]
        if size % vision["patch_size"]:
            raise TrainingError(f"towers.image_size {size} is no multiple of the patch, {vision['patch_size']}")
        seen: Any = CLIPVisionConfig(**vision | {"image_size": size}, projection_dim=vision["hidden_size"])
    else:
        seen, pixels = _config(settings.vision, "vision_config"), _pixels_of(settings.vision)
        _check_size(towers, seen.image_size)
    layers = getattr(seen, "num_hidden_layers", None)
    if layers is not None and not -layers - 1 <= settings.layer <= layers:
        raise TrainingError(f"settings.layer {settings.layer}: this vision tower has {layers} layers, the last is -1")
    if settings.language is None:
        said: Any = LlamaConfig(**language, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    else:
        said = _config(settings.language, "text_config")
    if settings.language is None or _random(settings.language):
        tokenizer = Vocabulary.small(said.vocab_size, TEMPLATES[settings.template].specials).hf()
    else:
        tokenizer = _tokenizer(settings.language)
        check_words(tokenizer, said.vocab_size, settings.language, may_add=True)
    config = LlavaConfig(
        vision_config=seen,
        text_config=said,
        vision_feature_layer=settings.layer,
        vision_feature_select_strategy="default" if _has_cls(seen) and not settings.cls else "full",
        tie_word_embeddings=bool(said.tie_word_embeddings),
    )
    return config, tokenizer, pixels


def _of_folder(towers: Towers, settings: LlavaSettings) -> tuple[LlavaConfig, PreTrainedTokenizerFast, Pixels]:
    from transformers import AutoConfig, LlavaConfig

    if settings.vision is not None or settings.language is not None:
        raise TrainingError(f"{towers.name} is a whole LLaVA: vision and language are settings of {', '.join(SIZES)}")
    config = published(AutoConfig, towers.name)
    if not isinstance(config, LlavaConfig):
        raise TrainingError(
            f"{towers.name} is a {config.model_type} and no llava: see the settings vision and language"
        )
    vision: Any = config.vision_config
    _check_size(towers, vision.image_size)
    language: Any = config.text_config
    tokenizer = _tokenizer(towers.name)
    check_words(tokenizer, language.vocab_size, towers.name, may_add=True)
    return config, tokenizer, _pixels_of(towers.name)


def _check_size(towers: Towers, there: int) -> None:
    if towers.image_size not in (None, there):
        raise TrainingError(f"this vision tower sees {there} pixels a side, not {towers.image_size}")


def _random(name: str) -> bool:
    """A configuration and no weights."""
    return name.endswith(".json")


def _config(name: str, part: str) -> Any:
    """The configuration of a model, or of that part of it (CLIP's has one of its vision tower)."""
    from transformers import AutoConfig

    config = published(AutoConfig, name)
    return getattr(config, part, config)


def _has_cls(vision: Any) -> bool:
    """Whether the first feature is of no patch: of CLIP's, ViT's and DINOv2's kind, and not of SigLIP's."""
    return "siglip" not in vision.model_type


def _pixels_of(name: str) -> Pixels:
    from transformers.image_processing_base import ImageProcessingMixin

    if _random(name):
        return CLIP_MEAN, CLIP_STD
    said, _ = ImageProcessingMixin.get_image_processor_dict(name)
    said = said.get("image_processor", said)
    return tuple(said["image_mean"]), tuple(said["image_std"])


def _tokenizer(name: str) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    found = published(AutoTokenizer, name)
    if not isinstance(found, PreTrainedTokenizerFast):
        raise TrainingError(
            f"{name}: labels need a tokenizer that knows the places of its tokens in a text (a fast one)"
        )
    return found


def _chat(tokenizer: PreTrainedTokenizerFast, settings: LlavaSettings) -> Chat:
    """With a token for the picture, where the language model knew of none."""
    if IMAGE not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]}, replace_extra_special_tokens=False)
    chat = Chat(tokenizer, TEMPLATES[settings.template])
    tokenizer.chat_template = chat.template.jinja()
    return chat


@torch.no_grad()
def _patches(model: LlavaForConditionalGeneration) -> int:
    """Counted, as towers differ in what stands beside patches."""
    vision: Any = model.config.vision_config
    size = vision.image_size
    blank = torch.zeros(1, 3, size, size)
    was_training = model.training
    (features,) = model.eval().get_image_features(pixel_values=blank).pooler_output
    model.train(was_training)
    return len(features)


# ------------------------------------------------------------------------------------------ weights


def _load_halves(model: LlavaForConditionalGeneration, settings: LlavaSettings) -> None:
    """The weights of a vision tower and of a language model that were trained apart; the projector stays random."""
    from transformers import MODEL_MAPPING, AutoModelForCausalLM

    if settings.vision is not None and not _random(settings.vision):
        config: Any = model.config.vision_config
        kind: Any = MODEL_MAPPING[type(config)]
        tower = kind.from_pretrained(settings.vision, config=config, dtype=torch.float32)
        model.model.vision_tower.load_state_dict(tower.state_dict())
    if settings.language is not None and not _random(settings.language):
        found = published(AutoModelForCausalLM, settings.language, dtype=torch.float32)
        words: Any = model.get_input_embeddings()
        found.resize_token_embeddings(words.num_embeddings, mean_resizing=False)
        model.model.language_model.load_state_dict(found.base_model.state_dict())
        model.lm_head.load_state_dict(found.get_output_embeddings().state_dict())


def _load(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, weights: str) -> None:
    from transformers import LlavaForConditionalGeneration

    from training_smoke.towers_file import read_file

    if Path(weights).is_file():
        prefix = "model."
        state = {n.removeprefix(prefix): t for n, t in read_file(weights)["state"].items() if n.startswith(prefix)}
    else:
        state = LlavaForConditionalGeneration.from_pretrained(weights, dtype=torch.float32).state_dict()
        if _tokenizer(weights).get_vocab() != tokenizer.get_vocab():
            raise TrainingError(f"{weights} has another tokenizer: name it as towers.name too")
    try:
        model.load_state_dict(state)
    except RuntimeError as e:
        what = str(e).splitlines()
        raise TrainingError(f"{weights}: weights of another shape ({what[min(1, len(what) - 1)].strip()})") from e
