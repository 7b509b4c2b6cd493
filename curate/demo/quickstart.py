"""`curate demo`, which `make quickstart` calls: draw a web, run the main job on it, compare found with planted."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq

from curate.demo.score import found_against_planted, table
from curate.demo.web import KEPT, build_web, serve
from curate.recipe import load_recipe
from curate.run.main import run_recipe


def quickstart(folder: Path, scenes: int, port: int, executor: str) -> None:
    """Everything in `folder`: web/, pool/, report.html. A second call finds all done and says so."""
    began = time.monotonic()
    print(f"drawing a web of {scenes:,} URLs with planted faults in {folder}/web")
    web = build_web(folder / "web", scenes, port)
    recipe = load_recipe("demo", [f"pool={folder}/pool", f"source.path={web.list}"])
    with serve(web.folder, port) as url:
        print(f"serving it on {url}; running recipe demo on executor {executor}")
        outcome = run_recipe(recipe, executor, None, pack=True, report=folder / "report.html", command="curate demo")
    lines = found_against_planted(pq.read_table(web.truth), fates(folder / "pool", outcome.pick))
    print(f"\nfound against planted ({time.monotonic() - began:.0f} s in all)\n{table(lines)}\n")
    print(f'ask it:      curate sql {folder}/pool "SELECT id, dropped_first, left_after FROM funnel"')
    print(f"the pack:    {folder}/pool/packs/")
    print(f"open next:   {folder}/report.html")


def fates(pool: Path, pick: str) -> dict[str, str]:
    """What became of each URL: kept, its download's outcome, or the id of the filter that dropped it."""
    import curate

    opened = curate.open(str(pool))
    name = pick.split("/", 1)[1]
    found: dict[str, str] = {}
    for url, outcome in opened.sql("SELECT url, outcome FROM fetches ORDER BY attempt").fetchall():
        found[url] = outcome
    query = f"SELECT s.url, p.dropped_by FROM samples s JOIN picks p ON s.uid = p.uid WHERE p.pick = '{name}'"
    for url, dropped_by in opened.sql(query).fetchall():
        found[url] = dropped_by or KEPT
    return found
