"""A small web with planted faults: pictures, a list of URLs with captions, and the truth, which no stage sees.

paths = build_web(Path("quickstart/web"), scenes=2000, port=8765)
with serve(paths.folder, 8765): ...
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

from curate.demo.draw import draw, encoded
from curate.demo.scenes import LANGUAGES, Scene, english, scene, translated
from curate.errors import UserError

# kind -> (share of the URLs, what must become of it: an outcome of the download, or the id of the filter that drops it)
PLANTED = {
    "exact copy": (0.05, "exact"),
    "near copy": (0.08, "near"),
    "swapped caption": (0.08, "matching"),
    "other language": (0.06, "english"),
    "no information": (0.04, "caption_length"),
    "tiny": (0.02, "image_size"),
    "very wide": (0.02, "image_size"),
    "blank": (0.015, "not_blank"),
    "cut off": (0.01, "truncated"),
    "page as image": (0.01, "not_image"),
    "gone": (0.015, "http_4xx"),
    "server error": (0.005, "http_5xx"),
    "never answers": (0.002, "timeout"),
}
CLEAN, KEPT = "clean", "kept"
SLEEP_S = 30.0
TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}

TRUTH = pa.schema([("url", pa.string()), ("kind", pa.string()), ("expected", pa.string()), ("scene", pa.int64())])


@dataclass(frozen=True)
class Web:
    """What was built: a folder to serve, the list that a recipe reads, and the truth beside it."""

    folder: Path
    list: Path
    truth: Path


@dataclass
class _Page:
    """One URL: what is served, and what the list says of it."""

    url: str
    text: str
    kind: str
    scene: int


class _Builder:
    def __init__(self, folder: Path, port: int, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.base = f"http://127.0.0.1:{port}"
        self.random = random.Random(f"{seed}:web")
        self.pages: list[_Page] = []
        self.answers: dict[str, dict[str, object]] = {}

    def add(self, kind: str, number: int, text: str, data: bytes, suffix: str = "jpg", status: int = 200) -> None:
        name = f"{len(self.pages):05d}.{suffix}"
        (self.folder / "files" / name).write_bytes(data)
        if status != 200:
            self.answers[name] = {"status": status}
        self.pages.append(_Page(f"{self.base}/{name}", text, kind, number))

    def clean(self, number: int) -> None:
        of = scene(number, self.seed)
        format, suffix = (("PNG", "png"), ("WEBP", "webp"))[number % 2] if number % 10 < 2 else ("JPEG", "jpg")
        self.add(CLEAN, number, english(of, number), encoded(draw(of), format), suffix)

    def plant(self, kind: str, number: int) -> None:
        """A faulty URL; copies are of clean scene `number`, other faults have scenes of their own."""
        of = scene(number, self.seed)
        make = {
            "exact copy": self._exact, "near copy": self._near, "swapped caption": self._swapped,
            "other language": self._language, "no information": self._uninformative, "tiny": self._tiny,
            "very wide": self._wide, "blank": self._blank, "cut off": self._cut, "page as image": self._page,
        }.get(kind, self._status)  # fmt: skip
        make(kind, number, of)

    def _exact(self, kind: str, number: int, of: Scene) -> None:
        source = next(p for p in self.pages if p.kind == CLEAN and p.scene == number)
        name = source.url.rsplit("/", 1)[1]
        data = (self.folder / "files" / name).read_bytes()
        self.add(kind, number, english(of, number + 1), data, name.rsplit(".", 1)[1])

    def _near(self, kind: str, number: int, of: Scene) -> None:
        picture = draw(of)
        way = len(self.pages) % 4
        if way == 0:
            self.add(kind, number, english(of, number + 2), encoded(picture, "JPEG", 45))
        elif way == 1:
            small = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3), Image.Resampling.LANCZOS)
            self.add(kind, number, english(of, number + 2), encoded(small))
        elif way == 2:
            self.add(kind, number, english(of, number + 2), encoded(picture, "WEBP", 60), "webp")
        else:
            self.add(kind, number, english(of, number + 2), encoded(picture.filter(ImageFilter.GaussianBlur(0.8))))

    def _swapped(self, kind: str, number: int, of: Scene) -> None:
        """The caption of another scene that shares no colour: false, not only less precise."""
        own = {g.colour for g in of.groups}
        others = (scene(number * 1000 + i, self.seed + 1) for i in range(1, 1000))
        other = next(s for s in others if not own & {g.colour for g in s.groups})
        self.add(kind, number, english(other, number), encoded(draw(of)))

    def _language(self, kind: str, number: int, of: Scene) -> None:
        self.add(kind, number, translated(of, LANGUAGES[number % len(LANGUAGES)]), encoded(draw(of)))

    def _uninformative(self, kind: str, number: int, of: Scene) -> None:
        text = (f"IMG_{number}.jpg", "Untitled", f"DSC{number:05d}", "View more")[number % 4]
        self.add(kind, number, text, encoded(draw(of)))

    def _tiny(self, kind: str, number: int, of: Scene) -> None:
        self.add(kind, number, english(of, number), encoded(draw(of).resize((48, 36))))

    def _wide(self, kind: str, number: int, of: Scene) -> None:
        picture = draw(of)
        self.add(kind, number, english(of, number), encoded(picture.crop((0, 100, picture.width, 170))))

    def _blank(self, kind: str, number: int, of: Scene) -> None:
        shade = self.random.randint(200, 255)
        # Blank pictures of the web are not one picture: their sizes differ.
        size = (300 + number % 50, 200 + number % 37)
        self.add(kind, number, english(of, number), encoded(Image.new("RGB", size, (shade,) * 3)))

    def _cut(self, kind: str, number: int, of: Scene) -> None:
        data = encoded(draw(of))
        self.add(kind, number, english(of, number), data[: len(data) // 2])

    def _page(self, kind: str, number: int, of: Scene) -> None:
        page = b"<!doctype html><title>Not found</title><p>The picture that you look for has moved."
        self.add(kind, number, english(of, number), page)

    def _status(self, kind: str, number: int, of: Scene) -> None:
        status = {"gone": (404, 410, 403)[number % 3], "server error": 500, "never answers": -1}[kind]
        self.add(kind, number, english(of, number), b"", status=status)


def build_web(folder: Path, scenes: int = 2000, port: int = 8765, seed: int = 0) -> Web:
    """Draw the pictures and write list and truth; the same again for the same arguments."""
    web = Web(folder, folder / "list.parquet", folder / "truth.parquet")
    settings = json.dumps({"scenes": scenes, "port": port, "seed": seed, "version": 1})
    stamp = folder / "built.json"
    if stamp.exists() and stamp.read_text() == settings:
        return web
    (folder / "files").mkdir(parents=True, exist_ok=True)
    builder = _Builder(folder, port, seed)
    counts = {kind: max(1, round(share * scenes)) for kind, (share, _) in PLANTED.items()}
    clean = scenes - sum(counts.values())
    for number in range(clean):
        builder.clean(number)
    originals = iter(builder.random.sample(range(clean), counts["exact copy"] + counts["near copy"]))
    fresh = iter(range(clean, 10 * scenes))
    for kind, count in counts.items():
        for _ in range(count):
            builder.plant(kind, next(originals if kind.endswith("copy") else fresh))
    _write(builder, web)
    stamp.write_text(settings)
    return web


def _write(builder: _Builder, web: Web) -> None:
    pages = list(builder.pages)
    builder.random.shuffle(pages)
    listed = {"url": [p.url for p in pages], "caption": [p.text for p in pages], "licence": ["CC0"] * len(pages)}
    pq.write_table(pa.table(listed), web.list)
    expected = {kind: what for kind, (_, what) in PLANTED.items()} | {CLEAN: KEPT}
    truth = {
        "url": [p.url for p in pages],
        "kind": [p.kind for p in pages],
        "expected": [expected[p.kind] for p in pages],
        "scene": [p.scene for p in pages],
    }
    pq.write_table(pa.table(truth, schema=TRUTH), web.truth)
    (web.folder / "answers.json").write_text(json.dumps(builder.answers))


@contextmanager
def serve(folder: Path, port: int) -> Iterator[str]:
    """Serve the folder on loopback while the block runs; gives the base URL.

    Raises:
        UserError: the port is taken.
    """
    answers = json.loads((folder / "answers.json").read_text())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            status = answers.get(name, {}).get("status", 200)
            path = folder / "files" / name
            if status == -1:
                time.sleep(SLEEP_S)
                self.close_connection = True
                return
            known = "/" not in name and path.is_file()
            data = path.read_bytes() if status == 200 and known else b"no"
            self.send_response(status if known else 404)
            self.send_header("Content-Type", TYPES.get(name.rsplit(".", 1)[-1], "text/html"))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Quiet: a run's own progress is what a person wants to see."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that went away (the one that waits for an answer that never comes) is part of the play."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    try:
        server = Server(("127.0.0.1", port), Handler)
    except OSError as e:
        raise UserError(f"port {port} of this machine is taken ({e.strerror}); choose another with --port") from e
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()
