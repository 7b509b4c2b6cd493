"""curate turns web-scale image-text pairs into training sets, and proves which way of doing it is best.

    import curate
    pool = curate.open("pool")                       # a folder or s3://bucket/prefix
    pool.sql("SELECT lang, count(*) FROM samples GROUP BY 1").to_pandas()

`import curate` refuses to start where a folder of the working directory shadows one of our packages.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curate.ask.handle import Handle

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def _refuse_shadows() -> None:
    """A user's own folder called `filters/` must not be taken for ours: say which two are in conflict."""
    home = Path(__file__).resolve().parent.parent
    for name in ("stages", "filters", "training_smoke", "recipes"):
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ImportError(f"curate: package {name!r} is missing beside {home / 'curate'}; install curate again")
        found = Path(spec.origin or next(iter(spec.submodule_search_locations or [""]))).resolve()
        found = found.parent if found.name == "__init__.py" else found
        if found != home / name:
            raise ImportError(
                f"curate: {found} shadows {home / name}; rename your folder or start from another directory"
            )


_refuse_shadows()


def open(path: str, recipe: str | None = None, *, clip: str | None = None) -> Handle:
    """Open a pool for questions.

    Args:
        path: folder or URL of the pool.
        recipe: a recipe file or built-in name; its columns then have plain names and `picks` is its pick.
        clip: MODEL or MODEL:WEIGHTS of open_clip; queries then have `clip_text('...')`.

    Raises:
        curate.errors.UserError: there is no pool at `path`.
    """
    from curate.ask.handle import Handle

    return Handle(path, recipe, clip=clip)
