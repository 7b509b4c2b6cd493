"""`curate init INPUT`: look at an input and write a commented recipe that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.errors import UserError
from curate.recipe_yaml import dump
from curate.run.sources.spec import SourceSpec, sanitised

HEAD = """# Written by `curate init`. Next: curate plan {out}; curate run {out}
# Editors check it after: curate schema > recipe.schema.json
# yaml-language-server: $schema=recipe.schema.json
"""

CONTACT = """  # Site owners must be able to reach whoever fetches their images: a URL or mail address of yours.
  # contact: https://example.org/our-crawler
"""

FILTERS = """
filters:
  # Each filter says why it dropped a sample; `curate report` shows what was lost, with pictures.
  - image_size: {min_side: 128, max_aspect: 3}
  - caption_length: {min_words: 3}
    on_missing: drop
  - id: english
    language: {keep: [en]}
    on_missing: drop

pack: {samples: 10000}   # samples a tar
"""


def write_recipe(source: str, out: Path) -> Path:
    """Write a recipe for this input; an existing file is not overwritten.

    Raises:
        UserError: the input cannot be read, or `out` exists.
    """
    from curate.run.sources import open_source

    if out.exists():
        raise UserError(f"{out}: exists already; give another name with --out")
    found = open_source(SourceSpec(path=source))
    name = sanitised(out.stem) or "recipe"
    remote = found.kind == "urls"
    section: dict[str, Any] = {"path": source, "kind": found.kind}
    text = HEAD.format(out=out) + f"recipe: {name}\npool: pools/{name}\n\n" + dump({"source": section})
    text += "\ningest:\n" + (CONTACT if remote else "") + "  resize: long\n  side: 512\n" + FILTERS
    out.write_text(text)
    return out
