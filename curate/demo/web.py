"""A small web with planted faults: pictures, a list of URLs with captions, and the truth, which no stage sees.

web = build_web(Path("quickstart/web"), scenes=2000, seed=0, port=8765)
with serve(web.folder, 8765): ...              # curate.demo.serve
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageFilter, ImageOps

from curate.demo.draw import draw, encoded
from curate.demo.scenes import Scene, english, scene
from curate.demo.serve import Answer
from curate.demo.tongues import LANGUAGES, translated
from curate.errors import UserError

VERSION = 2  # of pictures and faults: a folder with an earlier web is refused, as its pool would mix both

# kind -> (share of the URLs, fates that are right: an outcome of the download, or "<filter's id>: <its reason>")
PLANTED: dict[str, tuple[float, tuple[str, ...]]] = {
    "exact copy": (0.05, ("exact: duplicate",)),
    "near copy": (0.08, ("near: duplicate",)),
    "swapped caption": (0.08, ("matching: where",)),
    "other language": (0.06, ("english: language",)),
    # No order of the two filters finds all: IMG_1.jpg is not English to fastText, and Chinese has no spaces.
    "no information": (0.04, ("caption_length: min_words", "english: language")),
    "tiny": (0.02, ("image_size: min_side",)),
    "five to one": (0.02, ("image_size: max_aspect",)),
    "blank": (0.015, ("not_blank: where",)),
    "cut off": (0.01, ("truncated",)),
    "page as image": (0.01, ("not_image",)),
    "gone": (0.015, ("http_4xx",)),
    "server error": (0.005, ("http_5xx",)),
    "never answers": (0.002, ("timeout",)),
}
CLEAN, KEPT = "clean", "kept"
COPIES = ("exact copy", "near copy")

TRUTH = pa.schema(
    [
        ("url", pa.string()),
        ("text", pa.string()),  # url and text make the uid
        ("kind", pa.string()),  # of PLANTED, or CLEAN
        ("expected", pa.list_(pa.string())),  # fates that are right
        ("scene", pa.int64()),  # equal for a clean picture and its copies
        ("copy_of", pa.string()),  # url of the clean picture that this one copies
    ]
)


@dataclass(frozen=True)
class Web:
    """What was built: a folder to serve, the list that a recipe reads, and the truth beside it."""

    folder: Path
    list: Path
    truth: Path


@dataclass(frozen=True)
class _Page:
    """One URL: what the list says of it, and what it is in truth."""

    url: str
    text: str
    kind: str
    scene: int
    copy_of: str | None = None


def build_web(folder: Path, scenes: int = 2000, seed: int = 0, port: int = 8765) -> Web:
    """Draw the pictures of `scenes` URLs and write list (url, caption, licence) and truth (TRUTH).

    The same arguments give the same bytes, and are not drawn again. URLs name the port, so another port means other
    uids.

    Raises:
        UserError: the folder holds a web of other settings.
    """
    web = Web(folder, folder / "list.parquet", folder / "truth.parquet")
    settings = json.dumps({"scenes": scenes, "seed": seed, "port": port, "version": VERSION})
    stamp = folder / "built.json"
    if stamp.exists():
        if stamp.read_text() != settings:
            raise UserError(
                f"{folder} holds a web of other settings: {stamp.read_text()}, now asked for: {settings}; "
                "choose another --folder, or delete this web and the pool that was made from it"
            )
        return web
    (folder / "files").mkdir(parents=True, exist_ok=True)
    builder = _Builder(folder, port, seed)
    counts = {kind: max(1, round(share * scenes)) for kind, (share, _) in PLANTED.items()}
    builder.clean(range(scenes - sum(counts.values())))
    for kind, count in counts.items():
        builder.plant(kind, count)
    _write(builder, web)
    stamp.write_text(settings)
    return web


def _write(builder: _Builder, web: Web) -> None:
    pages = list(builder.pages)
    builder.random.shuffle(pages)
    listed = {"url": [p.url for p in pages], "caption": [p.text for p in pages], "licence": ["CC0"] * len(pages)}
    pq.write_table(pa.table(listed), web.list)
    expected = {kind: list(fates) for kind, (_, fates) in PLANTED.items()} | {CLEAN: [KEPT]}
    truth = [{**asdict(p), "expected": expected[p.kind]} for p in pages]
    pq.write_table(pa.Table.from_pylist(truth, schema=TRUTH), web.truth)
    answers = {name: asdict(a) for name, a in builder.answers.items()}
    (web.folder / "answers.json").write_text(json.dumps(answers))


class _Builder:
    """Pages drawn so far. Clean pictures have scenes 0, 1, ...; a fault that is no copy has a scene of its own."""

    def __init__(self, folder: Path, port: int, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.base = f"http://127.0.0.1:{port}"
        self.random = random.Random(f"{seed}:web")
        self.pages: list[_Page] = []
        self.answers: dict[str, Answer] = {}
        self.originals: list[_Page] = []  # clean pages that are not copied yet, shuffled

    def add(
        self, page: tuple[str, int, str], data: bytes, suffix: str = "jpg", *,
        answer: Answer | None = None, copy_of: str | None = None,
    ) -> None:  # fmt: skip
        kind, number, text = page
        name = f"{len(self.pages):05d}.{suffix}"
        (self.folder / "files" / name).write_bytes(data)
        if answer is not None:
            self.answers[name] = answer
        self.pages.append(_Page(f"{self.base}/{name}", text, kind, number, copy_of))

    def clean(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            of = scene(number, self.seed)
            format, suffix = {0: ("PNG", "png"), 1: ("WEBP", "webp")}.get(number % 10, ("JPEG", "jpg"))
            self.add((CLEAN, number, english(of, number)), encoded(draw(of), format), suffix)
        self.originals = self.random.sample(self.pages, len(self.pages))
        self.next = len(self.pages)

    def plant(self, kind: str, count: int) -> None:
        make = {
            "exact copy": self._exact, "near copy": self._near, "swapped caption": self._swapped,
            "other language": self._language, "no information": self._uninformative, "tiny": self._tiny,
            "five to one": self._long, "blank": self._blank, "cut off": self._cut, "page as image": self._page,
            "gone": self._gone, "server error": self._error, "never answers": self._silent,
        }[kind]  # fmt: skip
        for way in range(count):
            if kind in COPIES:
                original = self.originals.pop()
                number = original.scene
            else:
                number, self.next = self.next, self.next + 1
            make(kind, number, scene(number, self.seed), way)

    def _file_of(self, url: str) -> Path:
        return self.folder / "files" / url.rsplit("/", 1)[1]

    # ---- copies: what the list says of them is true, in other words

    def _exact(self, kind: str, number: int, of: Scene, way: int) -> None:
        original = self.pages[number]
        file = self._file_of(original.url)
        page = (kind, number, english(of, number + 1))
        self.add(page, file.read_bytes(), file.suffix[1:], copy_of=original.url)

    def _near(self, kind: str, number: int, of: Scene, way: int) -> None:
        picture = draw(of)
        smaller, larger = ((picture.width * n // 4, picture.height * n // 4) for n in (3, 5))
        makes = (
            lambda: (encoded(picture, "JPEG", 45), "jpg"),
            lambda: (encoded(picture.resize(smaller, Image.Resampling.LANCZOS)), "jpg"),
            lambda: (encoded(picture, "WEBP", 60), "webp"),
            lambda: (encoded(picture.filter(ImageFilter.GaussianBlur(0.8))), "jpg"),
            lambda: (encoded(picture.resize(larger, Image.Resampling.BICUBIC), "JPEG", 80), "jpg"),
            lambda: (encoded(picture.point([round(24 + v * 0.88) for v in range(256)] * 3)), "jpg"),  # faded
        )
        data, suffix = makes[way % len(makes)]()
        self.add((kind, number, english(of, number + 2)), data, suffix, copy_of=self.pages[number].url)

    # ---- captions

    def _swapped(self, kind: str, number: int, of: Scene, way: int) -> None:
        """The caption of another scene of this web; every second one is hard, it shares one colour."""
        own, shared = _colours(of), way % 2 if len(of.groups) > 1 else 0
        others = (scene(self.random.randrange(number), self.seed) for _ in iter(int, 1))
        other = next(s for s in others if len(own & _colours(s)) == shared and _colours(s) - own)
        self.add((kind, number, english(other, number)), encoded(draw(of)))

    def _language(self, kind: str, number: int, of: Scene, way: int) -> None:
        text = translated(of, LANGUAGES[way % len(LANGUAGES)], way // len(LANGUAGES))
        self.add((kind, number, text), encoded(draw(of)))

    def _uninformative(self, kind: str, number: int, of: Scene, way: int) -> None:
        texts = (f"IMG_{number}.jpg", "Untitled", f"DSC{number:05d}", "View more", f"Picture {number}", "image")
        self.add((kind, number, texts[way % len(texts)]), encoded(draw(of)))

    # ---- pictures

    def _tiny(self, kind: str, number: int, of: Scene, way: int) -> None:
        picture = draw(of)
        picture.thumbnail((56, 56))
        self.add((kind, number, english(of, number)), encoded(picture))

    def _long(self, kind: str, number: int, of: Scene, way: int) -> None:
        size = (400, 80) if way % 2 == 0 else (80, 400)
        self.add((kind, number, english(of, number)), encoded(ImageOps.fit(draw(of), size)))

    def _blank(self, kind: str, number: int, of: Scene, way: int) -> None:
        """One colour; the blank pictures of the web are not one picture, so sizes and shades differ."""
        size = (300 + number % 50, 200 + number % 37)
        shade = tuple(self.random.randint(180, 255) for _ in range(3))
        self.add((kind, number, english(of, number)), encoded(Image.new("RGB", size, shade)))

    def _cut(self, kind: str, number: int, of: Scene, way: int) -> None:
        data = encoded(draw(of))
        self.add((kind, number, english(of, number)), data[: len(data) // 2])

    # ---- answers

    def _page(self, kind: str, number: int, of: Scene, way: int) -> None:
        html = b"<!doctype html><title>Moved</title><p>The picture that you look for has moved."
        answer = Answer(type="text/html" if way % 2 else "image/jpeg")
        self.add((kind, number, english(of, number)), html, answer=answer)

    def _gone(self, kind: str, number: int, of: Scene, way: int) -> None:
        self.add((kind, number, english(of, number)), b"gone", answer=Answer(status=(404, 410, 403)[way % 3]))

    def _error(self, kind: str, number: int, of: Scene, way: int) -> None:
        self.add((kind, number, english(of, number)), b"sorry", answer=Answer(status=(500, 503)[way % 2]))

    def _silent(self, kind: str, number: int, of: Scene, way: int) -> None:
        self.add((kind, number, english(of, number)), b"", answer=Answer(silent=True))


def _colours(of: Scene) -> set[str]:
    return {g.colour for g in of.groups}
