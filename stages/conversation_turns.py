"""Answers of a language model to turns of a conversation, checked.

turns("detail", "A dog sleeps on a mat.", rules, ask="Describe this picture.")
written(turns)                               # JSON, as LLaVA's data and `training_smoke.conversations` have it
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from stages.conversation_words import LEAKS, Kind
from stages.prompts import clean, without_special
from stages.rewriting import PREFACE, REFUSED

IMAGE = "<image>"
_FENCE = re.compile(r"^\s*```[a-z]*\s*\n?|\n?\s*```\s*$", re.IGNORECASE)
_LEAKS = re.compile(LEAKS, re.IGNORECASE)
_MARK = re.compile(r"<\s*image\s*>", re.IGNORECASE)
NAMES = (("question", "answer"), ("q", "a"), ("human", "gpt"), ("user", "assistant"))


class UnfitAnswer(ValueError):
    """An answer of which no conversation can be made; says why."""


@dataclass(frozen=True)
class Rules:
    """most: questions. longest: characters of a question or an answer. leaks: refuse words of `LEAKS`."""

    most: int = 8
    longest: int = 4096
    leaks: bool = False


Pair = tuple[str, str]


def turns(kind: Kind, answer: str, rules: Rules, ask: str) -> list[Pair]:
    """(question, answer) pairs, at least one.

    Args:
        answer: what the model said. ask: the question of a detailed description.

    Raises:
        UnfitAnswer: it is empty, too long, no JSON of pairs, refuses, or speaks of how it was made.
    """
    pairs = [(ask, _plain(answer))] if kind == "detail" else _pairs(answer)
    if kind == "reasoning":
        pairs = pairs[:1]
    checked = [(_said(q, rules), _said(a, rules)) for q, a in pairs[: rules.most]]
    if refused := next((a for _, a in checked if REFUSED.match(a)), None):
        raise UnfitAnswer(f"the model refuses: {refused[:80]}")
    if not checked:
        raise UnfitAnswer("the answer has no question in it")
    if not rules.leaks and (found := next((_LEAKS.search(t) for p in checked for t in p if _LEAKS.search(t)), None)):
        raise UnfitAnswer(f"the answer speaks of how it was made: {found[0]!r}")
    return checked


def written(pairs: list[Pair]) -> str:
    """The JSON list of turns; `<image>` stands once, before the first question."""
    said: list[dict[str, str]] = []
    for number, (question, answer) in enumerate(pairs):
        asked = question if number else f"{IMAGE}\n{question}"
        said += [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return json.dumps(said, ensure_ascii=False)


def _said(value: Any, rules: Rules) -> str:
    if not isinstance(value, str):
        raise UnfitAnswer("a question or an answer is no text")
    text = without_special(clean(value, rules.longest + 1, lines=True)).strip()
    while (less := _MARK.sub("", text)) != text:
        text = less.strip()  # what is left may be a mark again
    if not text:
        raise UnfitAnswer("a question or an answer is empty")
    if len(text) > rules.longest:
        raise UnfitAnswer(f"a question or an answer has more than {rules.longest:,} characters")
    return text


def _plain(answer: str) -> str:
    """A description, without the line that models put before it.

    Raises:
        UnfitAnswer: it is JSON.
    """
    lines = answer.strip().splitlines()
    while len(lines) > 1 and (PREFACE.match(lines[0].strip()) or not lines[0].strip()):
        lines = lines[1:]
    text = "\n".join(lines).strip()
    if text.startswith(("{", "[", "```")):
        raise UnfitAnswer("the answer is no description but JSON or code")
    return text


def _pairs(answer: str) -> list[tuple[Any, Any]]:
    """Of the JSON in an answer, whatever stands around it: {"turns": [...]}, a list of pairs, or LLaVA's turns."""
    found = _json(answer)
    if isinstance(found, dict):
        found = found.get("turns", found.get("conversations", [found]))
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UnfitAnswer("the answer is no JSON list of questions and answers")
    if found and all({"from", "value"} <= one.keys() for one in found):
        who = [one["from"] for one in found]
        if len(who) % 2 or who != ["human", "gpt"] * (len(who) // 2):
            raise UnfitAnswer("the answer has turns that do not alternate")
        return [(q["value"], a["value"]) for q, a in zip(found[::2], found[1::2], strict=True)]
    return [_pair(one) for one in found]


def _pair(one: dict[str, Any]) -> tuple[Any, Any]:
    names = next((names for names in NAMES if set(names) <= one.keys()), None)
    if names is None:
        raise UnfitAnswer("the answer has what is neither question nor answer")
    return one[names[0]], one[names[1]]


def _json(answer: str) -> Any:
    """The first JSON object or list in a text."""
    text = _FENCE.sub("", answer)
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if not starts:
        raise UnfitAnswer("the answer is no JSON")
    try:
        return json.JSONDecoder().raw_decode(text, min(starts))[0]
    except (ValueError, RecursionError) as e:
        raise UnfitAnswer(f"the answer is no JSON ({type(e).__name__})") from None
