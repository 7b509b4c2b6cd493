"""What was seen, in words: for comments of the recipe and for the terminal. Nothing here is escaped yet."""

from __future__ import annotations

from curate.init.look import Captions, Hosts, Seen
from curate.init.pictures import Sizes

CUT = 100  # characters of a caption that are shown
SHOWN = 6  # languages


def percent(share: float) -> str:
    """Whole percents; what is neither none nor all is not called so."""
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"


def size_words(n: int) -> str:
    """Bytes with three digits."""
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.3g} {unit}" if unit != "bytes" else f"{n} bytes"
        n /= 1000  # type: ignore[assignment]
    raise AssertionError


def input_words(seen: Seen) -> str:
    """How much there is, and how much of it was looked at."""
    sample, files = seen.sample, len(seen.source.files)
    what = {"folder": "pictures", "webdataset": "samples"}.get(seen.source.kind, "rows")
    place = "" if seen.source.kind == "folder" else f" in {files:,} file{'s' * (files != 1)}"
    about = "" if sample.size.exact else "about "
    whole = f"{sample.rows} {what}{place}, {about}{size_words(sample.size.n)}"
    if sample.taken >= sample.rows.n:
        return f"all of {whole}"
    return f"{sample.taken:,} of {whole}" if sample.looked == files else (
        f"{sample.taken:,} from {sample.looked} files, of {whole}"
    )  # fmt: skip


def captions_words(found: Captions) -> str:
    words, chars = found.middle
    parts = [f"median {words} word{'s' * (words != 1)} and {chars} characters, the longest {found.chars[-1]:,}"]
    parts += [f"{percent(found.empty / max(1, found.taken))} empty"] if found.empty else ["none empty"]
    return f"{'; '.join(parts)}; languages {language_words(found)}"


def language_words(found: Captions) -> str:
    named = [(n, c) for n, c in found.languages.most_common() if n != "?"]
    shown = [(n, c) for n, c in named[:SHOWN] if c / found.full >= 0.01]
    parts = [f"{n} {percent(c / found.full)}" for n, c in shown]
    others = sum(c for _, c in named[len(shown) :])
    rest = len(named) - len(shown)
    parts += [f"{rest} other{'s' * (rest != 1)} {percent(others / found.full)}"] if others else []
    parts += [f"not sure {percent(found.share('?'))}"] if found.languages["?"] else []
    return ", ".join(parts)


def examples(found: Captions) -> list[str]:
    """Some captions, cut, in quotes."""
    return [f'"{e}"' if len(e) <= CUT else f'"{e[:CUT]}…"' for e in found.examples]


def hosts_words(found: Hosts) -> str:
    named = found.count.most_common(3)
    largest = ", ".join(f"{h[:80]} {percent(n / found.taken)}" for h, n in named)
    n = len(found.count)
    parts = [f"{n:,} in the sample" + (f", the largest {largest}" if n > 1 else f": {largest}" if n else "")]
    for count, what in (
        (found.loopback, "on this machine (loopback)"),
        (found.private, "at private addresses, which are never fetched from"),
        (found.other, "no http or https URL"),
    ):
        parts += [f"{percent(count / found.taken)} {what}"] if count else []
    return "; ".join(parts)


def sizes_words(found: Sizes) -> str:
    w, h = found.middle
    low, high = found.sides
    by = f"by columns {found.claims[0]!r} and {found.claims[1]!r}" if found.claims else "by their headers"
    unread = f"; {found.unread} more could not be read" if found.unread else ""
    n = len(found.pixels)
    return (
        f"median {w} x {h} pixels, shortest side {low}, longest {high:,}, {percent(found.narrower(3))} with an aspect "
        f"over 3 ({n:,} looked at, {by}{unread})"
    )
