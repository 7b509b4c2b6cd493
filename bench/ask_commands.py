"""How soon the command line answers, and what it imports before it needs it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
from common import Bar, at_most, bar, environment, fresh, photos

HEAVY = ("torch", "ray", "transformers", "open_clip")
# What can be asked before anything is to be computed; {pool} has samples, {list} and {recipe} lie ready.
LIGHT = (
    ("--help",),
    ("recipes",),
    ("recipes", "datacomp_basic"),
    ("schema",),
    ("init", "{list}", "--out", "{out}/recipe.yaml"),
    ("plan", "{recipe}"),
    ("plan", "{recipe}", "--rows", "12.8e9"),
    ("status", "{pool}"),
    ("sql", "{pool}", "SELECT count(*) FROM samples"),
    ("show", "{pool}", "{uid}"),
    ("diff", "{recipe}", "{recipe}", "--out", "{out}/diff.html"),
    ("report", "{recipe}", "--out", "{out}/report.html"),
    ("gc", "{pool}", "--dry-run"),
)
RECIPE = """\
recipe: asked
pool: {folder}/pool
source: {{path: {folder}/photos.parquet, url: null, image: image, text: caption}}
filters:
  - where: "sharpness > 100"
    on_missing: drop
  - language: {{keep: [en]}}
    on_missing: drop
"""
# Runs a command in this process and says which heavy packages are loaded when it ends.
SPY = """
import json, sys
from curate.cli import app
try:
    app(sys.argv[2:], standalone_mode=False)
finally:
    open(sys.argv[1], "w").write(json.dumps([m for m in {heavy!r} if m in sys.modules]))
"""


def help_seconds(times: int = 9) -> float:
    """Median wall seconds of `curate --help` in a process of its own."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "curate.cli", "--help"], check=True, capture_output=True, env=environment()
        )
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def a_pool(folder: Path) -> dict[str, str]:
    """A small finished pool, made by the command line: what the light commands are asked about."""
    pq.write_table(pq.read_table(photos(400)).slice(0, 60), folder / "photos.parquet")
    recipe = folder / "asked.yaml"
    recipe.write_text(RECIPE.format(folder=folder))
    command = [sys.executable, "-m", "curate.cli", "run", str(recipe), "--executor", "inline", "--quiet"]
    subprocess.run(command, check=True, capture_output=True, env=environment(), cwd=folder)
    import curate

    uid = curate.open(str(folder / "pool")).sql("SELECT uid FROM samples LIMIT 1").fetchall()[0][0]
    return {"pool": str(folder / "pool"), "recipe": str(recipe), "list": str(folder / "photos.parquet"), "uid": uid}


def early_imports(folder: Path) -> dict[str, list[str]]:
    """Command -> heavy packages that it had loaded when it ended, where there are any."""
    known = a_pool(folder) | {"out": str(folder)}
    found = {}
    for command in LIGHT:
        said = [word.format(**known) for word in command]
        spied = folder / "spied.json"
        script = SPY.replace("{heavy!r}", repr(HEAVY))
        done = subprocess.run(
            [sys.executable, "-c", script, str(spied), *said],
            capture_output=True,
            text=True,
            env=environment(),
            cwd=folder,
        )
        if done.returncode:
            raise RuntimeError(f"curate {' '.join(said)}: {done.stderr[-2000:]}")
        if loaded := json.loads(spied.read_text()):
            found[" ".join(command)] = loaded
    return found


def measure(quick: bool) -> dict[str, Bar]:
    early = early_imports(fresh("ask-commands"))
    return {
        "help_seconds": at_most(help_seconds(3 if quick else 9), 0.4),
        "early_imports": bar(early or "none", "none", not early),
    }


if __name__ == "__main__":
    print(measure("--quick" in sys.argv))
