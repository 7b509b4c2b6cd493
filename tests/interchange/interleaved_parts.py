"""Documents as MMC4 and OBELICS have them, with pictures that lie in a folder, and a pool that a recipe has run on."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from curate.interchange.interleaved_give import Wanted, export_documents
from curate.interchange.interleaved_take import import_documents
from curate.recipe import load_recipe
from curate.run.main import run_recipe
from curate.run.progress import Telling

QUIET = Telling(quiet=True)


def url(number: int) -> str:
    return f"http://h.test/{number}.jpg"


def picture(number: int, side: int = 64) -> bytes:
    """A jpeg; pictures of even and odd numbers differ in size."""
    out = io.BytesIO()
    colour = (number * 37 % 256, number * 91 % 256, number * 53 % 256)
    Image.new("RGB", (side * (1 + number % 2), side), colour).save(out, "JPEG")
    return out.getvalue()


def pictures(folder: Path, numbers: Sequence[int]) -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number}.jpg").write_bytes(picture(number))
    return folder


def mmc4(numbers: Sequence[int], sentences: int = 3, page: str = "http://h.test/page") -> dict[str, Any]:
    """A document of MMC4; picture n is most like sentence n % sentences, and stands there."""
    rows = [[0.25 if s == n % sentences else 0.01 * s for s in range(sentences)] for n in numbers]
    infos = [
        {
            "face_detections": None,
            "image_name": f"{n}.jpg",
            "raw_url": url(n),
            "matched_text_index": n % sentences,
            "matched_sim": 0.25,
        }
        for n in numbers
    ]
    texts = [f"Sentence {s} of {page} – ." for s in range(sentences)]
    return {
        "url": page,
        "text_list": texts,
        "image_info": infos,
        "similarity_matrix": rows,
        "could_have_url_duplicate": 0,
    }


def obelics(numbers: Sequence[int], page: str = "http://h.test/page") -> dict[str, Any]:
    """A document of OBELICS: a text, then each picture and a text."""
    images: list[str | None] = [None]
    texts: list[str | None] = ["Once."]
    about: list[Any] = [None]
    for n in numbers:
        images += [url(n), None]
        texts += [None, f"Behind {n}.\n\nMore."]
        about += [{"document_url": page, "src": url(n), "alt_text": f"picture {n}", "original_width": 64}, None]
    return {
        "images": images,
        "texts": texts,
        "metadata": json.dumps(about),
        "general_metadata": json.dumps({"url": page, "warc_filename": "crawl-data/x.warc.gz"}),
    }


def write_zip(path: Path, documents: Sequence[Any]) -> Path:
    """A file of MMC4; what is bytes is written as it is."""
    lines = [d if isinstance(d, bytes) else json.dumps(d).encode() for d in documents]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.name.removesuffix(".zip"), b"\n".join(lines) + b"\n")
    return path


def write_parquet(path: Path, documents: Sequence[dict[str, Any]]) -> Path:
    strings = pa.list_(pa.string())
    schema = {"images": strings, "metadata": pa.string(), "general_metadata": pa.string(), "texts": strings}
    pq.write_table(pa.Table.from_pylist(list(documents), schema=pa.schema(list(schema.items()))), path)
    return path


def run(folder: Path, told: Sequence[str], filters: str, *, pack: bool = False, more: str = "") -> None:
    """Run a recipe made of what an import has printed (`pool:` and `source:`), with these filters."""
    said = "\n".join(line.strip() for line in told if line.startswith("  "))
    recipe = f"recipe: docs\n{said}\n{more}filters:\n{filters}"
    assert yaml.safe_load(recipe)["source"]["path"]
    (folder / "docs.yaml").write_text(recipe)
    run_recipe(
        load_recipe(str(folder / "docs.yaml")), "inline", 1, pack=pack, report=None, command="test", telling=QUIET
    )


SQUARE = "  - {id: square, where: 'width = height'}\n"  # even numbers
DOCUMENTS = [mmc4([0, 1, 2]), mmc4([3, 5], page="http://h.test/odd"), mmc4([4, 0], page="http://h.test/even")]


def taken(folder: Path, documents: list[Any], **options: Any) -> list[str]:
    file = write_zip(folder / "docs_shard_0_v2.jsonl.zip", documents)
    options = {"name": "docs", "telling": QUIET, "images": str(folder / "files"), **options}
    return import_documents([str(file)], str(folder / "pool"), **options)


def made(folder: Path) -> None:
    """A pool with the pictures 0 to 5, and a pick of the square ones."""
    pictures(folder / "files", range(6))
    run(folder, taken(folder, DOCUMENTS), SQUARE)


def given(folder: Path, out: str = "out", **wanted: Any) -> list[str]:
    asked = Wanted(**wanted)
    return export_documents(str(folder / "pool"), str(folder / out), recipe="docs", wanted=asked, telling=QUIET)


def read_zip(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("*.jsonl.zip")
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        return [json.loads(line) for line in io.BytesIO(archive.read(name))]


MEASURED = """
import json, sys
from pathlib import Path
from curate.errors import UserError
from curate.interchange.interleaved_take import import_documents
from curate.run.progress import Telling

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) >> 10

before = peak()
try:
    told = import_documents([sys.argv[1]], sys.argv[2], telling=Telling(quiet=True))
except UserError as e:
    told = [str(e)]
print(json.dumps([told, peak() - before]))
"""


def measured(file: Path, pool: Path) -> tuple[list[str], int]:
    """What an import says, or its error, and by how many MB it grew at most: in a process of its own, so that no test
    before it counts."""
    command = [sys.executable, "-c", MEASURED, str(file), str(pool)]
    told, grown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told, grown
