"""Vectors of texts by a sentence encoder: any encoder of transformers whose last states are averaged, as MiniLM's are.

    class Sieve(OfSentences): ...
    encoder = load("models/all-MiniLM-L6-v2", "fp32", "cpu")
    encoder.vectors(["a dog", "a hound"], batch=64)         # float32 (2, 384), rows of length one

Reimers and Gurevych 2019 (Sentence-BERT, arXiv:1908.10084): the mean over a text's tokens, then length one. A folder
may say otherwise (`1_Pooling/config.json`, of sentence-transformers): what it says is followed, or refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field, PrivateAttr

from stages import hub_weights
from stages.clip_weights import reason
from stages.hub_weights import Device, Precision
from stages.text_model import OfTextModel, longest, passes

CHARACTERS = 4096  # of a text that are looked at; MiniLM takes 256 tokens
TOKENS = 256  # where nothing says how many a model was trained with
POOLING = Path("1_Pooling") / "config.json"  # of sentence-transformers
MODULES = "modules.json"  # of sentence-transformers: what a text goes through
KNOWN = ("Transformer", "Pooling", "Normalize")  # modules that are computed here; vectors are of length one anyway
Pooling = Literal["mean", "cls"]
_Kind = TypeVar("_Kind", list[Any], dict[str, Any])


class OfSentences(OfTextModel):
    """A stage over what a sentence encoder says.

    weights: a folder in the layout of transformers, or a name on its hub, as sentence-transformers/all-MiniLM-L6-v2.
    batch: texts in a forward pass; it decides the last bits.
    """

    weights: str
    batch: int = Field(default=64, ge=1, le=4096)
    _encoder: SentenceEncoder | None = PrivateAttr(default=None)

    kind: ClassVar[Any] = "AutoModel"

    def files(self) -> tuple[str, ...]:
        """Configuration, tokenizer and weights, and how vectors of tokens become one, where the folder says it.

        Raises:
            ValueError: they are not there, and what to do.
        """
        found = super().files()
        said = Path(found[0]).parent / POOLING
        return (*found, str(said)) if said.is_file() else found

    def open(self) -> None:
        """Load the model.

        Raises:
            ValueError: weights, packages or device are missing, or do not fit; says what to do.
        """
        self.files()
        try:
            self._encoder = load(self.place, self.precision, self.device)
        except ValueError as e:
            raise ValueError(f"{self.method()}: {e}") from e

    def encoder(self) -> SentenceEncoder:
        """The model, loaded where `open` was not called."""
        if self._encoder is None:
            self.open()
        assert self._encoder is not None
        return self._encoder


@dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A model, ready. pooling: mean over a text's tokens, or its first one. most: tokens that are looked at."""

    model: Any
    tokenizer: Any
    pooling: Pooling
    most: int

    def vectors(self, texts: Sequence[str], batch: int) -> np.ndarray:
        """float32 (n, dim), rows of length one; equal texts are computed once, `batch` of them in a forward pass."""
        different = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        rows = self._tokens(list(different))
        found = np.zeros((len(rows), self.model.config.hidden_size), np.float32)
        for some, width in passes([len(row) for row in rows], batch, self.most):
            found[some] = self._pass([rows[i] for i in some], batch, width)
        return found[[different[text] for text in texts]]

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        cut = [text[:CHARACTERS] for text in texts]
        found = self.tokenizer(cut, truncation=True, max_length=self.most, verbose=False, split_special_tokens=True)
        return [list(row) for row in found["input_ids"]]

    def _pass(self, rows: Sequence[Sequence[int]], batch: int, width: int) -> np.ndarray:
        """Token numbers of at most `batch` texts -> float32 (texts, dim)."""
        import torch
        from torch.nn import functional as F

        ids, mask = np.full((batch, width), self._filling(), np.int64), np.zeros((batch, width), np.int64)
        for place in range(batch):  # what is over repeats the first row: a pass of fewer rows has the same shape
            row = rows[place if place < len(rows) else 0]
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        with torch.inference_mode():
            tokens, there = (torch.from_numpy(a).to(self.model.device) for a in (ids, mask))
            hidden = self.model(input_ids=tokens, attention_mask=there).last_hidden_state.float()
            if self.pooling == "cls":
                pooled = hidden[:, 0]
            else:
                pooled = (hidden * there[..., None]).sum(dim=1) / there.sum(dim=1, keepdim=True)
            found: np.ndarray = F.normalize(pooled, dim=-1)[: len(rows)].cpu().numpy()
        return found

    def _filling(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)


def cosines(encoder: SentenceEncoder, pairs: Sequence[tuple[str, str]], batch: int) -> np.ndarray:
    """Of each two texts, float64 (n,) in -1..1, rounded to 1e-4; NaN where the encoder's answer is no number."""
    vectors = encoder.vectors([text for pair in pairs for text in pair], batch).astype(np.float64)
    return np.asarray(np.round(np.clip(np.einsum("nd,nd->n", vectors[::2], vectors[1::2]), -1, 1), 4))


def load(weights: str, precision: Precision, device: Device) -> SentenceEncoder:
    """The encoder of a folder or of a name on the hub, in evaluation mode on the device.

    Raises:
        ValueError: packages, weights or device are missing, or the folder pools in a way that is not known here.
    """
    try:
        import torch
        import transformers
    except ImportError as e:
        raise ValueError(f"{weights} needs torch and transformers ({e}): {hub_weights.INSTALL}") from e
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("`device: cuda`, and no GPU is seen here; say `device: cpu`, or run where there is one")
    folder = Path(hub_weights.files(weights)[0]).parent
    transformers.utils.logging.disable_progress_bar()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, about = transformers.AutoModel.from_pretrained(
            folder, dtype=torch.float32 if precision == "fp32" else torch.bfloat16, output_loading_info=True, **local
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
    except Exception as e:  # whatever transformers or a damaged file throws
        raise ValueError(f"transformers cannot load {folder} as a sentence encoder: {reason(e)}") from e
    lost = sorted(name for name in about["missing_keys"] if not name.startswith("pooler."))  # which is not asked
    if lost or model.config.is_encoder_decoder:
        what = f"they lack {', '.join(lost[:3])}" if lost else "they are of an encoder with a decoder"
        raise ValueError(f"the weights in {folder} are of no sentence encoder: {what}")
    _check_modules(folder)
    known = [n for n in (_trained_with(folder), longest(model, tokenizer)) if n is not None]
    return SentenceEncoder(model.to(device).eval(), tokenizer, _pooling(folder), min(known, default=TOKENS))


def _check_modules(folder: Path) -> None:
    """Refuse a model whose vectors go through more than is computed here.

    Raises:
        ValueError: such as a last layer (LaBSE), and what to do.
    """
    file = folder / MODULES
    kinds = _kinds(file) if file.is_file() else []
    if strange := [kind for kind in kinds if kind not in KNOWN]:
        raise ValueError(
            f"{file} has a module {', '.join(strange)}, without which vectors are not the model's; known are "
            f"{', '.join(KNOWN)}: take a model of these, as all-MiniLM-L6-v2"
        )


def _kinds(file: Path) -> list[str]:
    """Names of the classes of modules."""
    modules = _read(file, list)
    if not all(isinstance(module, dict) and isinstance(module.get("type"), str) for module in modules):
        raise ValueError(f"{file} is no list of modules with a `type` each: copy the whole model again")
    return [module["type"].rpartition(".")[2] for module in modules]


def _pooling(folder: Path) -> Pooling:
    file = folder / POOLING
    if not file.is_file():
        return "mean"
    said = _read(file, dict)
    ways = {name.removeprefix("pooling_mode_") for name, on in said.items() if name.startswith("pooling_mode") and on}
    if ways == {"mean_tokens"}:
        return "mean"
    if ways == {"cls_token"}:
        return "cls"
    raise ValueError(f"{file} pools by {', '.join(sorted(ways)) or 'nothing'}; known are mean_tokens and cls_token")


def _trained_with(folder: Path) -> int | None:
    """Tokens a text, as sentence-transformers notes them."""
    file = folder / "sentence_bert_config.json"
    found = _read(file, dict).get("max_seq_length") if file.is_file() else None
    return found if isinstance(found, int) and found > 0 else None


def _read(file: Path, kind: type[_Kind]) -> _Kind:
    """What is written in a file of a model.

    Raises:
        ValueError: it is damaged, and what to do.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:  # no UTF-8, no JSON, or thousands of brackets within each other
        raise ValueError(f"{file} is no JSON ({reason(e)}): copy the whole model again") from e
    if not isinstance(found, kind):
        raise ValueError(f"{file} has a {type(found).__name__}, not a {kind.__name__}: copy the whole model again")
    return found
