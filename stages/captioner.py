"""Texts for pictures by a model that runs here: BLIP, BLIP-2, LLaVA- and Qwen-VL-type models, CoCa, our judge.

    captions:
      make:
        - caption: {weights: Salesforce/blip-image-captioning-base, sampling: nucleus, p: 0.9}
        - caption: {model: coca_ViT-L-14, weights: laion2b_s13b_b90k, name: coca, n: 5, sampling: top_k}
        - caption: {weights: models/llava, name: llava, prompt: Describe the image., max_tokens: 128}
        - caption: {weights: runs/judge, name: own}

A sparse stage: it is asked about survivors only. What a text is drawn by is a function of the seed, the sample's uid
and the number of the text, whatever else is in the batch.

BLIP: Li et al. 2022 (arXiv:2201.12086). BLIP-2: Li et al. 2023 (arXiv:2301.12597). CoCa: Yu et al. 2022
(arXiv:2205.01917). LLaVA: Liu et al. 2023 (arXiv:2304.08485). Qwen2-VL: Wang et al. 2024 (arXiv:2409.12191). CapFilt
draws one text with p = 0.9 (BLIP, section 4.3); Nguyen et al. 2023 (arXiv:2307.10350) with k = 50 and temperature 0.75.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator, model_validator

from stages import captioner_weights, hub_weights
from stages.apart import Apart
from stages.base import IMAGE, UID, Batch, Column, Need, Stage
from stages.captioner_models import USED, Asking, Writer, load
from stages.clip import DAY_S
from stages.clip_model import threads
from stages.hub_weights import Device, Precision
from stages.prompts import one_line
from stages.texts import TEXTS, several

if TYPE_CHECKING:
    from training_smoke.sampling import Sampling

_DRAWN = ("nucleus", "top_k")
_HOW = ("beams", "p", "k", "temperature", "min_tokens", "max_tokens", "repetition_penalty", "length_penalty", "seed")
_PICTURE_GB = 0.06  # of one of 384 x 384 in a forward pass of a base model, and what is kept of it
_TOKEN_GB = 8e-5  # keys and values of a token, for each GB of weights
_ODDS_GB = 1e-3  # of one text's next token: logits of some 30,000 to 150,000 tokens, sorted, several times over
_HELD = 256  # pictures of a batch: a chat model's are held with at most `max_pixels` each


class Caption(Stage):
    """`<name>`: what the model says of the picture: string; where n > 1, `stages.texts.TEXTS` of n texts.

    Null, with an `error`, where there is no picture, or the model says nothing.

    Args:
        weights: a folder in the layout of transformers, or a name on its hub (`org/name`, `org/name@revision`); a run
            of `curate judge`, or its towers.pt; with `model`, a tag, file or folder of open_clip.
        model: a CoCa of open_clip ("coca_ViT-L-14").
        name: of the column, and of the source of its texts.
        n: texts a picture; the picture is looked at once.
        prompt: what BLIP, BLIP-2 and CoCa go on from, and is no part of the text ("a photo of"); of a chat model the
            question.
        sampling: nucleus and top_k draw, beam keeps the likeliest of several texts, greedy takes the likeliest token.
        p: nucleus draws from the fewest tokens that have this much of the probability together.
        k: top_k draws from so many tokens.
        beams: texts that beam keeps.
        temperature: of draws.
        min_tokens, max_tokens: of the text, its end not counted. repetition_penalty: of tokens that were said.
            length_penalty: of beams. See `training_smoke.sampling.Sampling`.
        seed: draws are functions of it, the uid and the number of the text.
        batch: pictures in a forward pass, fewer where a chat model's are long; it decides the last bits.
        max_pixels: of a picture that a chat model is shown; larger ones are made smaller first. Of models that see
            squares it decides nothing.
        precision: bf16 computes in bfloat16, several times as fast where the processor can.
        device: cuda asks for a GPU a worker. cpus: threads of a worker.

    Example:
        Caption(weights="Salesforce/blip-image-captioning-large", sampling="nucleus", p=0.9, seed=1)
    """

    sparse: ClassVar[bool] = True

    weights: str
    model: str | None = None
    name: str = Field(default="caption", pattern="^[a-z][a-z0-9_]{0,31}$")
    n: int = Field(default=1, ge=1, le=256)
    prompt: str = Field(default="", max_length=4000)
    sampling: Literal["nucleus", "beam", "top_k", "greedy"] = "nucleus"
    p: float = Field(default=0.9, gt=0, le=1)
    k: int = Field(default=50, ge=1)
    beams: int = Field(default=3, ge=1, le=64)
    temperature: float = Field(default=1.0, gt=0)
    min_tokens: int = Field(default=1, ge=0)
    max_tokens: int = Field(default=24, ge=1, le=4096)
    repetition_penalty: float = Field(default=1.0, gt=0)
    length_penalty: float = 1.0
    seed: int = 0
    batch: int = Field(default=16, ge=1, le=1024)
    max_pixels: int = Field(default=1_048_576, ge=4096)
    precision: Precision = "fp32"
    device: Device = "cpu"
    cpus: int = Field(default=1, ge=1)
    _loaded: Writer | None = PrivateAttr(default=None)
    _prepared: WeakKeyDictionary[Batch, list[_Shown]] | None = PrivateAttr(default=None)
    _pinned: str | None = PrivateAttr(default=None)
    _apart: Apart = PrivateAttr(default_factory=Apart)

    @field_validator("weights")
    @classmethod
    def _settled(cls, value: str) -> str:
        return captioner_weights.settled(value)

    @model_validator(mode="after")
    def _whole(self) -> Caption:
        if self.n > 1 and self.sampling not in _DRAWN:
            raise ValueError(f"n: {self.n} texts of one picture are alike with `sampling: {self.sampling}`: draw them")
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens: {self.min_tokens} is above max_tokens: {self.max_tokens}")
        return self

    def __getstate__(self) -> dict[Any, Any]:
        """With the commit of a name, which the fingerprint is of."""
        state = super().__getstate__()
        private = {**state["__pydantic_private__"], "_pinned": hub_weights.pinned(self.place)}
        return state | {"__pydantic_private__": private}

    @property
    def place(self) -> str:
        """The weights; in a worker, with the commit."""
        return self._pinned or self.weights

    @property
    def how(self) -> Sampling:
        """The parameters that say how a text is drawn."""
        from training_smoke.sampling import Sampling

        return Sampling(self.sampling, **{field: getattr(self, field) for field in _HOW})

    def files(self) -> tuple[str, ...]:
        """Configuration, processor and weights.

        Raises:
            ValueError: they are not there, and what to do.
        """
        try:
            return captioner_weights.files(self.place, self.model)
        except ValueError as e:
            raise ValueError(f"caption: {e}") from e

    def identity(self) -> dict[str, Any]:
        """With the files' names in place of the folder, and what the kind of sampling and of model looks at."""
        found = super().identity()
        said = found["parameters"]
        unused = {"p", "k", "beams", "temperature", "seed"} - USED.get(self.sampling, set())
        unused |= (set() if self.sampling == "beam" else {"length_penalty"}) | (
            set() if self._chats() else {"max_pixels"}
        )
        for field in ("device", "cpus", *unused):
            del said[field]
        said["weights"] = [Path(file).name for file in self.files()]
        return found

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE, UID)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.string() if self.n == 1 else TEXTS), ("error", pa.string())])

    def need(self) -> Need:
        """Memory: the weights as they are stored and as they are computed with, pictures and what is kept of them, and
        of the texts that are written at a time; of a chat model the bounded pictures of the batches that are under way.

        What cannot be had counts as nothing: `files` refuses it before it runs.
        """
        try:
            size_gb, chats = sum(Path(f).stat().st_size for f in self.files()) / 1e9, self._chats()
        except ValueError:
            size_gb, chats = 0.0, False
        work_gb = self.batch * _PICTURE_GB * (1 + size_gb)
        if self.device == "cpu":  # else it is the GPU's
            rows = self.batch * self.n * (self.beams if self.sampling == "beam" else 1)
            work_gb += rows * (self.max_tokens * _TOKEN_GB * size_gb + _ODDS_GB)
        if chats:
            work_gb += _HELD * max(2e-3, 3e-9 * self.max_pixels) * (1 if self.device == "cpu" else self.cpus + 3)
        return Need(self.cpus, 1 if self.device == "cuda" else 0, 2.5 + 3 * size_gb + work_gb, DAY_S)

    def open(self) -> None:
        """Load the model.

        Raises:
            ValueError: weights, packages or device are missing, or do not fit; says what to do.
        """
        self.files()
        try:
            loaded = load(self.place, self.model, self._asking())
        except ValueError as e:
            raise ValueError(f"caption: {e}") from e
        self._prepared, self._loaded = WeakKeyDictionary(), loaded

    def prepare(self, batch: Batch) -> None:
        """Decode and cut: a thread may do it while `run` has other batches, after `open()`."""
        assert self._prepared is not None, "open() comes first: threads would make one each"
        self._prepared[batch] = self._shown(batch)

    def run(self, batch: Batch) -> pa.Table:
        with threads(self.cpus):
            ready = None if self._prepared is None else self._prepared.pop(batch, None)
            shown = self._shown(batch) if ready is None else ready
            said = self._said([s for s in shown if s.given is not None], batch[UID].to_pylist())
        texts: list[list[str | None] | None] = [None] * batch.num_rows
        errors = [why or s.error for why, s in zip(batch.image_errors(), shown, strict=True)]
        for row, (found, error) in said.items():
            texts[row], errors[row] = found, error
        column = several(texts, self.name) if self.n > 1 else pa.array([t and t[0] for t in texts], pa.string())
        return pa.table([column, pa.array(errors, pa.string())], schema=self.writes())

    # ------------------------------------------------------------------------------------------ parts

    def _asking(self) -> Asking:
        return Asking(self.prompt, self.batch, self.precision, self.device, self.max_pixels)

    def _chats(self) -> bool:
        """Whether the model is one of those that answer in a chat; they see pictures in their own size."""
        return (
            captioner_weights.kind_of(self.place, self.model) == "transformers"
            and captioner_weights.config(self.place).get("model_type") not in captioner_weights.WITHOUT_CHAT
        )

    def _writer(self) -> Writer:
        if self._loaded is None:
            self.open()
        assert self._loaded is not None
        return self._loaded

    def _shown(self, batch: Batch) -> list[_Shown]:
        """What the model is given of each row; a chat model's pictures are bounded as each is decoded, since all of a
        batch in the size that they are stored in may be more than any machine has."""
        writer, found = self._writer(), []
        for row, picture in enumerate(batch.each_image() if self._chats() else batch.images()):
            given, error = None, None
            try:
                given = None if picture is None else writer.shown(picture)
            except ValueError as e:  # of a processor: a picture of a shape that the model does not take
                error = f"caption: the model takes no such picture: {one_line(str(e))[:200]}"
            found.append(_Shown(row, given, error))
        return found

    def _said(self, shown: list[_Shown], uids: list[bytes]) -> dict[int, _Said]:
        """Row -> its texts, or why there are none; pictures of about one length at a time."""
        writer = self._writer()
        parts: list[list[_Shown]] = []
        for s in sorted(shown, key=lambda s: writer.length(s.given)):
            if parts and len(parts[-1]) < writer.together(self.n, writer.length(s.given)):
                parts[-1].append(s)
            else:
                parts.append([s])
        return {s.row: said for part in parts for s, said in self._of_part(part, uids)}

    def _of_part(self, part: Sequence[_Shown], uids: list[bytes]) -> Iterator[tuple[_Shown, _Said]]:
        """Each picture and its texts; where one of them breaks the model, the others are written about without it."""

        def texts(some: Sequence[_Shown]) -> list[list[str]]:
            keys = [[f"{uids[s.row].hex()}/{i}" for i in range(self.n)] for s in some]
            return self._writer().texts([s.given for s in some], self.how, keys)

        for s, of_picture, why in self._apart(part, texts):
            if of_picture is None:
                yield s, (None, f"caption: {one_line(str(why))[:200]}")
            else:
                yield s, _checked([one_line(text) for text in of_picture])


_Said = tuple[list[str | None] | None, str | None]
"""Texts of a picture, or why there are none."""


@dataclass(frozen=True)
class _Shown:
    """Number of a row, what the model is given of its picture, or why it is not."""

    row: int
    given: Any
    error: str | None


def _checked(texts: Sequence[str]) -> _Said:
    """An empty text is none."""
    if not any(texts):
        return None, "caption: the model says nothing about this picture"
    return [text or None for text in texts], None
