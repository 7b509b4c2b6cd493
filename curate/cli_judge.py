"""`curate compare`: which recipe trains the better model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from curate.cli_parts import (
    ExecutorOption,
    JsonOption,
    LogOption,
    PoolOption,
    PrometheusOption,
    QuietOption,
    SetOption,
    WorkersOption,
    again,
    interruptible,
    recipe_of,
)


def compare(
    recipes: Annotated[list[str], typer.Argument(help="Recipe files or built-in names, all over one pool.")],
    scale: Annotated[
        str | None, typer.Option(help="feature, tiny, debug, small, medium, large, xlarge; default: as `judge:` says.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each; three show large effects.")] = None,
    first_seed: Annotated[
        int, typer.Option(min=0, help="Of the first training; the others have those that follow.")
    ] = 0,
    evaluate: Annotated[
        list[str] | None, typer.Option(help="A set in CLIP_benchmark's layout, or a folder of them; several times.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="What is trained: clip, siglip, coca, blip, llava, ... (docs/families.md).")
    ] = None,
    primary: Annotated[
        str | None, typer.Option(help="What decides: SET/METRIC, or mean: over the sets of their main metrics.")
    ] = None,
    samples_seen: Annotated[int | None, typer.Option(min=1, help="Of each training; default: the scale's.")] = None,
    controls: Annotated[
        str | None, typer.Option(help="Of no_filter,random,a_a, separated by commas; none: an empty word.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also linear probes and nearest neighbours, on sets that have a train/ too.")
    ] = False,
    set_: SetOption = None,
    pool: PoolOption = None,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("comparison.html"),
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="Of one training; default 1 from `debug` on.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    log: LogOption = "text",
    prometheus: PrometheusOption = None,
) -> None:
    """Pack, train and evaluate each recipe and the controls at equal compute, and say which is better, if any is."""
    from curate.ask.judge import as_object, say, write_page
    from curate.pool.pool import Pool
    from curate.run.compare.main import compare as run
    from curate.run.compare.request import Said, make_request
    from curate.run.progress import Telling

    with interruptible():
        chosen = None if controls is None else tuple(c for c in controls.split(",") if c)
        said = Said(scale, seeds, family, tuple(evaluate or ()), primary, samples_seen, chosen, gpus, first_seed, probe)
        request = make_request([recipe_of(name, set_, pool) for name in recipes], said)
        telling = Telling(log, quiet, prometheus)
        found = run(request, executor, workers, telling=telling, command=again())
        typer.echo(json.dumps(as_object(found), indent=1) if as_json else "\n".join(say(found)))
        page = write_page(found, Pool.open(request.pool), out)  # after the verdict: it may find no room
        if not as_json:
            typer.echo(f"page: {page}")
