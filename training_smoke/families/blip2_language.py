"""The language model of BLIP-2's second stage: any causal one of transformers, and how texts begin and end for it.

language = language_of("folders/opt-125m")
language.words.encode(["a dog runs"], context=16)          # begin, pieces, end, padding
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from training_smoke.errors import TrainingError
from training_smoke.families.blip2_parts import Size
from training_smoke.families.blip_text import Words, check_words
from training_smoke.families.published import published
from training_smoke.vocabulary import Vocabulary

IMAGE = "<image>"  # stands for a query in texts that transformers' processor makes


@dataclass(frozen=True)
class Language:
    """model: loaded, or None: transformers makes it of `config`, with random weights. image: the number of IMAGE.
    vocabulary, positions: how many tokens it knows and how many a text may have."""

    config: Any
    words: Words
    image: int
    model: Any = None

    @property
    def vocabulary(self) -> int:
        return int(self.config.vocab_size)

    @property
    def positions(self) -> int:
        return int(self.config.max_position_embeddings)

    def stand_in(self) -> Any:
        """A configuration as wide and next to nothing otherwise: transformers makes a language model with random
        weights of what it is given, and a loaded one then takes its place."""
        from transformers import OPTConfig

        few: dict[str, Any] = {
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "ffn_dim": 1,
        }
        return OPTConfig(
            vocab_size=2, hidden_size=self.config.hidden_size, pad_token_id=1, max_position_embeddings=1, **few
        )

    @staticmethod
    def template(tokenizer: Any, begin: int, end: int | None) -> None:
        """Let a tokenizer put `begin` before each text, and `end` behind it."""
        from tokenizers.processors import TemplateProcessing

        named = {str(tokenizer.convert_ids_to_tokens(i)): i for i in (begin, end) if i is not None}
        # Numbered, as a token may be called anything ("$A" of a template is the text).
        special = [{"id": f"[{i}]", "ids": [i], "tokens": [token]} for token, i in named.items()]
        single = f"[{begin}] $A" + ("" if end is None else f" [{end}]")
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=special)


def random_language(size: Size) -> Language:
    """OPT of the size's shape over our own vocabulary."""
    from transformers import OPTConfig

    v = Vocabulary.small(size.vocabulary)
    config = OPTConfig(
        vocab_size=v.size,
        hidden_size=size.language.width,
        ffn_dim=4 * size.language.width,
        num_hidden_layers=size.language.layers,
        num_attention_heads=size.language.heads,
        max_position_embeddings=max(128, 4 * (size.queries + size.context)),
        dropout=size.dropout,
        pad_token_id=v.pad,
        bos_token_id=v.bos,
        eos_token_id=v.eos,
    )
    return Language(config, Words.ours(v), v.image)


def language_of(source: str) -> Language:
    """A causal language model with its tokenizer; texts end with its own end.

    Raises:
        TrainingError: there is none, or it is no causal language model.
    """
    import transformers

    try:
        tokenizer = published(transformers.AutoTokenizer, source)
        # Not in what it was saved in, often half precision, which the layers around it do not have.
        model = published(transformers.AutoModelForCausalLM, source, dtype=torch.float32)
    except (OSError, ValueError) as e:
        raise TrainingError(f"settings.language {source}: {str(e).splitlines()[0]}") from e
    check_words(tokenizer, model.config.vocab_size, source, may_add=True)
    image = _with_image(tokenizer)
    if image >= model.config.vocab_size:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return Language(model.config, words_of(tokenizer, model.config, model.config.eos_token_id, source), image, model)


def language_of_folder(folder: str) -> tuple[Any, Language]:
    """Of a Blip2ForConditionalGeneration in transformers' format: (its whole configuration, its language model).

    Raises:
        TrainingError: there is none, or its language model has an encoder.
    """
    import transformers

    try:
        config = published(transformers.AutoConfig, folder)
        tokenizer = published(transformers.AutoTokenizer, folder)
    except (OSError, ValueError) as e:
        raise TrainingError(f"towers.name {folder}: no model and tokenizer: {str(e).splitlines()[0]}") from e
    if config.model_type != "blip-2" or not config.use_decoder_only_language_model:
        raise TrainingError(f"towers.name {folder}: the second stage needs a BLIP-2 with a causal language model")
    check_words(tokenizer, config.text_config.vocab_size, folder, may_add=True)
    try:
        end = transformers.GenerationConfig.from_pretrained(folder).eos_token_id
    except OSError:  # none lies there: the language model's own
        end = config.text_config.eos_token_id
    if config.image_token_index is None:
        config.image_token_index = _with_image(tokenizer)
    words = words_of(tokenizer, config.text_config, end, folder)
    return config, Language(config.text_config, words, config.image_token_index)


def words_of(tokenizer: Any, config: Any, end: Any, source: str) -> Words:
    """How texts are numbered for a language model.

    Args:
        config: of the language model. end: the token that ends a text; of several the first.

    Raises:
        TrainingError: the tokenizer has no fast form, or no tokens for these ends or for padding.
    """
    end = end[0] if isinstance(end, list) else end
    begin = next((i for i in (config.bos_token_id, tokenizer.bos_token_id, end) if i is not None), None)
    pad = tokenizer.pad_token_id
    if not tokenizer.is_fast or None in (begin, end, pad) or pad == end:
        raise TrainingError(
            f"{source}: the tokenizer must be a fast one whose texts end with a token, and with another for padding"
        )
    assert isinstance(begin, int)
    tokenizer.split_special_tokens = True  # "</s>" in a caption is text
    tokenizer.padding_side = "right"
    Language.template(tokenizer, begin, end)
    return Words(tokenizer, pad, begin, begin, begin, end)


def _with_image(tokenizer: Any) -> int:
    """The number of IMAGE, added where it is not there."""
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(IMAGE, normalized=False, special=True)], special_tokens=True)
    return int(tokenizer.convert_tokens_to_ids(IMAGE))
