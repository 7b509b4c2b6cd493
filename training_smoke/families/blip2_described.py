"""What `towers` name for BLIP-2's first stage: transformers' configuration, and texts that can be written too.

config, words, context = described(Towers("tiny"))
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.families.blip2_parts import size_of, usable_init
from training_smoke.families.blip_text import Words, check_words, trained_words
from training_smoke.families.published import published
from training_smoke.vocabulary import Vocabulary

DECODE = "<decode>"  # first token of a text that is to be written, as [DEC] of the reference


def described(towers: Towers) -> tuple[Any, Words, int]:
    """(transformers' Blip2Config, texts, tokens a text).

    Raises:
        TrainingError: no such size or folder, or one of the second stage.
    """
    if Path(towers.name).is_dir():
        return _of_folder(towers)
    size = size_of(towers.name)
    vocabulary = Vocabulary.small(size.vocabulary, extra=(DECODE,))
    words = replace(Words.ours(vocabulary), begin=vocabulary.number(DECODE))
    config = size.config(towers, vocabulary.size)
    return config, words, trained_words(towers.context, size.context, config.qformer_config.max_position_embeddings)


def _of_folder(towers: Towers) -> tuple[Any, Words, int]:
    """Of a model and a tokenizer in transformers' format: [CLS] first, [SEP] last, and bos ([DEC]) where one writes."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        config, tokenizer = (published(kind, towers.name) for kind in (AutoConfig, AutoTokenizer))
    except (OSError, ValueError) as e:
        raise TrainingError(f"towers.name {towers.name}: no model and tokenizer: {str(e).splitlines()[0]}") from e
    if config.model_type != "blip-2" or not config.qformer_config.use_qformer_text_input:
        raise TrainingError(f"towers.name {towers.name}: the first stage needs a Blip2ForImageTextRetrieval")
    if towers.image_size not in (None, config.vision_config.image_size):
        raise TrainingError(
            f"towers.image_size: the image encoder of {towers.name} has positions for its own size only"
        )
    check_words(tokenizer, config.qformer_config.vocab_size, towers.name)
    usable_init(config)
    return (
        config,
        _words_of(tokenizer, towers.name),
        trained_words(towers.context, 32, config.qformer_config.max_position_embeddings),
    )


def _words_of(tokenizer: Any, name: str) -> Words:
    begin = tokenizer.convert_tokens_to_ids(DECODE)
    first, *_, end = tokenizer("a")["input_ids"]
    if begin in (None, tokenizer.unk_token_id):
        begin = tokenizer.bos_token_id
    if None in (begin, tokenizer.pad_token_id) or not tokenizer.is_fast:
        raise TrainingError(f"{name}: its tokenizer must be a fast one with a pad and a bos token ([DEC] of BLIP-2)")
    tokenizer.split_special_tokens = True  # "<s>" in a caption is text
    return Words(tokenizer, tokenizer.pad_token_id, first, first, begin, end)
