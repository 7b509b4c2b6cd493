"""The command line: `curate init | plan | run | pack | status | sql | show | diff | report | recipes | schema | ...`.

Heavy packages are imported by the commands that need them, so that `curate --help` is quick.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from curate.cli_capfilt import capfilt
from curate.cli_documents import export_documents, export_llava, import_documents, import_llava
from curate.cli_evaluate import evaluate
from curate.cli_hype import hype_reference
from curate.cli_interchange import export_img2dataset, import_img2dataset
from curate.cli_judge import compare
from curate.cli_metadata import app as metadata
from curate.cli_mixer import train_mixer
from curate.cli_parts import (
    ClipOption,
    ExecutorOption,
    JsonOption,
    LogOption,
    PoolArg,
    PoolOption,
    PrometheusOption,
    QuietOption,
    RecipeArg,
    SetOption,
    WorkersOption,
    again,
    interruptible,
    recipe_of,
)
from curate.cli_training import export_model, train_filter
from curate.errors import PartialFailure, UserError
from curate.text import visible

NEW_LINE = "\n"

app = typer.Typer(
    name="curate",
    help="Turn web-scale image-text pairs into training sets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich would double the time it takes
)


@app.command()
def plan(
    recipe: RecipeArg,
    set_: SetOption = None,
    pool: PoolOption = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    rows: Annotated[
        float | None, typer.Option(min=1, help="Also the cost for so many rows of input, such as 12.8e9.")
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Measure rates on so many shards, in a scratch copy; 0: rates of earlier runs.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Say what a run would do, what is there already, why the rest is not, and what it costs. Runs nothing."""
    from curate.run.planning import print_plan

    chosen = recipe_of(recipe, set_, pool)
    print_plan(chosen, as_json=as_json, executor=executor, workers=workers, rows=rows, sample=sample)


@app.command()
def run(
    recipe: RecipeArg,
    set_: SetOption = None,
    pool: PoolOption = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    pack: Annotated[bool, typer.Option(help="Write the training shards that the recipe's `pack:` asks for.")] = True,
    report: Annotated[bool, typer.Option(help="Write the report page.")] = True,
    out: Annotated[Path | None, typer.Option(help="Where the report goes; default <recipe>-report.html.")] = None,
    retry: Annotated[
        str | None,
        typer.Option(help="Try failures again whose time has come: transient, or outcomes by name (timeout,dns)."),
    ] = None,
    quiet: QuietOption = False,
    log: LogOption = "text",
    prometheus: PrometheusOption = None,
) -> None:
    """Fetch, describe, filter, pick, pack: do what is missing, and say what was kept."""
    from curate.run.main import run_recipe
    from curate.run.progress import Telling
    from curate.run.retry import transient

    with interruptible():
        telling = Telling(log, quiet, prometheus)
        tried = () if retry is None else transient(retry)
        chosen = recipe_of(recipe, set_, pool)
        page = (out or Path(f"{chosen.name}-report.html")) if report else None
        run_recipe(chosen, executor, workers, pack=pack, report=page, command=again(), telling=telling, retry=tried)


@app.command()
def pack(
    recipe: RecipeArg,
    set_: SetOption = None,
    pool: PoolOption = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    subset: Annotated[Path | None, typer.Option(help="Also write the pick as a DataComp subset file (.npy).")] = None,
    quiet: QuietOption = False,
    log: LogOption = "text",
    prometheus: PrometheusOption = None,
) -> None:
    """Write a recipe's pick as training shards (runs what is missing before)."""
    from curate.run.main import run_recipe
    from curate.run.progress import Telling

    with interruptible():
        telling = Telling(log, quiet, prometheus)
        run_recipe(
            recipe_of(recipe, set_, pool), executor, workers, pack=True, report=None, command=again(), subset=subset,
            always_pack=True, telling=telling,
        )  # fmt: skip


@app.command()
def status(
    pool: PoolArg,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every few seconds, until the run ends.")]
    = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """What is in a pool, and what its last run is doing or died of."""
    from curate.ask.status import print_status

    print_status(pool, as_json=as_json, watch=watch)


@app.command()
def sql(
    pool: PoolArg,
    query: Annotated[
        str | None, typer.Argument(help="A SELECT over samples, fetches, picks, funnel, removed; none: a shell.")
    ] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="table, csv, json, jsonl or parquet.")] = "table",
    recipe: Annotated[str | None, typer.Option(help="Give this recipe's columns their plain names.")] = None,
    clip: ClipOption = None,
    out: Annotated[Path | None, typer.Option(help="Write to a file instead of the terminal.")] = None,
) -> None:
    """Ask the pool in SQL (DuckDB). The connection can read this pool and nothing else."""
    import curate

    handle = curate.open(pool, recipe, clip=clip)
    if query is None:
        if out is not None:
            raise UserError("--out needs a query; in the shell, `.out FILE` writes the next answer to a file")
        from curate.ask.shell import shell

        return shell(handle, format)
    from curate.ask.output import print_result

    with out.open("wb") if out else nullcontext(sys.stdout.buffer) as stream:
        print_result(handle.sql(query), format, stream)


@app.command()
def show(
    pool: PoolArg,
    uids: Annotated[
        list[str], typer.Argument(help="32 hex digits each, or the first of them; - reads them from stdin.")
    ],
    recipe: Annotated[str | None, typer.Option(help="Say what became of them under this recipe.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the stored images and a page into this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Samples with their picture, captions, all columns, and what each filter said."""
    from curate.ask.show import print_samples

    print_samples(pool, uids, recipe=recipe, out=out, as_json=as_json)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A recipe file or name, or a pick of the pool.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The recipe to compare it with, on the same pool.")],
    pool: PoolOption = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of B: --set filters.english.min_prob=0.5")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page; default <A>-<B>-diff.html.")] = None,
    page: Annotated[bool, typer.Option(help="Write the page with pictures.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Which samples B keeps that A does not and the other way round, by filter, with pictures."""
    from curate.ask.diff import print_diff

    print_diff(a, b, pool=pool, overrides=set_ or [], out=out, page=page, as_json=as_json)


@app.command()
def report(
    recipe: RecipeArg,
    set_: SetOption = None,
    pool: PoolOption = None,
    out: Annotated[Path | None, typer.Option(help="The page; default <recipe>-report.html.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="A folder of pages instead, with more samples and whole lists of uids.")
    ] = None,
) -> None:
    """What a recipe kept and lost, with pictures: one page, or a folder for a big pool."""
    from curate.run.main import report_of

    chosen = recipe_of(recipe, set_, pool)
    typer.echo(report_of(chosen, out or Path(f"{chosen.name}-report.html"), folder=folder))


@app.command()
def gc(
    pool: PoolArg,
    older_than: Annotated[float, typer.Option(help="Hours; younger files may belong to a living run.")] = 2.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
) -> None:
    """Remove temporary files of dead runs and what lost a race."""
    from curate.pool.pool import Pool
    from curate.pool.upkeep import collect, leftovers

    opened = Pool.open(pool)
    found = leftovers(opened, older_than * 3600)
    for item in found:
        typer.echo(f"{item.size:>14,}  {item.rel}  ({item.why})")
    if not dry_run:
        collect(opened, found)
    typer.echo(f"{len(found)} {'found' if dry_run else 'removed'}, {sum(i.size for i in found):,} bytes")


@app.command()
def purge(
    pool: PoolArg,
    uids: Annotated[Path, typer.Option(help="A file with one uid (hex) a line; - for standard input.")],
    why: Annotated[str, typer.Option(help="The reason, kept with the list of removed uids.")],
) -> None:
    """Take samples down: out of every view, pick and pack to come, their images blanked."""
    from curate.pool.pool import Pool
    from curate.pool.upkeep import parse_uids
    from curate.pool.upkeep import purge as purge_uids

    text = sys.stdin.read() if str(uids) == "-" else uids.read_text()
    done = purge_uids(Pool.open(pool), parse_uids(text.splitlines()), why)
    typer.echo(f"{done.asked:,} uids taken out, {done.blanked:,} images blanked, {done.not_in_pool:,} not in the pool")
    if done.packs:
        typer.echo("packs written before still hold copies; make them again or delete them: " + ", ".join(done.packs))


app.command()(compare)
app.command()(evaluate)
app.command()(capfilt)
app.command(name="train-filter")(train_filter)
app.command(name="export-model")(export_model)
app.command(name="train-mixer")(train_mixer)
app.command(name="hype-reference")(hype_reference)
app.add_typer(metadata)
app.command(name="import-img2dataset")(import_img2dataset)
app.command(name="export-img2dataset")(export_img2dataset)
app.command(name="import-documents")(import_documents)
app.command(name="export-documents")(export_documents)
app.command(name="import-llava")(import_llava)
app.command(name="export-llava")(export_llava)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this one, resolved.")] = None, as_json: JsonOption = False
) -> None:
    """List the built-in recipes with their papers and needs, or print one."""
    from curate.recipe_list import listed, one_as_json, shown, table

    if name is not None:
        typer.echo(one_as_json(name) if as_json else shown(name), nl=as_json)
    elif as_json:
        typer.echo(json.dumps([vars(found) for found in listed()], indent=1))
    else:
        typer.echo(table(listed()))


@app.command()
def schema(
    out: Annotated[
        Path | None, typer.Option(help="Write it there, and say which line a recipe begins with to be checked by it.")
    ] = None,
) -> None:
    """JSON schema of recipes, by which editors complete and check them.

    A recipe that begins with the line

        # yaml-language-server: $schema=recipe.schema.json

    and lies beside that file is completed and checked by every editor with yaml-language-server (VS Code, Neovim,
    Emacs, Helix). `curate init` writes that line.
    """
    from curate.recipe_schema import schema as recipe_schema
    from curate.recipe_schema import write_schema

    typer.echo(json.dumps(recipe_schema(), indent=1) if out is None else write_schema(out))


@app.command()
def init(
    source: Annotated[str, typer.Argument(help="The input: parquet, csv, tars, a folder of images.")],
    out: Annotated[Path, typer.Option(help="The recipe to write.")] = Path("recipe.yaml"),
) -> None:
    """Look at an input and write a recipe that runs."""
    from curate.init import write_recipe
    from curate.init.say import summary

    typer.echo(summary(write_recipe(source, out), out))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's web, pool and report go.")] = Path("quickstart"),
    scenes: Annotated[int, typer.Option(min=50, help="Pictures to draw.")] = 2000,
    port: Annotated[int, typer.Option(help="Loopback port of the demo's web server.")] = 8765,
    executor: ExecutorOption = "ray",
) -> None:
    """Draw a small web with planted faults, run the main job on it, compare found with planted."""
    from curate.demo.quickstart import quickstart

    with interruptible():
        quickstart(folder, scenes, port, executor or "ray")


def main() -> None:
    """Entry point: errors that a person can mend are printed without a traceback.

    Exit status: 0 done, 1 an error to mend, 2 wrong usage, 3 shards failed for good, 130 interrupted, 143 terminated.
    """
    try:
        app()
    except PartialFailure as e:
        typer.echo(f"curate: {visible(str(e), NEW_LINE)}", err=True)
        sys.exit(3)
    except UserError as e:
        typer.echo(f"curate: {visible(str(e), NEW_LINE)}", err=True)  # it may quote what stands in the input
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as e:
        if e.filename is None:
            raise
        typer.echo(f"curate: {e.filename}: {e.strerror}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
