"""A pool in Python's hands.

pool = curate.open("pool")
pool.sql("SELECT lang, count(*) FROM samples GROUP BY 1").to_pandas()
"""

from __future__ import annotations

import json

from curate.ask.funnel import find_pick
from curate.ask.sql import Result, Session
from curate.ask.views import VIEWS, Views
from curate.errors import UserError
from curate.pool.pool import Pool


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

    def __repr__(self) -> str:
        return f"curate.open({self.pool.storage.url!r})"
