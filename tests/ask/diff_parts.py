"""What the tests of `curate diff` share: hostile captions, pictures, and a strict look at a page."""

from __future__ import annotations

import io
from html.parser import HTMLParser

from PIL import Image

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</figcaption></figure></main><style>body{display:none}</style>",
    "&lt;b&gt; &amp;",
    "\u202egnp.exe\u202c \x1b[2J \x00",
    "x" * 1_000_000,
    "صورة لكلب يركض",
]
VOID = ("meta", "img", "wbr")


class Page(HTMLParser):
    """Tags, attributes and words of a page; fails where tags do not match."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def drawn(n: int) -> list[bytes]:
    """Small pictures, each of one colour."""
    found = []
    for i in range(n):
        sink = io.BytesIO()
        Image.new("RGB", (40, 30), ((i * 37) % 256, (i * 91) % 256, 128)).save(sink, "PNG")
        found.append(sink.getvalue())
    return found
