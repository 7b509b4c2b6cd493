"""A small web with known truth: real photos, and faults planted among them, each with what must become of it.

rows = planted(shared_data)
with served(rows) as web:
    write_list(rows, web, "list.parquet")      # url, text, photo, weight; nothing of the truth
"""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.real.photos import Photo, encoded, photos
from tests.web import (
    Route,
    Web,
    drip,
    gzip_bomb,
    hang,
    hang_after,
    ok,
    raw,
    redirect,
    reset,
    says_length,
    status,
)

MAX_BYTES = 4_000_000
OURS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# What becomes of hostile files that Pillow alone does not take, and that do begin like a format of ours.
DAMAGED = {
    "0007_syntax_num_frames_zero_default.png": "ok",  # a broken animation around a whole picture
    "0064_sugarshack_bad_mpo_header.jpg": "ok",  # the same
    "0066_syntax_num_frames_invalid.png": "ok",  # the same
    "0017_zero_width.gif": "decode_error",
    "0019_badwidth.bmp": "bomb",  # 274,877,898,816 pixels
    "0021_truncated_image.png": "truncated",
    "0026_crash-4f085cc12ece8cde18758d42608bed6a2a2cfb1c.tif": "decode_error",
    "0028_badheadersize.bmp": "decode_error",
    "0029_crash-86214e58da443d2b80820cff9677a38a33dcbbca.tif": "decode_error",
    "0040_timeout-6646305047838720": "truncated",
    "0045_oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "decode_error",
    "0051_crash-0c7e0e8e11ce787078f00b5b0ca409a167f070e0.tif": "decode_error",
    "0056_badpalettesize.bmp": "decode_error",
    "0057_crash-1185209cf7655b5aed8ae5e77784dfdd18ab59e9.tif": "decode_error",
    "0061_crash-63b1dffefc8c075ddc606c0a2f5fdc15ece78863.tif": "decode_error",
    "0065_badbitcount.bmp": "decode_error",
    "0081_rgba16-4444.bmp": "decode_error",
    "0231_chunk_no_fctl.png": "decode_error",
    "0251_rgb16-231.bmp": "decode_error",
}


@dataclass(frozen=True)
class Row:
    """One row of the list, and what must become of it.

    kind: why it is there. photo: key of the picture, carried along as a further column. image: bytes that the server
    gives where it gives a picture. outcome, status: of its fetch. why: (filter, reason) that must drop it first;
    None where the row is a good one, and only its own content decides.
    """

    kind: str
    path: str  # on the server; or a whole address elsewhere
    text: str
    photo: str
    route: Route | None = None
    image: bytes | None = None
    outcome: str = "ok"
    status: int | None = 200
    why: tuple[str, str] | None = None

    def url(self, web: Web) -> str:
        return self.path if "://" in self.path else web.url(self.path)

    def uid(self, web: Web) -> str:
        """The rule of the design: md5 over text and url."""
        return hashlib.md5((self.text + self.url(web)).encode()).hexdigest()


def planted(data: Path) -> list[Row]:
    """About 1,150 rows, in an order that spreads the faults; what is slow stands together, in the first hundred."""
    chosen = photos(data)
    good = [_row("photo", p, f"/photo/{i}.jpg", p.image, i) for i, p in enumerate(chosen)]
    flickr = [p for p in chosen if p.source == "flickr8k"]
    faults = [*copies(flickr), *foreign(flickr[100:130]), *shapes(flickr[130:]), *broken(flickr[150:]), *hostile(data)]
    rows = [*good, *faults]
    random.Random(11).shuffle(rows)
    slow = [r for r in rows if r.outcome == "timeout"]
    rest = [r for r in rows if r.outcome != "timeout"]
    return [*rest[:50], *slow, *rest[50:]]


def _row(kind: str, photo: Photo, path: str, image: bytes, caption: int = 0, why: tuple[str, str] | None = None) -> Row:
    text = photo.captions[caption % len(photo.captions)]
    return Row(kind, path, text, photo.key, ok(image, "image/jpeg"), image, why=why)


def copies(flickr: list[Photo]) -> Iterator[Row]:
    """The same bytes under another address; the same picture in other bytes; the same picture re-hosted by others."""
    for i, p in enumerate(flickr[:30]):
        yield _row("same bytes", p, f"/mirror/{i}.jpg?size=large&v={i}", p.image, i + 1)
    for i, p in enumerate(flickr[30:60]):
        image = p.open()
        half = image.resize((image.width * 6 // 10, image.height * 6 // 10), Image.Resampling.LANCZOS)
        again = (
            encoded(image, "JPEG", quality=40),
            encoded(image, "WEBP", quality=60),
            encoded(image, "PNG"),
            encoded(half, "JPEG", quality=80),
        )[i % 4]
        yield _row("encoded again", p, f"/again/{i}", again, i + 2)
    for i, p in enumerate(p for p in flickr if p.rehosted):
        assert p.rehosted is not None
        yield _row("re-hosted", p, f"/elsewhere/{i}.jpg", p.rehosted, i + 3)


def foreign(flickr: list[Photo]) -> Iterator[Row]:
    """The photo once more, with a caption that people wrote in Chinese and in Arabic."""
    for i, p in enumerate(flickr):
        for name, texts in (("zh", p.chinese), ("ar", p.arabic)):
            text = max(texts, key=len)
            row = _row(f"caption in {name}", p, f"/{name}/{i}.jpg", p.image, why=("language", "language"))
            yield Row(**{**row.__dict__, "text": text})


def shapes(flickr: list[Photo]) -> Iterator[Row]:
    """Too small, by one side or both, and five times as wide as high, or as high as wide."""
    sizes = [(40, 40), (63, 200), (200, 63), (1, 1), (500, 100), (100, 500), (640, 128), (350, 70)]
    for i, (size, p) in enumerate(zip(sizes, flickr, strict=False)):
        image = encoded(p.open().resize(size), ("JPEG", "PNG", "WEBP")[i % 3])
        reason = "min_side" if min(size) < 64 else "max_aspect"
        yield _row("shape", p, f"/shape/{i}", image, why=("image_size", reason))
    pixel = encoded(Image.new("P", (1, 1)), "GIF")  # what trackers and dead hosts give
    yield _row("shape", flickr[8], "/shape/pixel.gif", pixel, why=("image_size", "min_side"))


def broken(flickr: list[Photo]) -> Iterator[Row]:
    """Dead links, pages in place of pictures, and servers that misbehave."""
    data = flickr[0].image
    page = b"<!doctype html><html><body>Sorry, this picture is gone.</body></html>"
    cases: list[tuple[str, Route, str, int | None]] = [
        *((f"/{code}/{i}.jpg", status(code), "http_4xx", code) for code in (403, 404, 410) for i in range(5)),
        *((f"/{code}/{i}.jpg", status(code), "http_5xx", code) for code in (500, 503) for i in range(4)),
        ("/429.jpg", status(429), "http_429", 429),
        *((f"/html/{i}.jpg", ok(page, "image/jpeg"), "not_image", 200) for i in range(8)),
        ("/html/honest", ok(page, "text/html; charset=utf-8"), "not_image", 200),
        ("/empty.jpg", ok(b""), "not_image", 200),
        ("/cut.jpg", ok(data[:-900]), "truncated", 200),
        ("/short.jpg", says_length(data[:-900], len(data)), "truncated", 200),
        ("/hang/0.jpg", hang, "timeout", None),
        ("/hang/1.jpg", hang_after(data[:2000]), "timeout", 200),
        ("/drip.jpg", drip(data, 20), "timeout", 200),
        ("/reset.jpg", reset(b""), "connect", None),
        ("/garbage", raw(b"\0\1\2\3 no HTTP at all\r\n\r\n"), "connect", None),
        ("/loop", redirect("/loop"), "too_many_redirects", 302),
        ("/to-disk", redirect("file:///etc/passwd"), "blocked_address", 302),
        ("/bomb.jpg", gzip_bomb(2 * MAX_BYTES), "too_big", 200),
        ("/large.jpg", ok(bytes(MAX_BYTES + 1)), "too_big", 200),
        ("http://169.254.169.254/latest/meta-data", status(200), "blocked_address", None),
        ("http://10.0.0.1/inside.jpg", status(200), "blocked_address", None),
        ("ftp://127.0.0.1/photo.jpg", status(200), "blocked_address", None),
    ]
    for i, (path, route, outcome, code) in enumerate(cases):
        p = flickr[i]
        yield Row("broken", path, p.captions[0], p.key, route, None, outcome, code)
    moved = Row("moved", "/moved.jpg", flickr[0].captions[1], flickr[0].key, redirect("/moved/to.jpg", 301), data)
    yield moved


def hostile(data: Path) -> Iterator[Row]:
    """Every hostile and every odd picture, under its own name, which is also all that its caption says."""
    lines = (data / "hostile/manifest.jsonl").read_text().splitlines()
    known = {entry["file"]: entry["pillow"] for entry in map(json.loads, lines)}
    with tarfile.open(data / "hostile/hostile_images.tar") as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            image, outcome = file.read(), hostile_outcome(member.name, known[member.name])
            yield Row(
                "hostile",
                f"/hostile/{member.name}",
                member.name,
                f"hostile/{member.name}",
                ok(image, "image/jpeg"),
                image,
                outcome,
            )


def hostile_outcome(name: str, pillow: dict[str, str]) -> str:
    """Formats of ours that Pillow decodes are pictures; other formats are none; the rest is named above."""
    if name in DAMAGED:
        return DAMAGED[name]
    return "ok" if pillow["outcome"] == "ok" and pillow["format"] in OURS else "not_image"


@contextmanager
def served(rows: list[Row]) -> Iterator[Web]:
    """The web that these rows point to, on loopback."""
    with Web({r.path: r.route for r in rows if r.route is not None and r.path.startswith("/")}) as web:
        web.routes["/moved/to.jpg"] = next(ok(r.image) for r in rows if r.kind == "moved" and r.image)
        yield web


def write_list(rows: list[Row], web: Web, path: Path) -> None:
    """The list as a user would have it; the first good row stands in it twice."""
    table = pa.table(
        {
            "url": [r.url(web) for r in rows],
            "text": [r.text for r in rows],
            "photo": [r.photo for r in rows],
            "weight": pa.array([i / 7 for i in range(len(rows))], pa.float64()),
        }
    )
    first = next(i for i, r in enumerate(rows) if r.kind == "photo")
    pq.write_table(pa.concat_tables([table, table.slice(first, 1)]), path)
