"""What the tests of `curate init` share: inputs, and a look at them."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from curate.init import Seen, write_recipe
from curate.init.look import look
from curate.recipe import Recipe, load_recipe
from curate.run.sources.source import open_source
from curate.run.sources.spec import SourceSpec

ENGLISH = ["a brown dog runs over the green grass", "two old men are sitting on a wooden bench in the park"]
GERMAN = ["ein brauner Hund läuft über die grüne Wiese", "zwei alte Männer sitzen auf einer Bank aus Holz"]


def seen(path: Path | str) -> Seen:
    return look(open_source(SourceSpec(path=str(path))))


def written(folder: Path, source: Path | str) -> tuple[Recipe, str]:
    out = folder / "r.yaml"
    out.unlink(missing_ok=True)
    write_recipe(str(source), out)
    return load_recipe(str(out)), out.read_text(encoding="utf-8")


def urls(n: int) -> list[str]:
    return [f"https://host{i % 7}.example/{i}.jpg" for i in range(n)]


def picture(size: tuple[int, int], format: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (90, 120, 30)).save(out, format)
    return out.getvalue()
