"""Finished folders of many shards get an index and compacted copies, so that the next plan lists nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.pool.index import FolderIndex
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.engine import Pass
from stages.base import Need, shard_name


@dataclass(frozen=True)
class Compact:
    """What the workers that compact a folder share: item -> its shards, as the index knows them."""

    pool: str
    folder: str
    groups: Mapping[str, Mapping[int, tuple[int, str, int]]]


def compact(work: Compact, item: str) -> dict[str, Any]:
    """Write one compacted copy of a folder."""
    group = dict(work.groups[item])
    return {"rows": FolderIndex(Storage.at(work.pool), work.folder, group).compact(list(group))}


def save_indexes(
    pool: Pool, folders: Mapping[str, FolderIndex], shards: Sequence[int], run: Callable[[list[Pass]], Any], need: Need
) -> None:
    """Index and compact those of the folders that have a file for each of the shards."""
    for folder, index in folders.items():
        fresh = index
        if not index.known.keys() >= set(shards):
            fresh = pool.index(folder)
            if fresh.missing(shards):
                continue
            fresh.save(shards)
        groups = {f"{shard_name(g[0])}-{shard_name(g[-1])}": g for g in fresh.uncompacted(shards)}
        if groups:
            work = Compact(pool.storage.url, folder, {i: {s: fresh.known[s] for s in g} for i, g in groups.items()})
            run([Pass(f"compact {folder}", compact, work, list(groups), need)])
