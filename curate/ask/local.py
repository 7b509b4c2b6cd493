"""Files of a pool under names that SQL can read: themselves, or links to the cached downloads of an object store."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from curate.errors import UserError
from curate.pool.storage import Storage
from filters.base import sql_string

DOWNLOADS = 16  # at once


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

        cache_root().mkdir(parents=True, exist_ok=True)  # links need one file system
        folder = Path(tempfile.mkdtemp(prefix="sql-", dir=cache_root()))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def sql(self, rels: Sequence[str]) -> str:
        """The files as an SQL list.

        Raises:
            UserError: DuckDB would expand the path.
        """
        if any(c in str(self.root) for c in "*?["):
            raise UserError(f"{self.root}: SQL cannot read below a folder with * ? [ in its name; rename the folder")
        if not self.storage.is_local:
            with ThreadPoolExecutor(DOWNLOADS) as threads:
                list(threads.map(self._link, rels))
        return "[" + ", ".join(sql_string(str(self.root / rel)) for rel in rels) + "]"

    def _link(self, rel: str) -> None:
        link = self.root / rel
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(self.storage.local(rel), link)
