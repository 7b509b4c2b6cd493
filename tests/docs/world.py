"""What the documents take for granted: a list of URLs, a web that answers, tars, photos, a finished quickstart."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pyarrow.csv as pc
import pyarrow.parquet as pq

from curate.demo.draw import drawn_photos
from curate.demo.held_out import build_held_out
from curate.demo.serve import serve
from curate.demo.web import build_web

SCENES = 80


@contextmanager
def world(folder: Path, port: int) -> Iterator[Path]:
    """Files in `folder`, and a web on loopback while the block runs.

    urls.csv, urls.parquet (URL, TEXT, licence), more.csv (later URLs), photos.parquet (image, text), photos/ (files
    with captions beside), tars/*.tar, held_out/ (evaluation sets).
    """
    web = build_web(folder / ".web", SCENES, port=port)
    listed = pq.read_table(web.list).rename_columns(["URL", "TEXT", "licence"])
    pc.write_csv(listed.slice(0, 60), folder / "urls.csv")
    pq.write_table(listed.slice(0, 60), folder / "urls.parquet")
    pc.write_csv(listed.slice(50), folder / "more.csv")
    images, texts = drawn_photos(24, seed=7)
    _photos(folder, images, texts)
    build_held_out(folder / "held_out", 12)
    with serve(web.folder, port):
        yield folder


def _photos(folder: Path, images: list[bytes], texts: list[str]) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "text": texts}), folder / "photos.parquet")
    (folder / "photos").mkdir()
    (folder / "tars").mkdir()
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        (folder / "photos" / f"{number:04d}.jpg").write_bytes(image)
        (folder / "photos" / f"{number:04d}.txt").write_text(text)
    with tarfile.open(folder / "tars" / "00000.tar", "w") as tar:
        for number, (image, text) in enumerate(zip(images, texts, strict=True)):
            for suffix, data in (("jpg", image), ("txt", text.encode())):
                member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, BytesIO(data))
