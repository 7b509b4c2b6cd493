"""A pool in Python's hands.

pool = curate.open("pool")
pool.sql("SELECT lang, count(*) FROM samples GROUP BY 1").to_pandas()
"""

from __future__ import annotations

from curate.ask.sql import Result, Session
from curate.ask.views import VIEWS, Views
from curate.pool.pool import Pool


class Handle:
    """A pool opened for questions; see `curate.open`."""

    def __init__(self, path: str, recipe: str | None = None) -> None:
        self.pool = Pool.open(str(path))
        self._session = Session(Views(self.pool, recipe))
        if recipe is not None:
            assert self._session.views.pick  # raises if there is no such pick

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
