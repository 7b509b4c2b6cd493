"""open_clip's CoCa by name: configurations, weights, and the tokenizers that belong to them.

model, config = build_coca(Towers("coca_ViT-B-32", "laion2b_s13b_b90k"))
words = words_of(config)
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from training_smoke import open_clip_files
from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.vocabulary import Vocabulary

# What readers of weights raise of files that are none, or of another model's.
UNREADABLE = (
    OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    pickle.UnpicklingError, SafetensorError,
)  # fmt: skip
TINY_SIZE, TINY_CONTEXT, TINY_VOCABULARY = 64, 20, 4096


def tiny(width: int = 96) -> dict[str, Any]:
    """For a CPU: 16 patches of a picture, whose mean is its vector and which the decoder reads; a layer that reads text
    and one that writes.

    Of the mean, not of a class token: that begins almost the same for all pictures (between those of Flickr8k a mean
    cosine of 0.90; of the mean 0.13).
    """
    heads = width // 32
    text = {"context_length": TINY_CONTEXT, "vocab_size": TINY_VOCABULARY, "width": width, "heads": heads, "layers": 1}
    return {
        "embed_dim": width,
        "vision_cfg": {
            "image_size": TINY_SIZE,
            "patch_size": 16,
            "width": width,
            "head_width": 32,
            "layers": 3,
            "pool_type": "avg",
            "output_tokens": True,
        },
        "text_cfg": {**text, "embed_cls": True, "output_tokens": True, "hf_tokenizer_name": "."},
        "multimodal_cfg": text,
        "custom_text": True,
    }


def configuration(towers: Towers) -> dict[str, Any]:
    """open_clip's configuration of that name, or `tiny`, with the size of pictures and length of texts that is asked.

    Raises:
        TrainingError: no such configuration, it is none of CoCa, or of one that cannot be trained to write.
    """
    config = tiny() if towers.name == "tiny" else _published(towers.name)
    vision, text, multimodal = (config[part] for part in ("vision_cfg", "text_cfg", "multimodal_cfg"))
    vision["image_size"] = towers.image_size or vision.get("image_size", 224)
    text["context_length"] = multimodal["context_length"] = towers.context or text.get("context_length", 77)
    if vision["image_size"] % vision.get("patch_size", 16):
        raise TrainingError(
            f"towers.image_size {vision['image_size']}: {towers.name} has patches of {vision['patch_size']}"
        )
    if text["context_length"] < 4:
        raise TrainingError(f"towers.context {text['context_length']}: a text has a start, an end, and words between")
    return config


def build_coca(towers: Towers) -> tuple[nn.Module, dict[str, Any]]:
    """open_clip's CoCa with weights drawn by torch's generator, or loaded; and its configuration.

    Raises:
        TrainingError: open_clip is not installed, no such configuration or weights, or they do not fit each other.
    """
    try:
        from open_clip.coca_model import CoCa
    except ImportError as e:
        raise TrainingError(f"coca needs open_clip: pip install 'curate[models]' ({e})") from e
    config = configuration(towers)
    parts = {name: value for name, value in config.items() if name != "custom_text"}
    # One number, but not a scalar: FSDP2 refuses those. open_clip reshapes it when it loads a file.
    model: Any = CoCa(**deepcopy(parts), nonscalar_logit_scale=True)
    _check(model, towers.name)
    decoder = model.text_decoder
    # open_clip leaves it as it finds memory: the method that would draw it is never called, and would fail.
    nn.init.normal_(decoder.text_projection, std=decoder.width**-0.5)
    if towers.weights is not None:
        _load(model, config, towers)
    if towers.checkpointing:
        model.set_grad_checkpointing(True)
    return model, config


# ------------------------------------------------------------------------------------------ words


class Words(Protocol):
    """Texts and their tokens. `Vocabulary` is one."""

    @property
    def bos(self) -> int: ...
    @property
    def eos(self) -> int: ...
    @property
    def pad(self) -> int:
        """What is written behind a text that has ended; no model may say it, but where it is `eos`."""
        ...

    def encode(self, texts: Sequence[str], context: int) -> Tensor:
        """int64 [n, context]."""
        ...

    def decode(self, tokens: Tensor) -> list[str]:
        """int64 [n, t], up to the first eos of each."""
        ...


class ClipWords:
    """CLIP's tokens, as open_clip encodes them: there, padding has the number of "!", which a model may say."""

    def __init__(self) -> None:
        from open_clip import SimpleTokenizer

        self._tokenizer = SimpleTokenizer()
        self.bos: int = self._tokenizer.sot_token_id
        self.eos = self.pad = int(self._tokenizer.eot_token_id)

    def encode(self, texts: Sequence[str], context: int) -> Tensor:
        """As open_clip's tokenizer, but that "<end_of_text>" in a text, which CLIP ends with, is left out."""
        tokens = torch.zeros(len(texts), context, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            said = [t for t in self._tokenizer.encode(text) if t not in (self.bos, self.eos)]
            whole = [self.bos, *said[: context - 2], self.eos]
            row[: len(whole)] = torch.tensor(whole)
        return tokens

    def decode(self, tokens: Tensor) -> list[str]:
        rows = [row[: row.index(self.eos)] if self.eos in row else row for row in tokens.tolist()]
        known = self._tokenizer.decoder.keys() - {self.bos}  # coca_base has places for more than there are
        texts = (self._tokenizer.decode([t for t in row if t in known]) for row in rows)
        return [re.sub(r" (?=[.,!?;:%)])", "", text).strip() for text in texts]


def words_of(config: Mapping[str, Any]) -> Words:
    """The tokenizer of a configuration: CLIP's, or that of `tiny`."""
    text = config["text_cfg"]
    return Vocabulary.small(text["vocab_size"]) if text.get("hf_tokenizer_name") else ClipWords()


# ------------------------------------------------------------------------------------------ parts


def _published(name: str) -> dict[str, Any]:
    import open_clip

    config: dict[str, Any] | None = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None or "multimodal_cfg" not in config:
        there = ", ".join(n for n in open_clip.list_models() if "multimodal_cfg" in open_clip.get_model_config(n))
        raise TrainingError(f"no CoCa {name!r}: tiny, or one of open_clip's: {there}")
    text = config["text_cfg"]
    if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        raise TrainingError(
            f"{name}: its text encoder ({text.get('hf_model_name')}) sees the tokens that its decoder has to predict: "
            "there is no captioner to train. Take coca_ViT-B-32, coca_ViT-L-14 or coca_base"
        )
    return config


def _check(model: Any, name: str) -> None:
    """Is it made of the blocks whose weights we read?"""
    from open_clip.transformer import ResidualAttentionBlock

    text, decoder = model.text, model.text_decoder
    blocks = [*text.transformer.resblocks, *decoder.resblocks, *decoder.cross_attn]
    plain = all(type(block) is ResidualAttentionBlock for block in blocks)
    causal = text.attn_mask is not None and text.cls_emb is not None
    if not (plain and causal and text.output_tokens and getattr(model.visual, "output_tokens", False)):
        raise TrainingError(
            f"{name}: CoCa here has open_clip's plain blocks, a causal text with embed_cls, and output_tokens of both"
        )


def _load(model: Any, config: Mapping[str, Any], towers: Towers) -> None:
    from open_clip.factory import load_state_dict
    from open_clip.model import resize_pos_embed

    path = _file(config, towers)
    try:
        state = _ours(path) or load_state_dict(str(path))
        state["logit_scale"] = state["logit_scale"].reshape(model.logit_scale.shape)
        _fit_texts(state, model.text.positional_embedding, path)
        resize_pos_embed(state, model)
        model.load_state_dict(state)
    except UNREADABLE as e:
        why = (str(e).splitlines() or [type(e).__name__])[0]
        raise TrainingError(
            f"{path}: no weights of {towers.name}: {why}. It is to be a checkpoint of open_clip, or a towers.pt of coca"
        ) from e


def _ours(path: Path) -> dict[str, Tensor] | None:
    """The weights in a file of `save_model`; None: it is open_clip's."""
    from training_smoke.towers_file import is_ours, read_file

    if not is_ours(path):
        return None
    state = read_file(path)["state"]
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def _file(config: Mapping[str, Any], towers: Towers) -> Path:
    """Where the weights lie: a file or folder that is named, or what a tag stands for, fetched where it must be."""
    import open_clip

    said = str(towers.weights)
    tags = open_clip.list_pretrained_tags_by_model(towers.name)
    if said in tags:
        try:
            return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(towers.name, said)))
        except (OSError, RuntimeError, ValueError) as e:
            why = (str(e).splitlines() or [type(e).__name__])[0]
            raise TrainingError(
                f"{towers.name}: the weights {said!r} could not be fetched: {why}. Fetch them once with a network, "
                "after which they are kept, or name a file or folder as towers.weights"
            ) from e
    if Path(said).is_file():
        return Path(said)
    if not Path(said).is_dir():
        there = ", ".join(tags) or "none"
        raise TrainingError(f"{said}: no such file or folder, and no weights of {towers.name} have this tag ({there})")
    open_clip_files.check_folder(Path(said), config, towers.name)
    return open_clip_files.weights_in(Path(said))


def _fit_texts(state: dict[str, Tensor], positions: Tensor, path: Path) -> None:
    """Of weights for longer texts, the first positions, and the last: that of the token behind a text."""
    name = "text.positional_embedding"
    given, asked = state[name], len(positions)
    if len(given) < asked:
        raise TrainingError(
            f"{path} was trained with texts of {len(given) - 1} tokens: towers.context {asked - 1} is longer"
        )
    state[name] = torch.cat([given[: asked - 1], given[-1:]])
