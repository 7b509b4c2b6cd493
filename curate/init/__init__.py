"""`curate init INPUT`: look at an input and write a commented recipe that runs.

    seen = write_recipe("laion/*.parquet", Path("recipe.yaml"))

Modules: sample (what is taken), take and tables (taking it), pictures and look (what it says), choices (defaults),
hints (columns that a filter could use), words (all of it in words), write (the recipe), say (the terminal).
"""

from __future__ import annotations

from pathlib import Path

from curate.errors import UserError
from curate.init.look import Seen, look
from curate.init.write import recipe_text
from curate.run.sources.source import open_source
from curate.run.sources.spec import SourceSpec, sanitised

__all__ = ["Seen", "write_recipe"]


def write_recipe(input_path: str, out: Path) -> Seen:
    """Look at an input and write a recipe for it; an existing file is never overwritten.

    Raises:
        UserError: the input cannot be read, is empty, no column of it can be the URL, or `out` exists.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; give another name with --out")
    seen = look(open_source(SourceSpec(path=input_path)))
    name = (sanitised(out.stem) or "recipe")[:64]
    text = recipe_text(seen, name, input_path, out)
    with out.open("x", encoding="utf-8") as f:
        f.write(text)
    return seen
