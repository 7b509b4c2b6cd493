"""`curate sql POOL` without a query: a shell over the views of one pool.

shell(curate.open("pool"), "table")

On a terminal it has history, completion, colours and a pager; otherwise it runs the statements of standard input.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from curate.ask.handle import Handle
from curate.ask.output import FORMATS, print_result, table_text, visible
from curate.ask.questions import Question, questions
from curate.ask.sql import Result
from curate.ask.statements import is_blank, split
from curate.errors import UserError

FETCHED = 1_000  # rows of an answer that the shell fetches to show them as a table
POLL_S = 0.05
T = TypeVar("T")

COMMANDS = {
    ".help": "this, and ten questions about this pool",
    ".1": "run the first of them; .2 the second, and so on",
    ".views": "the views and how many columns they have",
    ".columns [VIEW]": "columns with their types; of samples, or of another view",
    ".show UID...": "a sample with its picture, all columns and what each filter said",
    ".format NAME": f"how answers are written: {', '.join(FORMATS)}",
    ".out FILE": "write the next answer to a file, in that format",
    ".quit": "leave; Ctrl-D does, too",
}


def shell(handle: Handle, format: str) -> None:
    """Talk with a person, or run what standard input has.

    Raises:
        UserError: no such format; or, where standard input is no terminal, the first statement that fails.
    """
    if format not in FORMATS:
        raise UserError(f"format {format!r}: it is one of {', '.join(FORMATS)}")
    if sys.stdin.isatty() and sys.stdout.isatty():
        Shell(handle, format).talk()
    else:
        Shell(handle, format).read(sys.stdin)


@dataclass
class Shell:
    """handle: the pool. format, out: how and where the next answer goes."""

    handle: Handle
    format: str
    out: Path | None = None
    talking: bool = field(default=False, init=False)

    @cached_property
    def questions(self) -> list[Question]:
        return questions(self.handle)

    # ------------------------------------------------------------ where entries come from

    def talk(self) -> None:
        """Until Ctrl-D or .quit. What fails is told, and the shell goes on."""
        from curate.ask.prompt import make_prompt

        self.talking = True
        commands = [c.split()[0] for c in COMMANDS if c != ".1"]
        ask = make_prompt(self.handle, commands)
        print(f"{self.handle.pool.storage}: .help shows commands and ten questions; end a query with ; and Enter")
        while True:
            try:
                entry = ask()
                if entry.strip() in (".quit", ".exit"):
                    return
                self.enter(entry)
            except KeyboardInterrupt:
                continue  # Ctrl-C at the prompt drops what was typed
            except EOFError:
                return
            except UserError as e:
                print(f"error: {visible(str(e), keep=chr(10))}", file=sys.stderr)
            except OSError as e:
                print(f"error: {e.filename or self.out}: {e.strerror}", file=sys.stderr)

    def read(self, stream: Iterable[str]) -> None:
        """Statements and dot commands as they come; the first that fails ends it."""
        waiting = ""
        for line in stream:
            if line.startswith(".") and is_blank(waiting):
                if line.strip() in (".quit", ".exit"):
                    return
                waiting = ""
                self.enter(line)
                continue
            done, waiting = split(waiting + line)
            for statement in done:
                self.run(statement)
        if not is_blank(waiting):
            self.run(waiting)

    def enter(self, entry: str) -> None:
        """One entry: a dot command, or statements of which the last may lack its `;`."""
        if entry.lstrip().startswith("."):
            self.command(entry.strip())
            return
        done, rest = split(entry)
        for statement in [*done, *([] if is_blank(rest) else [rest])]:
            self.run(statement)

    # ------------------------------------------------------------ answers

    def run(self, statement: str) -> None:
        """Ask, and write the answer where it should go.

        Raises:
            UserError: the query is refused, fails, or was cancelled.
        """
        began = time.perf_counter()
        out, self.out = self.out, None  # also after a query that fails, the next answer is shown again
        if out is not None:
            rows = self._cancellable(lambda: self._write_file(statement, out))
            print(f"{rows} written to {out} in {time.perf_counter() - began:.2f} s", file=sys.stderr)
        elif self.format == "table" and self.talking:
            table, whole = self._cancellable(lambda: first_rows(self.handle.sql(statement)))
            self._page(table_text(table, FETCHED, whole=whole, after=f", {time.perf_counter() - began:.2f} s"))
        else:
            self._cancellable(lambda: print_result(self.handle.sql(statement), self.format, sys.stdout.buffer))
            sys.stdout.buffer.flush()

    def _write_file(self, statement: str, out: Path) -> str:
        """Through a file beside it, so that a query that fails leaves an older file as it was."""
        part = out.with_name(f".{out.name}.part")
        try:
            with part.open("wb") as stream:
                print_result(self.handle.sql(statement), self.format, stream)
                size = stream.tell()
            os.replace(part, out)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        return f"{size:,} bytes"

    def _cancellable(self, work: Callable[[], T]) -> T:
        """Do it in a thread: Ctrl-C ends its query, and the shell stays."""
        sys.stdout.flush()
        cancelled = False
        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(work)
            while not future.done():
                try:
                    wait([future], POLL_S)
                    if cancelled:  # again and again: the query may only be about to begin
                        self.handle.interrupt()
                except KeyboardInterrupt:
                    cancelled = True
        if cancelled and not self.talking:
            raise KeyboardInterrupt
        if cancelled:
            raise UserError("cancelled")
        return future.result()

    def _page(self, text: str) -> None:
        """Print, or hand to the pager what is longer than the screen."""
        pager = os.environ.get("PAGER") or ("less -S" if shutil.which("less") else "")
        if not self.talking or not pager or text.count("\n") + 2 < shutil.get_terminal_size().lines:
            print(text)
            return
        before = signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl-C is the pager's while it runs
        try:
            given = {"LESSCHARSET": "utf-8", **os.environ}
            subprocess.run(pager, shell=True, input=f"{text}\n".encode(), check=False, env=given)
        finally:
            signal.signal(signal.SIGINT, before)

    # ------------------------------------------------------------ dot commands

    def command(self, line: str) -> None:
        """Raises: UserError for what is no command."""
        name, _, rest = line.partition(" ")
        rest = rest.strip().rstrip(";").strip()
        known: dict[str, Callable[[str], None]] = {
            ".help": self._help,
            ".views": self._views,
            ".columns": self._columns,
            ".format": self._format,
            ".out": self._out,
            ".show": self._show,
        }
        name = name.rstrip(";")
        if name[1:].isdecimal():
            self._ask(int(name[1:]))
        elif name in known:
            known[name](rest)
        else:
            raise UserError(f"{name} is no command; there are {', '.join(COMMANDS)}")

    def _help(self, rest: str) -> None:
        width = max(map(len, COMMANDS))
        lines = [f"  {c:<{width}}  {what}" for c, what in COMMANDS.items()]
        lines += ["", "Questions about this pool, run by their number:"]
        for number, q in enumerate(self.questions, 1):
            lines.append(f"  .{number:<3} {visible(q.title)}")
            lines += [f"       {visible(part)}" for part in q.sql.splitlines()]
        self._page("\n".join(lines))

    def _ask(self, number: int) -> None:
        if not 1 <= number <= len(self.questions):
            raise UserError(f"questions are .1 to .{len(self.questions)}; .help shows them")
        question = self.questions[number - 1]
        if self.talking:
            print(f"-- {visible(question.title)}\n{visible(question.sql, keep=chr(10))};")
        self.run(question.sql)

    def _views(self, rest: str) -> None:
        for view, columns in self.handle.views().items():
            print(f"  {view:<8}  {len(columns):>3} columns: {visible(', '.join(list(columns)[:6]))}, …")

    def _columns(self, rest: str) -> None:
        views = self.handle.views()
        view = rest or "samples"
        if view not in views:
            raise UserError(f"no view {view!r}; there are {', '.join(views)}")
        table = pa.table({"column": list(views[view]), "type": list(views[view].values())})
        self._page(table_text(table, table.num_rows))

    def _format(self, rest: str) -> None:
        if rest not in FORMATS:
            raise UserError(f"format {rest!r}: it is one of {', '.join(FORMATS)}; now {self.format}")
        self.format = rest

    def _out(self, rest: str) -> None:
        if not rest:
            raise UserError(".out needs a file; it takes the next answer")
        path = Path(rest).expanduser()
        if path.is_dir() or not path.parent.is_dir():
            raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'its folder is not there'}")
        self.out = path

    def _show(self, rest: str) -> None:
        from curate.ask.samples import find, tell
        from curate.ask.show import say

        if not rest:
            raise UserError(".show needs uids: 32 hex digits each, or the first of them")
        for told in self._cancellable(lambda: tell(self.handle, find(self.handle, rest.split()))):
            say(self.handle, told)


def first_rows(result: Result, limit: int = FETCHED) -> tuple[pa.Table, bool]:
    """(at most `limit` rows, whether these are all). Reads no further than it has to."""
    batches, rows = [], 0
    for batch in result.batches(limit + 1):
        batches.append(batch)
        rows += batch.num_rows
        if rows > limit:
            break
    return pa.Table.from_batches(batches).slice(0, limit), rows <= limit
