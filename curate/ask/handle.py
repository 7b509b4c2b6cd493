"""A pool in Python's hands.

pool = curate.open("pool")
pool.sql("SELECT lang, count(*) FROM samples GROUP BY 1").to_pandas()
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from curate.ask.funnel import find_pick
from curate.ask.sql import Result, Session
from curate.ask.views import VIEWS, Views
from curate.errors import UserError
from curate.pool.pool import Pool

if TYPE_CHECKING:
    from PIL.Image import Image

    from curate.ask.clip import Clip


def pick_of(pool: Pool, recipe: str) -> str:
    """The pick folder of a recipe file as it stands now, of a recipe's name, or of a pick named in full.

    Raises:
        UserError: there is none, the recipe has not been run on the pool as it is, or a name has several picks.
    """
    if not recipe.endswith((".yaml", ".yml")):
        return find_pick(pool, recipe)
    from curate.recipe import load_recipe
    from curate.run.job import Job

    _, planned, folder = Job(load_recipe(recipe, [f"pool={json.dumps(pool.storage.url)}"]), "inline").plan()
    if any(p.missing for p in planned):
        raise UserError(f"{recipe} has not been run on {pool.storage} as it is; first: curate run {recipe}")
    return folder


class Handle:
    """A pool opened for questions; see `curate.open`."""

    def __init__(self, path: str, recipe: str | None = None, *, clip: str | None = None) -> None:
        from curate.ask.clip import Clip

        self.pool = Pool.open(str(path))
        tower = None if clip is None else Clip.named(clip)
        self._session = Session(Views(self.pool, None if recipe is None else pick_of(self.pool, recipe)), tower)

    def sql(self, query: str) -> Result:
        """Ask in SQL over `samples`, `fetches`, `picks`, `funnel`, `removed`.

        Raises:
            curate.errors.UserError: the query is refused or fails.
        """
        return self._session.ask(query)

    def views(self) -> dict[str, dict[str, str]]:
        """View -> {column: type}."""
        described = {v: self.sql(f"DESCRIBE {v}").fetchall() for v in VIEWS}
        return {view: {str(row[0]): str(row[1]) for row in rows} for view, rows in described.items()}

    def show(self, uid: str) -> Image:
        """The stored picture of a sample: PIL.Image, RGB, as stages see it.

        Args:
            uid: 32 hex digits, or the first of them where they are unique.

        Raises:
            curate.errors.UserError: no such sample, or why it has no picture (removed, purged, never came).
        """
        return self.images([uid])[0]

    def images(self, uids: Iterable[str]) -> list[Image]:
        """The stored pictures of samples, in the order of `uids`; see `show`."""
        from curate.ask.samples import find, stored
        from stages.decode import DecodeError, open_image

        pictures = []
        for asked in uids:
            (found,) = find(self, [asked])
            try:
                pictures.append(open_image(stored(self.pool, found).data).convert("RGB"))
            except DecodeError as e:
                raise UserError(f"{self.pool.storage}: {found.uid}: its stored bytes cannot be decoded: {e}") from e
        return pictures

    def listed(self, query: str, shard: int | None = None) -> list[tuple[Any, ...]]:
        """Rows of a query of ours (not of a user: nothing judges it) over `listed`: what was listed, as this shard."""
        return self._session.internal(f"WITH listed AS ({self.known.listed(shard)}) {query}")

    @property
    def known(self) -> Views:
        """What the pool holds, and under which names SQL sees it."""
        return self._session.views

    @property
    def pick(self) -> str | None:
        """The folder of the recipe's pick, where one was given."""
        return self._session.views.pick

    @property
    def clip(self) -> Clip | None:
        """What clip_text asks, where one was given."""
        return self._session.clip

    def interrupt(self) -> None:
        """End the newest question, from another thread; who reads its answer gets a UserError."""
        self._session.interrupt()

    def __repr__(self) -> str:
        return f"curate.open({self.pool.storage.url!r})"
