"""Make a pack: rank each shard's copies, find where files begin, fill the files, and say what was made.

    manifest = pack(pool, "picks/mine@0123456789ab", about, PackSpec(), seed=0, sources=..., places=..., run=...)

Every file is resumable by itself; ``manifest.json`` is committed last and says that the pack is whole.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from curate.errors import PartialFailure, UserError
from curate.pool.columns import read_footer, read_table
from curate.pool.layout import MANNERS, folder_name, part_file, short_hash
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.engine import Pass
from curate.run.pack.card import card
from curate.run.pack.croissant import croissant
from curate.run.pack.cuts import Cuts, find_cuts, keys_of
from curate.run.pack.fill import OVERHEAD, FillWork, fill, note_name, task_name
from curate.run.pack.members import MEMBERS
from curate.run.pack.origin import Origin, summed
from curate.run.pack.rank import RANKS, PackWork, rank
from curate.run.pack.scatter import SEGMENTS, ScatterWork, groups_of, scatter
from curate.run.pack.spec import PackSpec
from curate.run.pack.write import NOTES
from curate.run.reader import Places
from stages.base import Column, Need, shard_name

VERSION = 3  # rises when the bytes of a pack change
TASK = 1 << 28  # bytes of the files that one task fills: one process copies at half the speed of `cat`, two keep up
TEMPORARY = (RANKS, MEMBERS, SEGMENTS, NOTES)
MANIFEST, SIZES, CARD, CROISSANT = "manifest.json", "sizes.json", "README.md", "croissant.json"

Runner = Callable[[list[Pass]], Mapping[str, Mapping[str, str]]]
"""Runs connected passes to their end; returns what failed for good, as `Engine.run` does."""


def pack_folder(pool: Pool, pick_folder: str, recipe: str, spec: PackSpec, seed: int) -> str:
    """Where the pack lies: another pick, spec, seed or set of removed uids is another folder."""
    what = {"pick": pick_folder, "spec": spec.model_dump(), "seed": seed, "removed": pool.removed_digest()}
    return folder_name("packs", recipe, short_hash(what | {"version": VERSION}))


def pack(
    pool: Pool,
    pick_folder: str,
    about: Mapping[str, Any],
    spec: PackSpec,
    seed: int,
    sources: Mapping[str, Column],
    places: Places,
    run: Runner,
) -> dict[str, Any]:
    """Write the pack that is not there yet, and return its manifest.

    Args:
        about: the pick's about.json, of which recipe, yaml and shards are used.
        sources: caption source -> the column with its texts (string, or list of structs with `text`).
        run: runs passes; see `Runner`.

    Raises:
        UserError: the pick keeps no sample. PartialFailure: a part failed for good; a pack is whole or not there.
    """
    storage, folder = pool.storage, pack_folder(pool, pick_folder, about["recipe"], spec, seed)
    lang = about.get("columns", {}).get("lang", {}).get("folder")
    work = PackWork(
        storage.url, folder, pick_folder, seed, spec.repeat, dict(sources), places, pool.removed_digest(), lang
    )
    if not storage.exists(f"{folder}/{MANIFEST}"):
        try:
            _make(pool, work, about, spec, run)
        except (FileNotFoundError, PartialFailure):
            # Another driver may have finished the same pack and cleared what ours was reading.
            if not storage.exists(f"{folder}/{MANIFEST}"):
                raise
    for name in TEMPORARY:
        _clear(storage, f"{folder}/{name}")
    return dict(json.loads(storage.read(f"{folder}/{MANIFEST}")))


def _make(pool: Pool, work: PackWork, about: Mapping[str, Any], spec: PackSpec, run: Runner) -> None:
    storage, folder = pool.storage, work.folder
    shards = [shard_name(s) for s in about["shards"]]
    ranks = _rank(storage, work, shards, run)
    cuts = _cut(storage, folder, shards, spec, ranks)
    members = [f"{folder}/{MEMBERS}/{s}.arrow" for s, r in zip(shards, ranks, strict=True) if r["samples"]]
    total = sum(r["bytes"] + OVERHEAD * r["samples"] for r in ranks)
    per_task = max(1, TASK * cuts.files // total)
    if not storage.is_local and per_task < cuts.files:
        members = _scatter(storage, folder, members, ranks, run)
    _fill(
        storage, FillWork(storage.url, folder, spec, Origin.of(work.pick, about), tuple(members), cuts), per_task, run
    )
    _finish(pool, work, about, spec, cuts, ranks)


def _rank(storage: Storage, work: PackWork, shards: Sequence[str], run: Runner) -> list[dict[str, Any]]:
    """Footers of all ranks, once they are there."""
    have = {e.name for e in storage.list(f"{work.folder}/{RANKS}")}
    missing = [s for s in shards if f"{s}.parquet" not in have]
    if missing:
        _all(run, Pass("pack: rank", rank, work, missing))
    return list(_walk(lambda s: read_footer(storage, part_file(f"{work.folder}/{RANKS}", s)), shards))


def _cut(
    storage: Storage, folder: str, shards: Sequence[str], spec: PackSpec, ranks: Sequence[Mapping[str, Any]]
) -> Cuts:
    samples = sum(r["samples"] for r in ranks)
    if samples == 0:
        raise UserError(
            "the pick keeps no sample: there is nothing to pack; `curate report` shows which filter took all"
        )
    filled = [part_file(f"{folder}/{RANKS}", s) for s, r in zip(shards, ranks, strict=True) if r["samples"]]

    def keys(rel: str) -> np.ndarray:
        return keys_of(read_table(storage, rel)[0])

    return find_cuts(lambda: _walk(keys, filled), samples, spec.samples)


def _scatter(
    storage: Storage, folder: str, members: Sequence[str], ranks: Sequence[Mapping[str, Any]], run: Runner
) -> list[str]:
    """Sort the images of some shards at a time into segments, so that a task asks for few, long ranges."""
    sizes = [r["bytes"] for r in ranks if r["samples"]]
    groups = groups_of(members, sizes, TASK)
    work = ScatterWork(storage.url, folder, groups)
    have = {e.name for e in storage.list(f"{folder}/{MEMBERS}")}
    missing = [name for name in groups if f"{name}.arrow" not in have]
    if missing:
        _all(run, Pass("pack: scatter", scatter, work, missing, Need(memory_gb=2)))
    return [f"{folder}/{MEMBERS}/{name}.arrow" for name in groups]


def _fill(storage: Storage, work: FillWork, per_task: int, run: Runner) -> None:
    """Write the files that have no note, `per_task` neighbours at a time."""
    have = {e.name for e in storage.list(f"{work.folder}/{NOTES}")}
    tasks = []
    for first in range(0, work.cuts.files, per_task):
        last = min(first + per_task, work.cuts.files) - 1
        if any(f"{shard_name(k)}.json" not in have for k in range(first, last + 1)):
            tasks.append(task_name(first, last))
    if tasks:
        _all(run, Pass("pack: fill", fill, work, tasks, Need(memory_gb=2)))


def _finish(
    pool: Pool, work: PackWork, about: Mapping[str, Any], spec: PackSpec, cuts: Cuts, ranks: Sequence[Mapping[str, Any]]
) -> None:
    """Commit sizes.json, card and Croissant, then the manifest. Nothing in them depends on where the pool lies."""
    from curate import __version__

    storage, folder = pool.storage, work.folder
    numbers = range(cuts.files)
    notes = list(_walk(lambda k: json.loads(storage.read(note_name(folder, k))), numbers))
    files = {f"{shard_name(k)}.{spec.suffix}": n for k, n in zip(numbers, notes, strict=True)}
    sizes = {name: n["samples"] for name, n in files.items()}
    dropped = Counter[str]()
    for r in ranks:
        dropped.update(r["dropped"])
    manifest = {
        "curate": __version__,
        "recipe": {"name": about["recipe"], "yaml": about["yaml"]},
        "pick": work.pick,
        "pack": spec.model_dump() | {"seed": work.seed},
        "pool": pool.settings,
        "lists": [{k: v for k, v in c.items() if k != "uid_runs"} for c in pool.claims()],
        "fetched": [json.loads(storage.read(f"{MANNERS}/{e.name}")) for e in storage.list(MANNERS)],
        "shards": list(about["shards"]),
        "counts": {
            **{n: sum(r[n] for r in ranks) for n in ("rows", "kept", "times")},  # of the pick
            "samples": cuts.samples,
            "files": cuts.files,
            "bytes": sum(n["bytes"] for n in notes),
        },
        "dropped": [{"id": s["id"], "filter": s.get("filter"), "count": dropped.pop(s["id"], 0)} for s in _steps(about)]
        + [{"id": name, "filter": None, "count": count} for name, count in sorted(dropped.items())],
        "census": summed(r["census"] for r in ranks),  # of the copies in the pack
        "files": files,
    }
    storage.commit(f"{folder}/{SIZES}", json.dumps(sizes, indent=1).encode())
    storage.commit(f"{folder}/{CARD}", card(manifest).encode())
    storage.commit(f"{folder}/{CROISSANT}", json.dumps(croissant(manifest), indent=1).encode())
    storage.commit(f"{folder}/{MANIFEST}", json.dumps(manifest, indent=1).encode())


def _steps(about: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return list(about.get("steps", ()))


def _all(run: Runner, todo: Pass) -> None:
    """Run the pass; other passes may leave some shards out, a pack may not."""
    failed = run([todo]).get(todo.name, {})
    if failed:
        item, text = next(iter(failed.items()))
        raise PartialFailure(
            f"{todo.name}: {len(failed)} of {len(todo.items)} failed for good, the first is {item}: "
            f"{text.strip().splitlines()[-1]}\nthe pack is not whole; the same command tries again only what is missing"
        )


def _clear(storage: Storage, folder: str) -> None:
    for entry in storage.list(folder):
        storage.delete(f"{folder}/{entry.name}")


def _walk(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Map in order, 16 at a time, holding no more than 64 results."""
    left = list(items)
    with ThreadPoolExecutor(16) as threads:
        for start in range(0, len(left), 64):
            yield from threads.map(function, left[start : start + 64])
