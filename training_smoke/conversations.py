"""Conversations about a picture: turns, how a language model reads them, and which of its tokens are to be learned.

    chat = Chat(tokenizer, TEMPLATES["roles"])
    chat.encode([chat.template.rendered(conversation_of("Two dogs run .", questions=0.0))], context=32)
    # int64 [1, 2, 32]: numbers of tokens, and labels: the answers and their ends, IGNORED elsewhere

A text that is a JSON list of turns, `[{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]` as in LLaVA's
data, is a conversation; any other text is a caption, of which one is made: a request to describe and the caption, or
questions with their answers (`training_smoke.questions`). A system's turn before the others is dropped, and turns that
do not alternate are left out: nothing is learned of them, and they are counted (`Chat.left_out`). Texts come from the
web, of which one must neither stop a training, nor write its system prompt, nor teach a model to print JSON.
"""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import xxhash
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.objectives.caption import IGNORED
from training_smoke.questions import questions_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IMAGE = "<image>"
REQUEST = "describe the picture"
WHO = {"system": "system", "human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}


@dataclass(frozen=True)
class Turn:
    """said: without a mark of where the picture stands, which is always before the first human turn."""

    who: Literal["system", "human", "gpt"]
    said: str


# ------------------------------------------------------------------------------------------ from texts


def conversation_of(text: str, questions: float, most: int = 3) -> list[Turn]:
    """The conversation that a text of a sample is, or that is made of it: a function of the text. No turns, where those
    of the text do not alternate.

    Args:
        questions: the share of captions of which questions are made, at most `most` each; the others are asked for.
    """
    if (turns := turns_of(text)) is not None:
        return turns
    asked: list[tuple[str, str]] = []
    if xxhash.xxh3_64_intdigest(f"kind/{text}".encode()) < questions * 2**64:
        asked = questions_of(text)[:most]
    return [turn for q, a in asked or [(REQUEST, text)] for turn in (Turn("human", q), Turn("gpt", a))]


def turns_of(text: str) -> list[Turn] | None:
    """The turns of a JSON list of turns, each of a human's followed by an answer, without a system's before them; none
    where they do not alternate so: such a text is left out wherever conversations are read. None: it is no such list.
    """
    turns = listed_turns(text)
    if turns is None:
        return None
    said = turns[1:] if turns[0].who == "system" else turns
    alternate = all(turn.who == ("human", "gpt")[i % 2] for i, turn in enumerate(said))
    return said if alternate and len(said) % 2 == 0 else []


def listed_turns(text: str) -> list[Turn] | None:
    """The turns of a JSON list of turns, of whomever and in whatever order; None: the text is no such list."""
    if not text.lstrip().startswith("["):
        return None
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):  # the latter of thousands of brackets within each other
        return None
    if not listed or not all(map(_is_turn, listed)):
        return None
    return [Turn(WHO.get(one["from"], one["from"]), _said(one["value"])) for one in listed]


def _is_turn(one: Any) -> bool:
    return isinstance(one, dict) and all(isinstance(one.get(field), str) for field in ("from", "value"))


def _said(value: str) -> str:
    """Without the mark of the picture; half a character of UTF-16, which JSON can have, is no text."""
    return value.encode("utf-8", "replace").decode().replace(IMAGE, "").strip()


def caption_of(text: str) -> str | None:
    """What stage 1 learns to say of a picture: the text, or the first answer of a conversation. None: of turns that do
    not alternate there is nothing."""
    if (turns := turns_of(text)) is None:
        return text
    return next((turn.said for turn in turns if turn.who == "gpt"), None)


# ------------------------------------------------------------------------------------------ as a model reads it


@dataclass(frozen=True)
class Rendered:
    """text: all of it. learned: (start, end) in characters of what is learned."""

    text: str
    learned: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Template:
    """How turns are written; {} is what was said, {bos} the tokenizer's first token, {eos} its last.

    end: the token that ends an answer. specials: tokens that the tokenizer has to have beside <image>.
    """

    name: str
    start: str
    system: str
    no_system: str
    human: str
    image: str
    opens: str
    answer: str
    after: str
    end: str = "{eos}"
    specials: tuple[str, ...] = ()

    @property
    def default(self) -> str:
        """What stands where no system's turn does."""
        return self.system.replace("{}", self.no_system) if self.no_system else ""

    def bound(self, bos: str, eos: str) -> Template:
        """With the tokens of a tokenizer in place of {bos} and {eos}."""
        texts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.type == "str"}
        return dataclasses.replace(self, **{n: t.replace("{bos}", bos).replace("{eos}", eos) for n, t in texts.items()})

    def rendered(self, turns: Sequence[Turn]) -> Rendered:
        """A conversation; one that ends with a human's turn is opened for an answer."""
        said = self.start
        if turns[0].who != "system":
            said += self.default
        pictured, learned = False, []
        for turn in turns:
            if turn.who == "gpt":
                said += self.opens
                begin = len(said)
                said += self.answer.replace("{}", turn.said)
                learned.append((begin, len(said)))
                said += self.after
            elif turn.who == "human":
                said += self.human.replace("{}", turn.said if pictured else self.image + turn.said)
                pictured = True
            else:
                said += self.system.replace("{}", turn.said)
        return Rendered(said + self.opens * (turns[-1].who == "human"), tuple(learned))

    def plain(self, caption: str | None) -> Rendered:
        """The picture and then its caption, without a word of conversation: LLaVA-1.5's stage 1. None: up to its begin.

        LLaVA ends it with a line break, we with the token that ends an answer, so that it can be generated.
        """
        before = f"{self.start}{IMAGE}"
        if caption is None:
            return Rendered(before, ())
        whole = f"{before}{caption}{self.end}"
        return Rendered(whole, ((len(before), len(whole)),))

    def jinja(self) -> str:
        """The same as transformers' `chat_template`, of messages whose content is a string or a list of parts."""

        def put(said: str) -> str:
            return "{{ said(message) }}".join(f"{{{{ {part!r} }}}}" if part else "" for part in said.split("{}"))

        return (
            "{% macro said(message) %}{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
            f"{{% for part in message['content'] if part['type'] == 'image' %}}{put(self.image)}{{% endfor %}}"
            "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] | trim }}{% endfor %}"
            f"{{% endif %}}{{% endmacro %}}{put(self.start)}"
            f"{{% if messages[0]['role'] != 'system' %}}{put(self.default)}{{% endif %}}{{% for message in messages %}}"
            f"{{% if message['role'] == 'system' %}}{put(self.system)}"
            f"{{% elif message['role'] == 'user' %}}{put(self.human)}"
            f"{{% else %}}{put(self.opens + self.answer + self.after)}{{% endif %}}{{% endfor %}}"
            f"{{% if add_generation_prompt %}}{put(self.opens)}{{% endif %}}"
        )


TEMPLATES = {
    t.name: t
    for t in (
        # A token for each role: short, for vocabularies of our own.
        Template(
            "roles", "{bos}", "<system>{}", "", "<user>{}", IMAGE, "<assistant>", "{}{eos}", "",
            specials=("<system>", "<user>", "<assistant>"),
        ),
        # LLaVA-1.5's, of Vicuna.
        Template(
            "vicuna", "{bos}", "{} ",
            "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the human's questions.",
            "USER: {} ", f"{IMAGE}\n", "ASSISTANT:", " {}{eos}", "",
        ),
        # Qwen's and others'.
        Template(
            "chatml", "", "<|im_start|>system\n{}<|im_end|>\n", "You are a helpful assistant.",
            "<|im_start|>user\n{}<|im_end|>\n", f"{IMAGE}\n", "<|im_start|>assistant\n", "{}<|im_end|>", "\n",
            end="<|im_end|>", specials=("<|im_start|>", "<|im_end|>"),
        ),
    )
}  # fmt: skip


class Chat:
    """Conversations to tokens and back, by one tokenizer and one template.

    left_out: texts so far of which nothing is learned, as their turns do not alternate.

    Raises:
        TrainingError: the tokenizer lacks tokens of the template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, template: Template) -> None:
        self.tokenizer = tokenizer
        self.template = template.bound(tokenizer.bos_token or "", tokenizer.eos_token or "")
        self.image, self.end = self._number(IMAGE), self._number(self.template.end)
        for token in template.specials:
            self._number(token)
        specials = sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, specials)))
        self.left_out = 0

    def talk(self, turns: Sequence[Turn]) -> Rendered:
        """As `Template.rendered`; what reads like a special token in what was said is no token, and is taken out.

        No turns, as `conversation_of` has them of a text that is left out: a request without an answer, so that its
        sample keeps its place in the batch, and nothing is learned there.
        """
        if not turns:
            self._leave_out()
            turns = [Turn("human", REQUEST)]
        return self.template.rendered([Turn(turn.who, self._clean(turn.said)) for turn in turns])

    def plain(self, caption: str | None) -> Rendered:
        """As `Template.plain`, and as `talk`."""
        return self.template.plain(None if caption is None else self._clean(caption))

    def encode(self, texts: Sequence[Rendered], context: int) -> Tensor:
        """int64 [n, 2, context]: tokens, and labels: the token itself where it is learned, else IGNORED.

        Behind a text both rows have padding: the ending token, IGNORED. Of a longer text the first tokens.

        Raises:
            TrainingError: the picture has no place among them.
        """
        out = torch.empty(len(texts), 2, context, dtype=torch.int64)
        out[:, 0], out[:, 1] = self.end, IGNORED
        found = self.tokenizer([t.text for t in texts], add_special_tokens=False, return_offsets_mapping=True)
        for row, text, ids, places in zip(out, texts, found["input_ids"], found["offset_mapping"], strict=True):
            if self.image not in ids[:context]:
                raise TrainingError(
                    f"a context of {context} tokens has no place for the picture of the text {text.text!r:.120}, which "
                    f"has {len(ids)}: raise towers.context, or leave the sample out"
                )
            tokens = torch.tensor(ids[:context])
            learned = torch.tensor([any(a <= at < b for a, b in text.learned) for at, _ in places[:context]])
            row[0, : len(tokens)] = tokens
            row[1, : len(tokens)] = tokens.where(learned, IGNORED)
        return out

    @property
    def least(self) -> int:
        """Tokens of the shortest conversation that anything is learned of: a request, and a word in answer."""
        (tokens,) = self.prompts([self.talk([Turn("human", REQUEST), Turn("gpt", "a")])])
        return len(tokens)

    def prompts(self, texts: Sequence[Rendered]) -> list[Tensor]:
        """int64 [t] each: texts that a model goes on from."""
        found = self.tokenizer([t.text for t in texts], add_special_tokens=False)
        return [torch.tensor(ids) for ids in found["input_ids"]]

    def decode(self, tokens: Tensor) -> list[str]:
        """int64 [n, t], anything behind an ending token -> n texts."""
        rows = [row[: row.index(self.end)] if self.end in row else row for row in tokens.tolist()]
        return [text.strip() for text in self.tokenizer.batch_decode(rows, skip_special_tokens=True)]

    def _leave_out(self) -> None:
        """Told of the first, the tenth, the hundredth: a pack may have millions."""
        self.left_out += 1
        if str(self.left_out).strip("0") == "1":
            warnings.warn(
                f"texts of which nothing is learned, as their turns do not alternate between human and gpt: "
                f"{self.left_out:,} so far; `curate export-llava` leaves out the same",
                stacklevel=3,
            )

    def _clean(self, said: str) -> str:
        return self._special.sub(" ", said).strip()

    def _number(self, token: str) -> int:
        found = self.tokenizer.get_vocab().get(token)
        if found is None:
            raise TrainingError(f"template {self.template.name} needs a token {token!r}, which the tokenizer lacks")
        return int(found)
