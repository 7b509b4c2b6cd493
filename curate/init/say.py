"""What `curate init` says on the terminal: what it saw, in a few lines, and the commands that come next."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path

from curate.ask.output import visible
from curate.init.look import Seen
from curate.init.words import captions_words, examples, hosts_words, input_words, sizes_words

WIDTH = 100
LABEL = 12


def summary(seen: Seen, out: Path) -> str:
    """All of it, ready to print: no control character is left."""
    columns = ", ".join(f"{n} {t}".strip() for n, t in seen.sample.columns.items())
    lines = [f"looked at {input_words(seen)}"]
    lines += _labelled("columns", columns) if columns else []
    chosen = [f"{role}: {r.name}" for role, r in seen.roles.items() if r.name is not None]
    lines += _labelled("read as", ", ".join(chosen)) if chosen else []
    if seen.captions and seen.captions.full:
        lines += _labelled("captions", captions_words(seen.captions))
        lines += [line for e in examples(seen.captions) for line in _labelled("", e)]
    else:
        what = "all empty" if seen.captions else "none found"
        lines += _labelled("captions", f"{what}; a pick leaves out what has no text")
    lines += _labelled("hosts", hosts_words(seen.hosts)) if seen.hosts else []
    lines += _labelled("pictures", sizes_words(seen.sizes)) if seen.sizes else []
    lines += [line for c in seen.sample.complaints for line in _labelled("trouble", c)]
    return "\n".join([visible(lines[0]), *lines[1:], "", *_next(seen, out)])


def _labelled(label: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(visible(text), WIDTH - LABEL - 2, break_on_hyphens=False, max_lines=6, placeholder=" …")
    return [f"  {(label if i == 0 else ''):<{LABEL}}{line}" for i, line in enumerate(wrapped)]


def _next(seen: Seen, out: Path) -> list[str]:
    """The commands, and what must be said before the web is asked."""
    path = visible(shlex.quote(str(out)))
    run = f"curate run {path}"
    lines = [f"wrote {path}: commented, with defaults chosen after this. Next:", f"  curate plan {path}"]
    hosts = seen.hosts if seen.source.kind == "urls" else None
    if hosts is None:
        return [*lines, f"  {run}"]
    key = "allow_loopback" if hosts.loopback == hosts.taken else "contact"
    value = "true" if key == "allow_loopback" else "https://example.org/our-crawler"
    why = "the list is on this machine" if key == "allow_loopback" else "say who is fetching"
    line = 1 + out.read_text(encoding="utf-8").split("\n").index(f"  # {key}: {value}")
    return [*lines, f"  {run} --set ingest.{key}={value}", f"{' ' * 8}or, once for all, line {line} of it: {why}"]
