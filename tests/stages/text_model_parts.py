"""Tiny models of texts with random weights, saved the way users have them: a causal one and classifiers.

Tokens are bytes, so any text has them and a person can count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stages.base import Batch, Stage

BEGIN, FILL = 256, 257  # numbers of the tokens <begin> and <fill>; 0 to 255 are bytes
TEXTS = [
    "a red bicycle",
    None,
    "",
    "犬 🐕",
    "x",
    "a dog on a beach, a long story of it " * 3,
    "it's 'quoted'\n",
    "four",
]


def texts(*rows: str | None) -> Batch:
    return Batch.of(pa.table({"text": pa.array(rows or TEXTS, pa.string())}))


def answers(stage: Stage, *rows: str | None) -> list[dict[str, Any]]:
    table = stage.run(texts(*rows))
    assert table.schema == stage.writes()
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def libraries() -> Any:
    """transformers; a test that needs it is skipped where it, or torch, is not there."""
    pytest.importorskip("torch", reason="torch is not installed: models of texts are not tested")
    return pytest.importorskip("transformers", reason="transformers is not installed: models of texts are not tested")


def save_tokenizer(folder: Path, begin: bool = True, most: int = 128) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)} | {"<begin>": BEGIN, "<fill>": FILL}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"bos_token": "<begin>"} if begin else {}
    libraries().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<fill>", model_max_length=most, **special
    ).save_pretrained(folder)


def save_causal(folder: Path, begin: bool = True, flat: bool = False, positions: int = 128) -> str:
    """A GPT-2 of one layer; `flat`: it finds all 258 tokens equally likely, always."""
    transformers = libraries()
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = transformers.GPT2Config(
            vocab_size=258,
            n_positions=positions,
            n_embd=32,
            n_layer=1,
            n_head=2,
            bos_token_id=BEGIN,
            eos_token_id=BEGIN,
        )
        model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(0 if flat else 20)  # 20: far from all alike
    model.save_pretrained(folder)
    save_tokenizer(folder, begin, positions)
    return str(folder)


def save_classifier(folder: Path, labels: Sequence[str], kind: str = "Bert", biases: Sequence[float] = ()) -> str:
    """A BERT or RoBERTa of one layer with these heads; with `biases`, the logits are these whatever the text."""
    transformers = libraries()
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = getattr(transformers, f"{kind}Config")(
            vocab_size=258,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=128 + (FILL + 1 if kind == "Roberta" else 0),
            type_vocab_size=1,
            pad_token_id=FILL,
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
        model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.mul_(20)
        if biases:
            last = model.classifier if kind == "Bert" else model.classifier.out_proj
            last.weight.zero_()
            last.bias.copy_(torch.tensor(biases))
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)
