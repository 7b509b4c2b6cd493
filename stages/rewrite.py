"""Texts written anew by a language model: rewrites (LaCLIP), web text and caption in one (VeCLIP, CapsFusion).

    stage = Rewrite(weights="models/llama-7b", n=4)              # four rewrites of the web text, one in each style

    captions:                                                    # in a recipe
      make:
        - rewrite: {weights: models/llama-7b, n: 4, name: laclip}
        - rewrite: {weights: models/capsfusion-13b, task: capsfusion, caption: coco, name: fused, max_tokens: 120}
        - endpoint_rewrite: {urls: [http://localhost:8000/v1], model: vicuna-13b, name: vecap, task: veclip,
                             caption: llava}

LaCLIP draws at temperature 0.9 from 0.95 of the probability, 77 tokens at most, three examples each from one of four
sets of pairs. VeCLIP leaves out failures and what is too long. See `stages.rewriting` for prompts and
`stages.rewrite_examples` for examples. A rewrite sees no picture: it may say what is not there, which scores of texts
are for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator, model_validator

from stages import hub_weights
from stages.base import ERROR, TEXT, UID, Batch, Column, Source, Stage
from stages.captioner_models import USED
from stages.clip_model import threads
from stages.endpoint import OfEndpoint
from stages.endpoint_client import Answer, Request
from stages.prompts import harmless
from stages.rewrite_examples import BUILT_IN, Captions, drawn, examples
from stages.rewriting import PROMPTS, Task, UnfitAnswer, checked, fused, in_context, sentence
from stages.strip_tags import texts_column
from stages.text_model import OfTextModel
from stages.text_source import has_lists
from stages.texts import TEXTS, offsets_of, retold, rows_of, several, texts_of
from training_smoke.sampling import Kind, Sampling

if TYPE_CHECKING:
    from stages.causal_writer import CausalWriter


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt: for text `item` of all of a batch (those of `n` rewrites of one text follow each other)."""

    item: int
    prompt: str
    key: str


class Rewriting(Stage):
    """Columns `<name>`, `<name>_prompt_tokens` and `<name>_completion_tokens` (int32; those of a sample together).

    `<name>` is a string for a column of strings and n = 1, else `stages.texts.TEXTS` with `name` as their source. A
    text that failed is null and `error` says why; one that had nothing to be written from is null without.

    task: laclip rewrites `text`; veclip and capsfusion put `text` (one a sample) and `caption` in one sentence.
    text, caption: columns; what is rewritten may have lists: list in, list of equal length out, with n = 1.
    prompt: in place of the task's own: for laclip the words before the examples, else with places {text} and {caption}.
    name: begins the names of the columns. seed: of the draws.
    n: rewrites of a text, each with draws (and examples) of its own; not for lists.
    examples: built-in sets of pairs (vivid, plain, seen, terse) or files of them; rewrite i uses set i, from the first
        again where there are more. shots: pairs in a prompt, drawn by (seed, uid).
    longest: characters of a text in the prompt. least_words, most_words: other answers are failures.
    """

    sparse: ClassVar[bool] = True
    version: ClassVar[int] = 1

    task: Task = "laclip"
    text: Source = TEXT
    caption: Source | None = None
    prompt: str | None = None
    name: str = Field(default="rewrite", pattern="^[a-z][a-z0-9_]{0,31}$")
    n: int = Field(default=1, ge=1, le=64)
    examples: tuple[str, ...] = Field(default=tuple(BUILT_IN), min_length=1)
    shots: int = Field(default=3, ge=1, le=32)
    longest: int = Field(default=500, ge=1, le=20_000)
    least_words: int = Field(default=2, ge=1)
    most_words: int = Field(default=60, ge=1)
    seed: int = 0

    @field_validator("examples")
    @classmethod
    def _absolute(cls, places: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(p if p in BUILT_IN else str(Path(p).expanduser().absolute()) for p in places)

    @model_validator(mode="after")
    def _of_one_piece(self) -> Rewriting:
        if (self.caption is None) != (self.task == "laclip"):
            raise ValueError(f"{self.method()}: task {self.task} and caption: laclip has none, the others need one")
        if self.n > 1 and has_lists(self.main):
            raise ValueError(f"{self.method()}: {self.main.field} has lists of texts: with them n is 1")
        if self.task != "laclip" and has_lists(self.text):
            raise ValueError(f"{self.method()}: {self.text.field} has lists of texts, which only `caption` may have")
        if self.least_words > self.most_words:
            raise ValueError(f"{self.method()}: least_words is above most_words")
        checked(self.task, self.told)
        return self

    @property
    def main(self) -> Column:
        """The column whose texts each become others."""
        return self.text if self.caption is None else self.caption

    @property
    def told(self) -> str:
        return self.prompt or PROMPTS[self.task]

    def files(self) -> tuple[str, ...]:
        """Files of examples.

        Raises:
            ValueError: one is missing, or what is wrong with it.
        """
        if self.task == "laclip":
            self._sets()
        return tuple(place for place in self.examples if self.task == "laclip" and place not in BUILT_IN)

    def identity(self) -> dict[str, Any]:
        """With the names of files in place of where they lie, and the words of the prompt."""
        found = super().identity()
        own = found["parameters"] | {"prompt": self.told}
        if self.task == "laclip":
            own["examples"] = [place if place in BUILT_IN else Path(place).name for place in self.examples]
        else:  # which they have no part in
            del own["examples"], own["shots"]
        return found | {"parameters": own}

    def reads(self) -> tuple[Column, ...]:
        return (self.text, *(() if self.caption is None else (self.caption,)), UID)

    def writes(self) -> pa.Schema:
        one = self.n == 1 and not has_lists(self.main)
        return pa.schema(
            [
                (self.name, pa.string() if one else TEXTS),
                (f"{self.name}_prompt_tokens", pa.int32()),
                (f"{self.name}_completion_tokens", pa.int32()),
            ]
        )

    def asks(self, batch: Batch) -> list[Ask]:
        """The prompts of a batch; texts with nothing in them have none."""
        texts, offsets = texts_of(texts_column(batch, self.main))
        web = texts if self.caption is None else texts_of(texts_column(batch, self.text))[0]
        sets = self._sets() if self.task == "laclip" else [()]
        found = []
        for row, uid in enumerate(uid.hex() for uid in batch[UID].to_pylist()):
            for place in range(int(offsets[row]), int(offsets[row + 1])):
                pair = (texts[place] or "", web[row if self.caption else place] or "")
                if not all(harmless(text, self.longest) for text in pair):
                    continue
                for number in range(self.n):
                    item, key = place * self.n + number, f"{uid}/{place - int(offsets[row]) + number}"
                    found.append(Ask(item, self._prompt(pair, sets[number % len(sets)], key), key))
        return found

    def _prompt(self, pair: tuple[str, str], pairs: Sequence[Captions], key: str) -> str:
        main, web = pair
        if self.task != "laclip":
            return fused(self.told, web, main, self.longest)
        return in_context(self.told, drawn(pairs, self.shots, f"{self.seed}/{key}"), main, self.longest)

    def _sets(self) -> list[tuple[Captions, ...]]:
        return [examples(place) for place in self.examples]

    def table(self, batch: Batch, asks: Sequence[Ask], answers: Sequence[Answer]) -> pa.Table:
        """The columns, from an answer to each prompt."""
        column = batch[self.main]
        offsets = offsets_of(column) * self.n
        texts: list[str | None] = [None] * int(offsets[-1])
        errors: list[str | None] = list(texts)
        counts: list[tuple[int | None, int | None]] = [(None, None)] * len(texts)
        for ask, answer in zip(asks, answers, strict=True):
            texts[ask.item], errors[ask.item] = self._settle(answer)
            counts[ask.item] = (answer.prompt_tokens, answer.completion_tokens)
        rows = rows_of(texts, offsets)
        made = (
            retold(column, texts, self.name)
            if self.n == 1
            else several([row if any(row) else None for row in rows], self.name)
        )
        tokens = [[_total(pair[i] for pair in row) for row in rows_of(counts, offsets)] for i in (0, 1)]
        failures = [self._failure(row) for row in rows_of(errors, offsets)]
        fields = [*list(self.writes())[:3], pa.field(ERROR, pa.string())]
        return pa.table([made, *tokens, failures], schema=pa.schema(fields))

    def _settle(self, answer: Answer) -> tuple[str | None, str | None]:
        """(the text, None) or (None, why there is none)."""
        if answer.text is None:
            return None, answer.error
        try:
            text = sentence(answer.text, answer.finish != "length")
        except UnfitAnswer as e:
            return None, f"{e}"
        words = len(text.split())
        if not self.least_words <= words <= self.most_words:
            return None, f"an answer of {words} words, {self.least_words} to {self.most_words} are wanted"
        return text, None

    def _failure(self, errors: Sequence[str | None]) -> str | None:
        lost = [error for error in errors if error is not None]
        if not lost:
            return None
        share = "" if len(errors) == 1 else f"{len(lost)} of {len(errors)}: "
        return f"{self.method()}: {share}{lost[0]}"


class Rewrite(Rewriting, OfTextModel):
    """`Rewriting` by a causal model of transformers, here.

    weights, batch, precision, device, cpus: as `perplexity` has them; batch is of prompts of about one length.
    chat: put the prompt in the tokenizer's chat template, as models that were taught by instructions want it; None:
        where there is one. Without it a text ends at its line's end.
    sampling, p, k, beams, temperature, max_tokens: how a text is drawn; draws hang on seed and uid alone.
    """

    kind: ClassVar[hub_weights.Kind] = "AutoModelForCausalLM"

    batch: int = Field(default=16, ge=1, le=4096)
    chat: bool | None = None
    sampling: Kind = "nucleus"
    p: float = Field(default=0.95, gt=0, le=1)
    k: int = Field(default=50, ge=1)
    beams: int = Field(default=3, ge=1, le=64)
    temperature: float = Field(default=0.9, gt=0)
    max_tokens: int = Field(default=77, ge=1, le=4096)
    _writer: CausalWriter | None = PrivateAttr(default=None)

    def files(self) -> tuple[str, ...]:
        """The model, its chat template, and files of examples.

        Raises:
            ValueError: they are not there, or not as they must be, and what to do.
        """
        model = OfTextModel.files(self)
        template = Path(model[0]).parent / "chat_template.jinja"
        return (*model, *((str(template),) if template.is_file() else ()), *Rewriting.files(self))

    def identity(self) -> dict[str, Any]:
        """Of sampling what its kind looks at; the seed where anything is drawn, examples among it."""
        found = super().identity()
        unused = {"p", "k", "beams", "temperature", "seed"} - USED.get(self.sampling, set())
        for name in unused - ({"seed"} if self.task == "laclip" else set()):
            del found["parameters"][name]
        return found

    def _work_gb(self) -> float:
        """Odds of all tokens, sorted, and keys and values of a few hundred tokens a row."""
        return 1 + self.batch * (30 * hub_weights.vocabulary(self.place) / 1e9 + 0.25)

    def _fits(self, model: Any, tokenizer: Any) -> None:
        if self.chat and not tokenizer.chat_template:
            raise ValueError(f"{self.weights} has no chat template: leave `chat` out")

    def writer(self) -> CausalWriter:
        """What writes, over the loaded model."""
        from stages.causal_writer import CausalWriter

        if self._writer is None:
            self._writer = CausalWriter(*self.ready(), chat=self.chat)
        return self._writer

    def run(self, batch: Batch) -> pa.Table:
        asks = self.asks(batch)
        how = Sampling(
            self.sampling,
            beams=self.beams,
            p=self.p,
            k=self.k,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
        )
        with threads(self.cpus):
            answers = self.writer().write([ask.prompt for ask in asks], [ask.key for ask in asks], how, self.batch)
        return self.table(batch, asks, answers)


class EndpointRewrite(Rewriting, OfEndpoint):
    """`Rewriting` by an OpenAI-compatible server; further column `<name>_cost` (float64).

    system: the system's words, if any.
    """

    p: float = Field(default=0.95, gt=0, le=1)
    temperature: float = Field(default=0.9, gt=0)
    system: str | None = None

    def writes(self) -> pa.Schema:
        return super().writes().append(pa.field(f"{self.name}_cost", pa.float64()))

    def requests(self, batch: Batch) -> list[Request]:
        return [Request(ask.prompt, None, ask.key, self.system) for ask in self.asks(batch)]

    def run(self, batch: Batch) -> pa.Table:
        table = self.table(batch, self.asks(batch), self.answers(batch))
        tokens = zip(table.column(1).to_pylist(), table.column(2).to_pylist(), strict=True)
        costs = pa.array([self.cost(*pair) for pair in tokens], pa.float64())
        return table.add_column(3, self.writes().field(3), costs)


def _total(counts: Iterable[int | None]) -> int | None:
    """The sum of those that are known; None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
