"""`curate show`: samples with their picture, texts and columns, where they came from and what filters said of them.

print_samples("pool", ["48026dc9"], recipe=None, out=None, as_json=False)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curate.ask.handle import Handle
from curate.ask.output import dump, visible
from curate.ask.samples import IN_POOL, LISTED, NO_IMAGE, REMOVED, TWINS, Fate, Found, Told, Verdict, find, stored, tell
from curate.errors import UserError
from curate.pool.layout import PIXELS

LONGEST = 2_000  # characters of a value on the terminal; --json has all
SHORT_VECTOR = 8  # numbers of a vector that are shown
TOP = ("text", "url", "source_id")  # facts that stand above all others


def print_samples(pool: str, uids: Sequence[str], *, recipe: str | None, out: Path | None, as_json: bool) -> None:
    """Print all that is known of some samples; with `out`, write their pictures and a page there as well.

    Args:
        uids: 32 hex digits each, or the first of them where they are unique; "-" reads more from standard input.
        recipe: say what became of them under this one alone, instead of under every pick of the pool.

    Raises:
        curate.errors.UserError: a uid is unknown or begins several, or there is no such pick.
    """
    handle = Handle(pool, recipe)
    words = [w for u in uids for w in (_read_words() if u == "-" else [u])]
    told = tell(handle, find(handle, words))
    if as_json:
        text = dump([as_plain(t) for t in told])
        print(visible(text) if sys.stdout.isatty() else text)
    else:
        for t in told:
            say(handle, t)
    if out is not None:
        from curate.ask.show_page import write_page

        pictures = write_page(handle, told, out)
        print(f"{pictures} of {len(told)} pictures and index.html are in {out}", file=sys.stderr)


def _read_words() -> list[str]:
    """Uids of standard input, as `curate sql ... --format csv` writes them, too."""
    words = sys.stdin.read().split()
    return words[1:] if words[:1] == ["uid"] else words


def say(handle: Handle, told: Told) -> None:
    """One sample on the terminal, with a small picture where it can show colours."""
    lines = list(lines_of(told))
    print("\n".join([lines[0], *_picture(handle, told), *lines[1:]]), end="\n\n")


def _picture(handle: Handle, told: Told) -> list[str]:
    from curate.ask.blocks import blocks, can_show

    if told.state != IN_POOL:
        return []
    try:
        picture = stored(handle.pool, Found(told.uid, told.state, told.shard, told.row))
    except UserError as e:
        return [f"  {visible(str(e))}"]
    return blocks(picture.data) if can_show(sys.stdout) else []


# ---------------------------------------------------------------- as text


def lines_of(told: Told) -> Iterator[str]:
    """A sample in words: what it is, its texts, its download, columns by folder, verdicts, duplicates."""
    if told.state == REMOVED:
        yield f"{told.uid}  removed: it was taken out of this pool, and nothing of it is shown"
        return
    place = f": shard {told.shard}, row {told.row}" if told.state == IN_POOL else f" (shard {told.shard})"
    yield f"{told.uid}  {told.state}{place}"
    yield from _top(told)
    yield from _fetch_lines(told)
    for folder, row in told.columns.items():
        rest = {k: v for k, v in row.items() if k not in (*TOP, "uid") and v is not None}
        if folder != "lists" and rest:
            yield f"  {visible(folder)}"
            yield from _named(rest)
    for fate in told.fates:
        yield from fate_lines(fate)
    for name, uids in told.twins.items():
        more = f" and {len(uids) - TWINS:,} more" if len(uids) > TWINS else ""
        said = ", ".join(uids[:TWINS]) + more if uids else "none but itself"
        yield f"  in one {visible(name)} with: {said}"


def _top(told: Told) -> Iterator[str]:
    known = told.facts or told.columns.get("lists", {}) or (told.fetches[-1] if told.fetches else {})
    for name in TOP:
        if known.get(name) is not None:
            yield f"    {name:<16} {shown(known[name])}"


def _fetch_lines(told: Told) -> Iterator[str]:
    if told.state == LISTED:
        yield "    it was listed, and no run has fetched it yet"
    elif not told.fetches:
        yield "    no download is noted: it came from files"
    for f in told.fetches:
        yield f"    {'fetched':<16} {visible(fetched(f))}"


def fetched(row: dict[str, Any]) -> str:
    """One attempt in words: ok, HTTP 200, 123,517 bytes, 15 ms, 2026-11-21 05:30:16 UTC."""
    parts = [row["outcome"]]
    parts += [f"HTTP {row['status']}"] if row["status"] is not None else []
    parts += [f"{row['bytes']:,} bytes"] if row["bytes"] is not None else []
    parts += [f"{row['elapsed_ms']:,} ms"] if row["elapsed_ms"] is not None else []
    parts += [f"{row['time']:%Y-%m-%d %H:%M:%S} UTC"] if row["time"] is not None else []
    parts += [f"attempt {row['attempt'] + 1}"] if row["attempt"] else []
    parts += [f"from {row['final_url']}"] if row["final_url"] not in (None, row["url"]) else []
    parts += [row["detail"]] if row["detail"] else []
    return ", ".join(str(p)[:LONGEST] for p in parts)


def fate_lines(fate: Fate) -> Iterator[str]:
    """A pick's decision, and what each of its filters said."""
    yield f"  pick {visible(fate.pick)}: {decision(fate)}"
    width = max((len(visible(v.id)) for v in fate.verdicts), default=0)
    for v in fate.verdicts:
        yield f"    {visible(v.id):<{width}}  {said_by(v)}"


def decision(fate: Fate) -> str:
    """kept, 1 copy; dropped by near (duplicate); or that the pick did not see it."""
    if fate.times is None:
        return "made before this shard was in the pool; run its recipe again"
    if fate.dropped_by is None:
        return f"kept, {fate.times} cop{'y' if fate.times == 1 else 'ies'}"
    return f"dropped by {visible(fate.dropped_by)}" + (f" ({visible(fate.reason)})" if fate.reason else "")


def said_by(verdict: Verdict) -> str:
    """keep; drop: too_small; or not asked. With what else the filter noted."""
    if verdict.keep is None:
        return "not asked"
    more = ", ".join(f"{visible(k)} {shown(v)}" for k, v in verdict.more.items())
    said = "keep" if verdict.keep else f"drop: {visible(verdict.reason or 'no reason given')}"
    return said + (f" ({more})" if more else "")


def _named(row: dict[str, Any]) -> Iterator[str]:
    width = max(16, *(len(visible(n)) for n in row))
    for name, value in row.items():
        yield f"    {visible(name):<{width}} {shown(value)}"


def shown(value: Any) -> str:
    """A value on one line, its hidden characters visible; a vector by its length and first numbers."""
    if isinstance(value, list) and len(value) > SHORT_VECTOR and all(isinstance(v, int | float) for v in value):
        first = ", ".join(f"{v:.4g}" for v in value[:SHORT_VECTOR])
        return f"[{first}, …] of {len(value)}"
    text = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else dump(value)
    cut = visible(text[:LONGEST])
    return cut + (f"… ({len(text):,} characters)" if len(text) > LONGEST else "")


# ---------------------------------------------------------------- as data


def as_plain(told: Told) -> dict[str, Any]:
    """A sample for --json: every value whole; of a removed one its uid and state alone."""
    if told.state == REMOVED:
        return {"uid": told.uid, "state": told.state}
    return asdict(told) | {"fates": [asdict(f) | {"decision": decision(f)} for f in told.fates]}


def folders_of(told: Told) -> Iterable[tuple[str, dict[str, Any]]]:
    """(folder, its columns), the facts first."""
    first = {PIXELS: told.columns[PIXELS]} if PIXELS in told.columns else {}
    return (first | told.columns).items()


__all__ = ["NO_IMAGE", "as_plain", "decision", "fetched", "folders_of", "lines_of", "print_samples", "said_by", "say"]
