"""What the tests of `curate diff` share: hostile captions."""

from __future__ import annotations

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</figcaption></figure></main><style>body{display:none}</style>",
    "&lt;b&gt; &amp;",
    "\u202egnp.exe\u202c \x1b[2J \x00",
    "x" * 1_000_000,
    "صورة لكلب يركض",
]
