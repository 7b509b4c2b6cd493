"""A strict look at a page, pictures to put on one, and what a browser is asked about its colours."""

from __future__ import annotations

import io
from html.parser import HTMLParser

from PIL import Image

VOID = {"meta", "img", "br", "link", "hr", "input", "wbr"}
CONTRAST = """
() => {
  const light = c => { const v = c / 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 };
  const parse = s => s.match(/[\\d.]+/g).map(Number);
  const lum = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0.99) return c } return [255, 255, 255] };
  const bad = [];
  const words = 'h1,h2,h3,h4,p,td,th,dt,dd,li,a,summary,figcaption,code,.ticks span,.cuts span';
  for (const e of document.querySelectorAll(words)) {
    if (!e.innerText || !e.checkVisibility()) continue;
    const [a, b] = [lum(parse(getComputedStyle(e).color)), lum(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.49) bad.push([e.tagName, e.className, e.innerText.slice(0, 30), ratio]);
  }
  return bad;
}
"""
"""Words that stand out too little from their ground, as JavaScript that lists them."""


class Page(HTMLParser):
    """Tags, attributes and visible text; complains where tags do not match."""

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

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def drawn(n: int, size: tuple[int, int] = (400, 300)) -> list[bytes]:
    """Small pictures, each of one colour."""
    found = []
    for i in range(n):
        sink = io.BytesIO()
        Image.new("RGB", size, ((i * 37) % 256, (i * 91) % 256, 128)).save(sink, "JPEG")
        found.append(sink.getvalue())
    return found
