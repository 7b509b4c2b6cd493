"""What a language model is asked to make of texts, and what of its answers is fit to be a caption.

    told = instruction("capsfusion", text="dog beach 2019", caption="a dog on sand")     # the prompt
    sentence('Here it is:\\n\\n"A dog on a beach in 2019."', ended=True)                    # A dog on a beach in 2019.

- laclip (Fan et al. 2023, arXiv:2305.20088): three pairs of captions as examples, then the text, as in
  `rewrite/llama_rewrite.py` of its code: "caption => rewritten" each. The web text stands on its own line, where it
  cannot be another example, since `stages.prompts.harmless` takes line ends and > from it.
- veclip (Lai et al. 2023, arXiv:2310.07699, 3.2): a caption of the picture and its web text in one short sentence; its
  words are from memory, [unverified].
- capsfusion (Yu et al. 2023, arXiv:2310.20550): the web text's knowledge in the caption's sentence; the words are those
  of its code (`capsfusion_inference.py`).

In the last two both texts stand in quotes, as JSON strings, which the published prompts do not have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from stages.prompts import clean, fill, harmless, placeholders

Task = Literal["laclip", "veclip", "capsfusion"]

LACLIP = "write image captions differently,"
PROMPTS: dict[Task, str] = {
    "laclip": LACLIP,
    "veclip": (
        "Rephrase the following two sentences into one short sentence while adhering to the provided instructions: "
        'place attributes before noun entities without introducing new meaning; do not start with "The image".\n\n'
        "1. {caption}\n2. {text}\n\nSentence:"
    ),
    "capsfusion": (
        "Please merge and refine the information from the two given sentences. Sentence 1 provides detailed real-world "
        "knowledge, yet it suffers from flaws in sentence structure and grammar. Sentence 2 exhibits nice sentence "
        "structure, but lacking in-depth real-world details and may contain false information. Please combine them "
        "into a new sentence, ensuring a well-structured sentence while retaining the detailed real-world information "
        "provided in Sentence 1. Avoid simply concatenating the sentences.\n\n"
        "Sentence 1: {text}\nSentence 2: {caption}\nNew Sentence:"
    ),
}
REFUSED = re.compile(
    r"^(?:i(?:['’]m| am) (?:sorry|unable|not able)\b|sorry,|as an ai\b|i (?:can(?:no|['’])t|am not able to|won['’]t) "
    r"(?:assist|help|provide|do|fulfil|create|generate|rewrite|comply|continue|write|answer)\b)",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^(?:=>|•|(?:[-*]|\d[.)])(?=\s)|"  # white space behind them: "3.5 mm" and "-5 degrees" begin captions
    r"(?:new|fused|combined|merged|rewritten|short|final)?\s*(?:sentence|caption)\s*(?:\d\s*)?:)\s*",
    re.IGNORECASE,
)
PREFACE = re.compile(r"^(?:here|sure|certainly|of course|okay|ok)\b.*:$", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}


class UnfitAnswer(ValueError):
    """An answer that is no caption, and why."""


def in_context(instruction: str, pairs: Sequence[tuple[str, str]], text: str, longest: int) -> str:
    """LaCLIP's prompt: the instruction, examples, and a line with the text that the model goes on."""
    lines = [f"{source} => {target}" for source, target in pairs]
    return "\n\n".join([instruction, *lines, f"{harmless(text, longest)} =>"])


def fused(prompt: str, text: str, caption: str | None, longest: int) -> str:
    """The prompt with both texts in its places, in quotes."""
    return fill(prompt, {"text": text, "caption": caption}, longest)


def checked(task: Task, prompt: str) -> str:
    """The prompt, if it is one for the task.

    Raises:
        ValueError: it lacks a place, or has one that nothing belongs in.
    """
    wanted, there = () if task == "laclip" else ("caption", "text"), placeholders(prompt)
    if task == "laclip" and there:
        raise ValueError("the prompt of task laclip is what stands before the examples: it has no places")
    if sorted(there) != sorted(wanted):
        raise ValueError(f"the prompt of task {task} has the places {{text}} and {{caption}}, each; not {list(there)}")
    return prompt


def sentence(answer: str, ended: bool) -> str:
    """The caption in an answer: its first line, without what models put around it: a preface, a label, quotes.

    Args:
        ended: the model had come to an end; else a last line counts as cut.

    Raises:
        UnfitAnswer: there is none, it is cut, or the model refuses.
    """
    lines = [" ".join(line.split()) for line in clean(answer, lines=True).split("\n") if line.strip()]
    while len(lines) > 1 and PREFACE.match(lines[0]):
        lines = lines[1:]
    line = _unquoted(_LABEL.sub("", lines[0])) if lines else ""
    if not any(c.isalnum() for c in line):
        raise UnfitAnswer("the answer has no letters")
    if REFUSED.match(line):
        raise UnfitAnswer(f"the model refuses: {line[:80]}")
    if not ended and len(lines) == 1 and not answer.endswith("\n"):
        raise UnfitAnswer("the answer is cut: let `max_tokens` be more")
    if "=>" in line:
        raise UnfitAnswer("the answer goes on with examples of its own")
    return line


def _unquoted(line: str) -> str:
    line = line.strip()
    while (
        len(line) > 1 and _QUOTES.get(line[0]) == line[-1] and line[0] not in line[1:-1] and line[-1] not in line[1:-1]
    ):
        line = line[1:-1].strip()
    return line
