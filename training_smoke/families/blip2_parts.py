"""What both stages of BLIP-2 are made of: sizes, texts, weights to begin with, an image encoder that may be frozen.

    size = SIZES["tiny"]
    model = Blip2ForImageTextRetrieval(size.config(towers, vocabulary=4096))      # transformers'

Weights come from a run of ours (a stage-1 run, a BLIP run: then the image encoder alone), or from transformers' format.
"""

from __future__ import annotations

import json
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training_smoke import checkpoint
from training_smoke.config import Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.families.base import Family
from training_smoke.families.blip_text import Words, save_processor
from training_smoke.families.published import published
from training_smoke.towers import CLIP_MEAN, CLIP_STD
from training_smoke.towers_file import is_ours, read_file

SEEN = "embeddings.patch_embedding.weight"  # what every image encoder of BLIP and BLIP-2 has

TINY: dict[str, Any] = {
    "towers": {"name": "tiny", "image_size": None, "context": None},
    "optimiser": {"lr": 1e-3, "weight_decay": 0.05, "warmup": 1_280, "clip_norm": 1.0},
    "batch": 64,
    "samples": 23_040,
}
BASE: dict[str, dict[str, Any]] = {
    name: {
        "towers": {"name": "base"},
        "optimiser": {"lr": 1e-4, "betas": (0.9, 0.98), "weight_decay": 0.05},
        "compile": False,  # transformers' modules and the draws of a step are not one graph
    }
    for name in ("debug", "small", "medium", "large")
}
"""Scales of both stages."""


@dataclass(frozen=True)
class Shape:
    """A transformer: width, layers; heads of 64, or of 32 where it is narrow; four times as wide within."""

    width: int
    layers: int

    @property
    def heads(self) -> int:
        return self.width // (64 if self.width >= 512 else 32)


@dataclass(frozen=True)
class Size:
    """vision, former, language: of the image encoder, the Q-Former and the language model that stage 2 has where none
    is named. cross: every so many layers of the Q-Former read the picture. dim: of vectors that are compared.

    init: deviation of random weights, queries included. transformers' default for the image encoder is 1e-10, and 0 for
    queries: the encoder would say the same of all pictures, and queries that begin alike stay alike, as nothing tells
    them apart. 0.02 is for wide layers: the first token of a narrow text model would hear nothing of the others.
    """

    vision: Shape
    former: Shape
    language: Shape
    image_size: int
    patch: int
    queries: int
    cross: int
    dim: int
    context: int
    vocabulary: int
    dropout: float
    init: float

    def config(self, towers: Towers, vocabulary: int, text: Any = None) -> Any:
        """transformers' Blip2Config; text: the language model's configuration, None: none is used.

        Raises:
            TrainingError: pictures that patches do not fill, or a context beyond the Q-Former's positions.
        """
        from transformers import Blip2Config, Blip2QFormerConfig, Blip2VisionConfig

        side = towers.image_size or self.image_size
        if side % self.patch:
            raise TrainingError(f"pictures of {side} pixels a side are no whole number of patches of {self.patch}")
        vision = Blip2VisionConfig(
            hidden_size=self.vision.width,
            intermediate_size=4 * self.vision.width,
            num_hidden_layers=self.vision.layers,
            num_attention_heads=self.vision.heads,
            image_size=side,
            patch_size=self.patch,
            initializer_range=self.init,
        )
        former = Blip2QFormerConfig(
            vocab_size=vocabulary,
            hidden_size=self.former.width,
            num_hidden_layers=self.former.layers,
            num_attention_heads=self.former.heads,
            intermediate_size=4 * self.former.width,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            initializer_range=self.init,
            max_position_embeddings=max(64, towers.context or self.context),
            cross_attention_frequency=self.cross,
            encoder_hidden_size=self.vision.width,
            use_qformer_text_input=text is None,
        )
        return Blip2Config(
            vision_config=vision,
            qformer_config=former,
            num_query_tokens=self.queries,
            image_text_hidden_size=self.dim,
            initializer_range=self.init,
            **({} if text is None else {"text_config": text}),
        )


_FORMER, _OPT = Shape(768, 12), Shape(768, 12)
SIZES = {
    "tiny": Size(Shape(128, 3), Shape(128, 2), Shape(128, 2), 48, 12, 8, 1, 64, 20, 2048, dropout=0.0, init=0.08),
    "base": Size(Shape(768, 12), _FORMER, _OPT, 224, 16, 32, 2, 256, 32, 30_522, dropout=0.1, init=0.02),
    "large": Size(Shape(1024, 24), _FORMER, _OPT, 224, 14, 32, 2, 256, 32, 30_522, dropout=0.1, init=0.02),
}
"""The Q-Former of the paper (BERT-base, 32 queries, every other layer reads the picture) behind ViT-B/16 and ViT-L/14;
the paper's own image encoders come as weights. `language` is as large as OPT-125M. `tiny` is for a CPU."""


def size_of(name: str) -> Size:
    """
    Raises:
        TrainingError: no such size.
    """
    if name not in SIZES:
        raise TrainingError(f"no size {name!r} of BLIP-2: {', '.join(SIZES)}, or a folder in transformers' format")
    return SIZES[name]


def usable_init(config: Any) -> None:
    """Let random weights of a published configuration be such that they can learn: see `Size.init`; and in single
    precision, whatever they were saved in."""
    config.vision_config.initializer_range = max(config.vision_config.initializer_range, 0.02)
    for part in (config, config.vision_config, config.qformer_config, config.text_config):
        part.dtype = torch.float32


class Blip2Family(Family):
    """A model of transformers with an image encoder, queries and a Q-Former; `model` is theirs, whole.

    about: uint8 [n], where a folder was named; else not there.
    """

    model: Any
    words: Words

    def __init__(self, model: Any, words: Words, context: int, settings: Any) -> None:
        super().__init__(CLIP_MEAN, CLIP_STD)
        self.model, self.words, self.context, self.settings = model, words, context, settings
        self.image_size = int(model.config.vision_config.image_size)

    @staticmethod
    @abstractmethod
    def module(config: Any) -> Any:
        """transformers' model of this configuration, with random weights."""

    def keep(self) -> None:
        """Shape and tokenizer in the state, as `Family.again` finds them there: for what a folder was named for."""
        said = [json.loads(self.model.config.to_json_string(use_diff=False)), self.words.as_json(), self.context]
        self.register_buffer("about", torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8))

    @classmethod
    def again(cls, towers: Towers, settings: Any, about: Tensor) -> Blip2Family:
        """As `Family.again` has it."""
        from transformers import Blip2Config

        said, words, context = json.loads(about.cpu().numpy().tobytes())
        made = cls(cls.module(Blip2Config.from_dict(said)), Words.of_json(words), context, settings)
        made.register_buffer("about", about.clone())
        return made

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """int64 [n, context], padded behind the end."""
        return self.words.encode(texts, self.context)

    def see(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> [n, patches and one, width of the image encoder]"""
        states: Tensor = self.model.vision_model(self.normalised(images)).last_hidden_state
        return states

    def freeze_vision(self) -> None:
        """No gradient in the image encoder but in its last LayerNorm, which LAVIS trains ("ln_vision")."""
        self.model.vision_model.requires_grad_(False)
        self.model.vision_model.post_layernorm.requires_grad_(True)

    def save_beside(self, folder: Path, tokenizer: Any, **processor: Any) -> None:
        """What transformers' AutoProcessor needs of pictures and texts."""
        save_processor(folder, "Blip2Processor", tokenizer, self.image_size, (CLIP_MEAN, CLIP_STD), **processor)


# ---------------------------------------------------------------------------------------------- weights to begin with


@dataclass(frozen=True)
class Weights:
    """By the names of transformers' BLIP-2 models; what ours has beside them by its own. source: for messages."""

    source: str
    values: Mapping[str, Tensor]

    def fill(self, module: nn.Module, prefix: str, into: str = "") -> None:
        """Give a module, whose tensors are called <prefix><name> here, all of its weights; into: <into><name> there.

        Raises:
            TrainingError: some are missing or of another shape.
        """
        own = {name: value for name, value in module.state_dict().items() if name.startswith(into)}
        found = {name: self.values.get(prefix + name.removeprefix(into)) for name in own}
        wrong = [name for name, value in found.items() if value is None or value.shape != own[name].shape]
        if wrong:
            raise TrainingError(
                f"{self.source} does not fit: {len(wrong)} of {len(own)} tensors are missing or of other shape, first "
                f"{prefix}{wrong[0].removeprefix(into)}; name the folder as towers.name too, or towers of its size"
            )
        with torch.no_grad():
            for name, value in module.state_dict(keep_vars=True).items():
                if name in found:
                    value.copy_(found[name])

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.values)

    @property
    def vision(self) -> str:
        """What stands before the names of the image encoder's tensors, which is not the momentum encoder of BLIP and
        ALBEF; of several the shortest, and of equally short ones the first."""
        found = (n.removesuffix(SEEN) for n in self.values if n.endswith(SEEN) and not n.startswith("slow."))
        before = sorted(found, key=lambda n: (len(n), n))
        if not before:
            raise TrainingError(f"{self.source} has no image encoder of BLIP's or BLIP-2's make")
        return before[0]


def read_weights(source: str) -> Weights:
    """Of a run's folder or file of ours, or of a folder in transformers' format, or a name on its hub.

    Raises:
        TrainingError: none of these.
    """
    path = Path(source)
    if path.is_dir() and (path / "checkpoints").is_dir():
        Config.load(path / "config.json")
        state = checkpoint.load_newest(path / "checkpoints")
        if state is None:
            raise TrainingError(f"{path} has no checkpoint yet: train it to its end first")
        return Weights(source, _plain(state["towers"]))
    if path.is_file():
        if not is_ours(path):
            raise TrainingError(f"{path} is no file of a run of ours; a folder in transformers' format is named whole")
        return Weights(source, _plain(read_file(path)["state"]))
    return Weights(source, _published(source))


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("model."): value for name, value in state.items() if isinstance(value, Tensor)}


def _published(source: str) -> dict[str, Tensor]:
    import transformers
    from safetensors.torch import load_file

    try:
        config = published(transformers.AutoConfig, source)
        name = (config.architectures or [""])[0]
        if not name.startswith("Blip"):
            raise TrainingError(f"{source} is a {name or config.model_type}: no model of BLIP or BLIP-2")
        model, about = getattr(transformers, name).from_pretrained(source, output_loading_info=True)
    except (OSError, ValueError) as e:
        raise TrainingError(f"{source}: neither ours nor transformers': {str(e).splitlines()[0]}") from e
    if about["missing_keys"]:
        raise TrainingError(f"{source} lacks {len(about['missing_keys'])} tensors, first {min(about['missing_keys'])}")
    ours = Path(source) / OURS
    return {**model.state_dict(), **(load_file(ours) if ours.is_file() else {})}


OURS = "writer.safetensors"
"""Beside an exported stage 1: what transformers' class has no place for."""


def warn_of_random(what: Iterable[str], source: str) -> None:
    warnings.warn(f"{source} has no {' and no '.join(what)}: begun with random weights", stacklevel=3)
