"""`curate init INPUT`: look at an input and write a commented recipe that runs.

write_recipe("laion/*.parquet", Path("recipe.yaml"))
"""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path

from curate.errors import UserError
from curate.recipe_yaml import dump
from curate.run.sources.files import opened
from curate.run.sources.names import GUESSES
from curate.run.sources.source import ListSource, open_source
from curate.run.sources.spec import SourceSpec, sanitised
from curate.run.sources.tables import image_columns, schema_of, table_format

LOOK = 1 << 20  # bytes of a csv or jsonl file in which its columns are looked for
HEAD = """\
# Written by `curate init`. Next: curate plan {out}; curate run {out}
# Editors complete and check it once `curate schema > recipe.schema.json` has been run beside it:
# yaml-language-server: $schema=recipe.schema.json
"""
CONTACT = """\
  # Site owners must be able to reach whoever fetches their images. Give a URL or mail address of yours:
  # contact: https://example.org/our-crawler
"""
INGEST = """\
  resize: long        # the longer side becomes `side`; short, border, crop; none keeps the bytes as they came
  side: 512
"""
IMAGES = """
filters:
  # Each filter says why it dropped a sample; `curate report` shows what was lost, with pictures.
  - image_size: {min_side: 128, max_aspect: 3}
  - id: not_blank
    where: "not blank"
    on_missing: drop  # pictures that do not decode
"""
TEXTS = """\
  - caption_length: {min_words: 3}
    on_missing: drop
  - id: english
    language: {keep: [en]}
    on_missing: drop
"""
REST = """\
  - id: exact
    keep_one: {by: sha256, over: survivors}  # the same file under several URLs: one stays

pack: {samples: 10000}  # samples a file
"""


def write_recipe(input_path: str, out_path: Path) -> Path:
    """Write a recipe for this input; an existing file is never overwritten.

    Raises:
        UserError: the input cannot be read, no column of it can be the URL, or `out_path` exists.
    """
    if out_path.exists():
        raise UserError(f"{out_path}: exists already; give another name with --out")
    found = open_source(SourceSpec(path=input_path))
    name = (sanitised(out_path.stem) or "recipe")[:64]
    lines, has_text = _source(found, input_path)
    text = HEAD.format(out=_one_line(shlex.quote(str(out_path))))
    text += dump({"recipe": name, "pool": f"pools/{name}"}) + "\nsource:\n" + "".join(f"  {line}\n" for line in lines)
    text += "\ningest:\n" + (CONTACT if found.kind == "urls" else "") + INGEST
    text += IMAGES + (TEXTS if has_text else "") + REST
    with out_path.open("x", encoding="utf-8") as f:
        f.write(text)
    return out_path


def _source(found: ListSource, input_path: str) -> tuple[list[str], bool]:
    """Lines of the `source:` section, and whether there is a text."""
    lines = [_line("path", input_path), _line("kind", found.kind)]
    if found.kind not in ("urls", "parquet"):
        return lines, True
    columns = _columns(found.files[0])
    taken: set[str] = set()
    for role in ("url", "text", "image") if found.kind == "parquet" else ("url", "text"):
        likely = image_columns(schema_of(found.files[0])) if role == "image" else _likely(role, columns)
        if likely:
            lines.append(_line(role, likely[0], others=likely[1:]))
            taken.add(likely[0])
        elif role == "url" and found.kind == "urls":
            raise UserError(
                f"{found.files[0]}: no column looks like the URL; it has {', '.join(map(json.dumps, columns))}. "
                "Write a recipe that says which: `source: {path: ..., url: NAME, text: NAME}`"
            )
        elif role == "text":
            lines.append(_line(role, None, others=list(columns)))
    rest = [
        f"{json.dumps(n)} ({_one_line(kind)})" if kind else json.dumps(n)
        for n, kind in columns.items()
        if n not in taken
    ]
    if rest:
        lines.append(f"keep: all  # carried along: {', '.join(rest)}")
    return lines, any(line.startswith("text:") and "null" not in line for line in lines)


def _line(key: str, value: str | None, others: list[str] | None = None) -> str:
    line = dump({key: value}).strip()
    if "\n" in line:
        line = f"{key}: {json.dumps(value)}"  # what YAML would fold
    return line + (f"  # or {', '.join(map(json.dumps, others))}" if others else "")


def _one_line(text: str) -> str:
    """For a comment, which every kind of line end would end."""
    return " ".join(text.splitlines())


def _likely(role: str, columns: dict[str, str]) -> list[str]:
    """Columns that may be the URL or the text, the likeliest first."""
    order = {name: i for i, name in enumerate(GUESSES[role])}
    return sorted((c for c in columns if c.casefold() in order), key=lambda c: order[c.casefold()])


def _columns(file: str) -> dict[str, str]:
    """Name -> type of the columns of a table; csv and jsonl have no types."""
    form = table_format(file)
    if form == "parquet":
        return {f.name: str(f.type) for f in schema_of(file)}
    with opened(file) as f:
        text = f.read(LOOK).decode("utf-8-sig", errors="replace")
    if form == "jsonl":
        first = next((line for line in text.splitlines() if line.strip()), "{}")
        try:
            keys = json.loads(first)
        except json.JSONDecodeError as e:
            raise UserError(f"{file}:1: is no JSON object ({e})") from e
        return dict.fromkeys(keys, "") if isinstance(keys, dict) else {}
    return dict.fromkeys(next(csv.reader(io.StringIO(text), delimiter="\t" if form == "tsv" else ","), []), "")
