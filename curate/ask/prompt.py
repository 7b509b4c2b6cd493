"""The line that a person types in the shell: history, colours, completion, and Enter that waits for `;`.

line = make_prompt(handle).prompt("pool> ")
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import completion_is_selected
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer

from curate.ask.output import FORMATS, visible
from curate.ask.statements import inside_quotes, is_complete
from curate.ask.types import quoted

if TYPE_CHECKING:
    from curate.ask.handle import Handle


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


KEYWORDS = _listed(
    "SELECT FROM WHERE GROUP BY ORDER LIMIT HAVING DISTINCT AS AND OR NOT IN IS NULL LIKE ILIKE BETWEEN CASE WHEN THEN "
    "ELSE END JOIN LEFT USING ON WITH UNION ALL DESC ASC NULLS LAST DESCRIBE SUMMARIZE EXPLAIN ANALYZE SHOW TABLES "
    "SAMPLE QUALIFY OVER PARTITION FILTER OFFSET VALUES CAST UNNEST"
)
FUNCTIONS = _listed(
    "count sum avg min max median mode quantile_cont stddev count_if any_value list histogram approx_count_distinct "
    "round abs floor least greatest length lower upper starts_with contains regexp_matches regexp_extract replace "
    "split_part coalesce nullif array_cosine_similarity array_distance clip_text format_bytes date_trunc row_number "
    "len strlen levenshtein hash random"
)
PLAIN = re.compile(r"[A-Za-z_]\w*")
WORD = re.compile(r'"[^"]*$|[\w.@]*$')


class SqlCompleter(Completer):
    """Words that may stand here.

    columns: view -> its columns. Those of views that the text names, before or after the cursor, come first; without
    one, those of all views.
    """

    def __init__(self, columns: Mapping[str, Iterable[str]], commands: Iterable[str]) -> None:
        self.columns = {view: [c for c in names if visible(c) == c] for view, names in columns.items()}
        self.commands = tuple(commands)
        self.reserved = {k.lower() for k in KEYWORDS}

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        before = document.text_before_cursor
        if before.lstrip().startswith("."):
            yield from self._of_command(before.lstrip())
            return
        word = (WORD.search(before) or [""])[0]
        if inside_quotes(before[: len(before) - len(word)]) or (not word.startswith('"') and inside_quotes(before)):
            return
        owner, dot, stem = word.rpartition(".")
        start = -len(stem if dot else word)
        typed = (stem if dot else word).lstrip('"').lower()
        seen: set[str] = set()
        for text, meta in self._words(document.text, owner.lower() if dot else None):
            bare = text.strip('"').lower()
            if bare.startswith(typed) and bare not in seen and (typed or complete_event.completion_requested):
                seen.add(bare)
                yield Completion(text, start, display_meta=meta)

    def _words(self, text: str, owner: str | None) -> Iterator[tuple[str, str]]:
        """(what is inserted, what it is), best first."""
        aliases = dict(self._aliases(text))
        if owner is not None:
            for column in self.columns.get(aliases.get(owner, owner), ()):
                yield self._named(column), "column"
            return
        named = [v for v in self.columns if re.search(rf"\b{v}\b", text, re.IGNORECASE)]
        for view in named or self.columns:
            for column in self.columns[view]:
                yield self._named(column), f"column of {view}"
        for view in self.columns:
            yield view, "view"
        for keyword in KEYWORDS:
            yield keyword, "keyword"
        for function in FUNCTIONS:
            yield function, "function"

    def _aliases(self, text: str) -> Iterator[tuple[str, str]]:
        """alias -> view, of `samples s` and `samples AS s`."""
        for view in self.columns:
            for m in re.finditer(rf"\b{view}\s+(?:as\s+)?(\w+)", text, re.IGNORECASE):
                if m[1].lower() not in self.reserved:
                    yield m[1].lower(), view

    def _named(self, column: str) -> str:
        return column if PLAIN.fullmatch(column) and column.lower() not in self.reserved else quoted(column)

    def _of_command(self, before: str) -> Iterator[Completion]:
        command, space, rest = before.partition(" ")
        if not space:
            choices: Iterable[str] = self.commands
            typed = command
        else:
            choices = {".format": FORMATS, ".columns": tuple(self.columns)}.get(command, ())
            typed = rest
        for choice in choices:
            if choice.startswith(typed):
                yield Completion(choice, -len(typed))


def history_file() -> Path:
    """Where a person's programs keep what they remember: never the pool."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "curate" / "sql_history"


def _history() -> History:
    path = history_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError as e:
        print(f"curate: no history is kept: {path}: {e.strerror}", file=sys.stderr)
        return InMemoryHistory()
    return FileHistory(str(path))


def _keys() -> KeyBindings:
    """Enter runs what is complete and else opens a new line; while a completion is chosen it takes that one."""
    keys = KeyBindings()

    @keys.add("enter", filter=~completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("enter", filter=completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.complete_state = None

    return keys


def make_prompt(handle: Handle, commands: Iterable[str]) -> Callable[[], str]:
    """A function that lets a person type one complete entry.

    Raises (by that function): KeyboardInterrupt on Ctrl-C, EOFError on Ctrl-D.
    """
    from pygments.lexers.sql import SqlLexer  # type: ignore[import-untyped]

    session: PromptSession[Any] = PromptSession(
        multiline=True,
        history=_history(),
        lexer=PygmentsLexer(SqlLexer),
        completer=SqlCompleter(handle.views(), commands),
        complete_while_typing=False,
        key_bindings=_keys(),
        prompt_continuation=lambda width, number, wrapped: "." * (width - 1) + " ",
        enable_open_in_editor=False,
    )
    return lambda: str(session.prompt("curate> "))
