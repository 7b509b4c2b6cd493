"""Files of a pool under names that SQL can read: themselves, or links to the cached downloads of an object store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from curate.ask.scratch import own_folder
from curate.errors import UserError
from curate.pool.storage import Storage
from filters.base import sql_string

DOWNLOADS = 16  # at once
EXPANDED = "*?["  # characters of a path that DuckDB takes for a pattern


class LocalFiles:
    """`root` is the one folder that a query may read: the pool, or a folder of this process with links.

    A link keeps its name (shard numbers are read from it) and outlives the trimming of the cache.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @cached_property
    def root(self) -> Path:
        if self.storage.is_local:
            return self.storage.local("")
        from curate.pool.objects import cache_root

        return own_folder(cache_root(), "sql-", self)  # in the cache: links need one file system

    def sql(self, rels: Sequence[str]) -> str:
        """The files as an SQL list.

        Raises:
            UserError: DuckDB would expand the path, or a link leads out of the pool.
        """
        if any(c in str(self.root) for c in EXPANDED):
            raise UserError(f"{self.root}: SQL cannot read below a folder with * ? [ in its name; rename the folder")
        for rel in rels:
            if any(c in rel for c in EXPANDED) or ".." in rel.split("/"):
                raise UserError(f"{self.storage}/{rel}: no name that curate gives; delete this file")
        if self.storage.is_local:
            self._refuse_links(rels)
        else:
            with ThreadPoolExecutor(DOWNLOADS) as threads:
                list(threads.map(self._link, rels))
        return "[" + ", ".join(sql_string(str(self.root / rel)) for rel in rels) + "]"

    def _refuse_links(self, rels: Sequence[str]) -> None:
        """A pool may be a stranger's: a link in it must not show a file from elsewhere as a column."""
        home = self.root.resolve()
        folders = {os.path.dirname(rel) for rel in rels}
        suspects = [f for f in folders if (self.root / f).resolve() != home / f]
        suspects += [rel for rel in rels if os.path.islink(self.root / rel)]
        for rel in suspects:
            target = (self.root / rel).resolve()
            if not target.is_relative_to(home):
                raise UserError(
                    f"{self.storage}/{rel} is a link that leads out of the pool, to {target}: SQL reads the pool "
                    "alone; put the file itself there, or mount its folder there"
                )

    def _link(self, rel: str) -> None:
        link = self.root / rel
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(self.storage.local(rel), link)
