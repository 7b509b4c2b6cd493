"""Markdown in which nothing that is quoted can end anything: tables, code spans, fenced blocks.

table(["pack", "samples"], [[code("a`b"), "12"]])
fenced(text, "yaml")
"""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as they are: what comes from elsewhere goes through `code` first."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def code(text: str, most: int = 200) -> str:
    """A code span of the first `most` characters, harmless in a table; of nothing, nothing.

    What is no character to be printed has to be made so before.
    """
    shown = text[:most].replace("|", "¦")
    if not shown:
        return ""
    fence = "`" * (1 + _longest_run(shown))
    pad = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def fenced(text: str, language: str) -> str:
    """A block of whole lines."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}{language}\n{text}\n{fence}\n"


def _longest_run(text: str) -> int:
    """Of backticks."""
    longest = run = 0
    for c in text:
        run = run + 1 if c == "`" else 0
        longest = max(longest, run)
    return longest
