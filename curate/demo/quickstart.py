"""`curate demo`, which `make quickstart` calls: draw a web, run the main job on it, compare found with
planted, and judge the recipe by what it trains."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.ask.judge import say, write_page
from curate.demo.held_out import build_held_out
from curate.demo.score import found_against_planted, printed
from curate.demo.serve import serve
from curate.demo.web import build_web
from curate.pool.pool import Pool
from curate.recipe import Recipe, load_recipe
from curate.run.compare.main import compare
from curate.run.compare.request import Said, make_request
from curate.run.main import run_recipe
from curate.run.progress import Telling
from filters.base import sql_string

SEEDS = 3


def quickstart(folder: Path, scenes: int, port: int, executor: str) -> None:
    """Everything in `folder`: web/, pool/, held_out/, comparison.html, report.html. A second call finds all done and
    says so. Where torch is not installed nothing is judged, and the last lines say so."""
    began = time.monotonic()
    print(f"drawing a web of {scenes:,} URLs with planted faults in {folder}/web")
    web = build_web(folder / "web", scenes, port=port)
    recipe = load_recipe("demo", [f"pool={folder}/pool", f"source.path={web.list}"])
    with serve(web.folder, port) as url:
        print(f"serving it on {url}; running recipe demo on executor {executor}")
        outcome = run_recipe(recipe, executor, None, pack=True, report=folder / "report.html", command="curate demo")
    score = found_against_planted(pq.read_table(web.truth), verdicts(folder / "pool", outcome.pick))
    print(f"\nfound against planted ({time.monotonic() - began:.0f} s in all)\n{printed(score)}")
    judged = judge(folder, recipe, executor) if find_spec("torch") else "left out: pip install 'curate[models]'"
    print(f'\nask it:      curate sql {folder}/pool "SELECT id, dropped_first, left_after FROM funnel"')
    print(f"the pack:    {folder}/pool/packs/")
    print(f"the verdict: {judged}")
    print(f"open next:   {folder}/report.html")


def judge(folder: Path, recipe: Recipe, executor: str) -> Path:
    """Train on the recipe's pack and on the whole pool, at equal samples seen, and say which is better."""
    sets = build_held_out(folder / "held_out")
    request = make_request([recipe], Said(scale="feature", seeds=SEEDS, evaluate=tuple(map(str, sets))))
    print(f"\njudging: recipe demo, no filter and controls, {SEEDS} seeds each, on {len(sets)} held-out sets")
    found = compare(request, executor, None, telling=Telling(), command="curate demo")
    print("\n".join(say(found)))
    return write_page(found, Pool.open(request.pool), folder / "comparison.html")


def verdicts(pool: Path, pick: str) -> pa.Table:
    """What became of each URL: url, outcome of its last download, dropped_by and reason of the pick (null: kept)."""
    import curate

    name = pick.split("/", 1)[1]
    return curate.open(str(pool)).sql(VERDICTS.format(pick=sql_string(name))).to_arrow()


VERDICTS = """
    SELECT f.url, f.outcome, p.reason,
           CASE WHEN f.outcome = 'ok' AND p.uid IS NULL THEN 'not in the pick' ELSE p.dropped_by END AS dropped_by
    FROM (SELECT uid, any_value(url) AS url, arg_max(outcome, attempt) AS outcome FROM fetches GROUP BY uid) f
    LEFT JOIN (SELECT uid, dropped_by, reason FROM picks WHERE pick = {pick}) p ON f.uid = p.uid
"""
