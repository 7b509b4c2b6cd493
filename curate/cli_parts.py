"""What the commands of the command line share: options, recipes by name, and how an interruption ends."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

RecipeArg = Annotated[str, typer.Argument(help="A recipe file, or the name of a built-in one (`curate recipes`).")]
PoolArg = Annotated[str, typer.Argument(help="A pool: a folder, s3://bucket/prefix, gs://bucket/prefix.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: --set filters.english.min_prob=0.5")
]
PoolOption = Annotated[str | None, typer.Option("--pool", help="The pool, instead of the recipe's.")]
ExecutorOption = Annotated[str | None, typer.Option(help="auto, inline or ray.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Workers at most, on this machine or the cluster.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors and results only.")]
LogOption = Annotated[str, typer.Option("--log", help="How progress is told: text, or json (one object a line).")]
PrometheusOption = Annotated[
    Path | None, typer.Option(help="Keep counters in this file, for Prometheus' node exporter (textfile collector).")
]
ClipOption = Annotated[
    str | None, typer.Option(help="A CLIP for clip_text('...'): MODEL or MODEL:WEIGHTS, of open_clip.")
]


def recipe_of(name: str, overrides: list[str] | None, pool: str | None) -> Any:
    """The recipe, with what the command line overrides."""
    from curate.recipe import load_recipe

    return load_recipe(name, [*(overrides or []), *([f"pool={json.dumps(pool)}"] if pool else [])])


def again() -> str:
    """The command that was given, to be given again."""
    return shlex.join(["curate", *sys.argv[1:]])


class Terminated(KeyboardInterrupt):
    """SIGTERM, heard where Ctrl-C would be."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end with the words that matter then: nothing finished is lost, and how to go on."""

    def terminate(number: int, _: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)  # so that the terminal is put right and the status written
    try:
        yield
    except KeyboardInterrupt as e:
        how, status = ("terminated", 143) if isinstance(e, Terminated) else ("interrupted", 130)
        typer.echo(f"\ncurate: {how}; what was finished is kept. Go on with: {again()}", err=True)
        sys.exit(status)
    finally:
        signal.signal(signal.SIGTERM, before)
