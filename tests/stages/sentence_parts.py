"""A tiny BERT in the layout of sentence-transformers, and its vectors by transformers alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.stages.text_model_parts import FILL, libraries, save_tokenizer


def save_encoder(folder: Path, pooling: str | None = "mean_tokens", spread: float = 0.5) -> str:
    """pooling: what 1_Pooling/config.json says; None: there is no such file."""
    transformers = libraries()
    import torch

    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        config = transformers.BertConfig(
            vocab_size=258, max_position_embeddings=64, pad_token_id=FILL, initializer_range=spread, **sizes
        )
        transformers.BertModel(config).save_pretrained(folder)
    save_tokenizer(folder, begin=False, most=64)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 40}')
    if pooling is not None:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        said: dict[str, Any] = {"word_embedding_dimension": 24, f"pooling_mode_{pooling}": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": False} | said))
    return str(folder)


def by_hand(folder: str, texts: Sequence[str], first: bool = False) -> np.ndarray:
    """Unit vectors of texts alone, unpadded: float64 (n, dim)."""
    import torch

    model = libraries().AutoModel.from_pretrained(folder).eval()
    tokenizer = libraries().AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        ids = tokenizer(text)["input_ids"][:40]
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        rows.append((hidden[0] if first else hidden.mean(dim=0)).numpy().astype(np.float64))
    return np.array([row / np.linalg.norm(row) for row in rows])
