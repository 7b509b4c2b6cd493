"""A list of about 2,000 rows as the web has them: good ones, and every fault that a published recipe looks for.

rows = planted(material)
write_list(rows, Path("list.parquet"))       # image, url, text, kind
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from tests.recipes.material import Material, Picture

LARGE = [(400, 400), (401, 401), (420, 640), (640, 480), (401, 802), (401, 803), (410, 1020), (408, 1021), (450, 1126)]
LARGE += [(1024, 1024), (1100, 1024), (1023, 1030), (480, 420), (500, 430), (460, 460), (402, 500), (401, 1003)]
SMALL = [(200, 200), (199, 300), (200, 600), (200, 601), (199, 199), (64, 64), (201, 201), (201, 603), (300, 901)]
SMALL += [(200, 500), (30, 30), (700, 190), (604, 202), (606, 202), (260, 210), (201, 602)]
COMMON = "a man and a woman are standing outside"
PROFANE = ("damn", "bloody hell")
BOILERPLATE = ("click to enlarge", "stock photo", "View more product information", "royalty free image")


@dataclass(frozen=True)
class Row:
    """One row of the list. kind: why it is there."""

    kind: str
    url: str
    text: str | None
    image: bytes

    @property
    def uid(self) -> str:
        """The rule of the design: md5 over text and url."""
        return hashlib.md5(((self.text or "") + self.url).encode()).hexdigest()


def planted(material: Material) -> list[Row]:
    """All rows, shuffled; no two have the same url and text."""
    rows = [
        *good(material.pictures),
        *sizes(material.pictures),
        *weights_of_files(material.pictures),
        *wrong_texts(material),
        *foreign(material),
        *copies(material.pictures),
        *recurring(material.pictures),
        *odd_texts(material.pictures),
        *written_on(material.pictures),
    ]
    found = list({r.uid: r for r in rows}.values())
    random.Random(11).shuffle(found)
    return found


def write_list(rows: Sequence[Row], path: Path) -> None:
    columns = {n: [getattr(r, n) for r in rows] for n in ("image", "url", "text", "kind")}
    types = {"image": pa.binary(), "url": pa.string(), "text": pa.string(), "kind": pa.string()}
    pq.write_table(pa.table({n: pa.array(v, types[n]) for n, v in columns.items()}), path)


# ---------------------------------------------------------------- faults, one kind after another


def good(pictures: Sequence[Picture]) -> Iterator[Row]:
    """As published; hosts recur by Zipf's law."""
    for i, p in enumerate([*pictures[:520], *pictures[-80:]]):
        yield Row("good", f"https://{_host(i)}/photo/{i}.jpg", p.captions[i % len(p.captions)], p.image)


def sizes(pictures: Sequence[Picture]) -> Iterator[Row]:
    """Around every bound on sides and aspect that a recipe has; in three formats."""
    formats = cycle(("JPEG", "JPEG", "PNG", "JPEG", "WEBP"))
    for i, (size, p) in enumerate(zip(LARGE * 6, pictures[100:], strict=False)):
        image = encoded(p.open().resize(size), "JPEG" if i % 6 else "WEBP")
        yield Row("large", f"https://{_host(i)}/large/{i}", p.captions[(i + 1) % len(p.captions)], image)
    for i, (size, p) in enumerate(zip(SMALL * 6, pictures[200:], strict=False)):
        image = encoded(p.open().resize(size), next(formats))
        yield Row("small", f"https://{_host(i)}/small/{i}", p.captions[(i + 2) % len(p.captions)], image)


def weights_of_files(pictures: Sequence[Picture]) -> Iterator[Row]:
    """Files of 5,119, 5,120 and 5,121 bytes, and of few."""
    for i, p in enumerate(pictures[50:86]):
        small = encoded(p.open().resize((220, 220)), "JPEG", quality=8)
        image = small if i % 4 == 3 else padded(small, 5119 + i % 4)
        yield Row("few bytes", f"https://{_host(i)}/bytes/{i}.jpg", p.captions[-1], image)
    for i, shade in enumerate((0, 90, 128, 255) * 2):
        blank = encoded(Image.new("RGB", (300 + i, 260), (shade,) * 3), "PNG")
        yield Row("blank", f"https://{_host(i)}/blank/{i}.png", pictures[i].captions[0], blank)


def wrong_texts(material: Material) -> Iterator[Row]:
    """The caption of another picture; names of files, titles and alt-texts of the web."""
    pictures = material.pictures
    for i, p in enumerate(pictures[:160]):
        text = pictures[(i * 7 + 31) % len(pictures)].captions[0]
        yield Row("mismatched", f"https://{_host(i)}/wrong/{i}.jpg", text, p.image)
    for i, (text, p) in enumerate(zip(material.alts, cycle(pictures), strict=False)):
        yield Row("alt", f"https://{_host(3 * i)}/alt/{i}.jpg", text, p.image)
    for i, p in enumerate(pictures[300:340]):
        text = (f"IMG_{4894 + i}", f"DSC{i:05d}.JPG", "Untitled", f"photo {i}")[i % 4]
        yield Row("name", f"https://{_host(i)}/name/{i}.jpg", text, p.image)


def foreign(material: Material) -> Iterator[Row]:
    texts = [t for of in material.foreign.values() for t in of]
    for i, (text, p) in enumerate(zip(texts, cycle(material.pictures[40:]), strict=False)):
        yield Row("foreign", f"https://{_host(i)}/world/{i}.jpg", text, p.image)
        if i % 3 == 0:
            yield Row("foreign", f"https://{_host(i)}/world/{i}.jpg", texts[i - 1], p.image)


def copies(pictures: Sequence[Picture]) -> Iterator[Row]:
    """The same bytes, encoded again, hosted again; under another url, with the same text and with others."""
    for i, p in enumerate(pictures[:50]):
        yield Row("same pair", f"https://mirror.test/{i}.jpg", p.captions[i % len(p.captions)], p.image)
        yield Row("same bytes", f"https://mirror.test/{i}.jpg?v=2", p.captions[(i + 1) % len(p.captions)], p.image)
        yield Row("same url", f"https://{_host(i)}/photo/{i}.jpg", p.captions[(i + 2) % len(p.captions)], p.image)
        again = encoded(p.open(), ("JPEG", "WEBP")[i % 2], quality=45)
        yield Row("encoded again", f"https://again.test/{i}", p.captions[i % len(p.captions)], again)
    for i, p in enumerate([p for p in pictures if p.rehosted][:50]):
        assert p.rehosted is not None
        yield Row("hosted again", f"https://other.test/{i}.jpg", p.captions[-1], p.rehosted)
    for number, p in enumerate(pictures[600:604]):  # one picture with many texts
        for i, q in enumerate(pictures[: 3 + 3 * number]):
            yield Row("many texts", f"https://many.test/{number}/{i}.jpg", q.captions[0], p.image)


def recurring(pictures: Sequence[Picture]) -> Iterator[Row]:
    """Texts on exactly ten, eleven and more pictures; also when white space or case differ; and on one picture."""
    texts = {"a dog on the beach": 10, "a cat on a red sofa": 11, COMMON: 23, "two children play football": 9}
    for number, (text, count) in enumerate(texts.items()):
        for i, p in enumerate(pictures[20 * number + 400 : 20 * number + 400 + count]):
            yield Row("recurring", f"https://{_host(i)}/often/{number}/{i}.jpg", text, p.image)
    spaced = ["two  children play football", " two children play football\t", "two children\nplay football"]
    spaced += ["Two children play football"]
    for i, (text, p) in enumerate(zip(spaced, pictures[500:], strict=False)):
        yield Row("spaced", f"https://{_host(i)}/spaced/{i}.jpg", text, p.image)
    for i in range(14):  # few of them are large enough for any recipe: counts differ before and after image rules
        image = pictures[520 + i].image if i < 6 else encoded(pictures[520 + i].open().resize((90, 90)), "JPEG")
        yield Row("often small", f"https://{_host(i)}/smalls/{i}.jpg", "a boy with a kite on a hill", image)
    for i in range(13):
        text = "a girl with a green umbrella"
        yield Row("one picture", f"https://one.test/{i}.jpg", text, pictures[540 + (i > 10)].image)


ODD = [
    None, "", " ", "dog", "a dog", "a red dog", "dog!?", "abcd", "abcde", "abcdef", "12 34 56", "3.5 dogs",
    "dog dog dog dog dog dog", "the the the of of of and and", "running quickly and happily", "BUY NOW BEST SHOES",
    "red shoes, red dress, red hat, red bag, red scarf, red belt", "www.example.com/dog.jpg", "U.S. flag on a pole",
    "A hot dog, in New York!", "hot  dog stand", "hotdogs for sale here", "(dog) in the park", "dog's bowl on a floor",
    "A beautiful amazing wonderful photo of a lake", "Best selling item 2019 | Free shipping | Sale", "lion king",
    "xqzzt vbrrk plomf", "The Mona Lisa painted by Leonardo da Vinci in Paris France", "a photo of the the dog",
    "photograph of a woman holding an umbrella near the river at 10:30", "dogs\ncats\nand horses in a field",
]  # fmt: skip


def odd_texts(pictures: Sequence[Picture]) -> Iterator[Row]:
    """Empty, short, long, repeated, shouted, profane, boilerplate."""
    long = [" ".join(["a dog runs over the grass"] * n) for n in (42, 43, 60)]
    words = "a man in a red shirt rides a bicycle down a long road near the old bridge while people watch him closely"
    long += [" ".join(words.split()[:n]) for n in (19, 20, 21)]
    long += ["a street " + "x" * (991 + n) for n in range(3)]
    begun = [f"{b}: {p.captions[0]}" for b, p in zip(BOILERPLATE * 4, pictures[340:], strict=False)]
    begun += [f"{p.captions[0]} - {b}" for b, p in zip(BOILERPLATE * 3, pictures[360:], strict=False)]
    profane = [f"{p.captions[1 % len(p.captions)]} {w}" for w, p in zip(PROFANE * 6, pictures[380:], strict=False)]
    shouted = [p.captions[0].upper() for p in pictures[260:270]] + [p.captions[0].title() for p in pictures[270:280]]
    texts = [*ODD, *long, *begun, *profane, *shouted]
    for i, (text, p) in enumerate(zip(texts, cycle(pictures[620:]), strict=False)):
        image = encoded(p.open().resize((480, 450)), "JPEG")
        yield Row("odd text", f"https://{_host(i)}/odd/{i}.jpg", text, image)


def written_on(pictures: Sequence[Picture]) -> Iterator[Row]:
    """The caption, or another text, painted into the picture."""
    for i, p in enumerate(pictures[420:456]):
        image = p.open().resize((320, 320))
        brush = ImageDraw.Draw(image)
        text = p.captions[0] if i % 2 else "SALE TODAY"
        words, lines = text.split(), 1 + i % 6
        for n in range(lines):
            line = " ".join(words[n * len(words) // lines : (n + 1) * len(words) // lines])
            brush.rectangle((0, 20 + 48 * n, 320, 62 + 48 * n), "white")
            brush.text((8, 24 + 48 * n), line, "black", font_size=30)
        yield Row("written on", f"https://{_host(i)}/text/{i}.jpg", p.captions[0], encoded(image, "JPEG"))


# ---------------------------------------------------------------- helpers


def _host(i: int) -> str:
    """Host of the i-th row: a few have most of them."""
    return f"www.site{(i * i + i // 3) % (3 + i % 40)}.test"


def encoded(image: Image.Image, format: str, quality: int = 85) -> bytes:
    out = io.BytesIO()
    more = {"PNG": {}, "JPEG": {"quality": quality}, "WEBP": {"quality": quality, "method": 0}}  # 0: the fastest
    image.save(out, format, **more[format])
    return out.getvalue()


def padded(jpeg: bytes, length: int) -> bytes:
    """The same picture in a file of this length, by a comment after its first marker."""
    more = length - len(jpeg) - 4
    assert 0 <= more < 65_000, f"a file of {len(jpeg)} bytes cannot become one of {length}"
    return jpeg[:2] + b"\xff\xfe" + (more + 2).to_bytes(2, "big") + b" " * more + jpeg[2:]
