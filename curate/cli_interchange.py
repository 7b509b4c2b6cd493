"""Commands for other tools' layouts: `curate import-img2dataset | export-img2dataset`."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.cli_parts import (
    ExecutorOption,
    LogOption,
    PoolArg,
    QuietOption,
    WorkersOption,
    again,
    interruptible,
    recipe_of,
)


def import_img2dataset(
    folder: Annotated[str, typer.Argument(help="The output_folder of img2dataset: webdataset, files or parquet.")],
    pool: PoolArg,
    name: Annotated[str | None, typer.Option(help="Of the list; default: the folder's.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Store pixels as this recipe's `ingest:` says; default: the bytes as they are.")
    ] = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    quiet: QuietOption = False,
    log: LogOption = "text",
) -> None:
    """Take what img2dataset has downloaded into a pool: images, captions, columns, failures. Downloads nothing."""
    from curate.interchange.take import import_folder
    from curate.run.progress import Telling

    with interruptible():
        like = None if recipe is None else recipe_of(recipe, None, pool)
        size = 10_000 if like is None else like.shard_size
        for line in import_folder(
            folder, pool, name=name, spec=like and like.ingest, shard_size=size, executor=executor, workers=workers,
            telling=Telling(log, quiet), command=again(),
        ):  # fmt: skip
            typer.echo(line)


def export_img2dataset(
    pool: PoolArg,
    folder: Annotated[str, typer.Argument(help="Where it goes: a folder, s3://bucket/prefix, gs://bucket/prefix.")],
    quiet: QuietOption = False,
    log: LogOption = "text",
) -> None:
    """Write a pool in the layout of img2dataset: tars, tables, statistics. Run again, it adds what is new."""
    from curate.interchange.export import export_folder
    from curate.run.progress import Telling

    with interruptible():
        for line in export_folder(pool, folder, telling=Telling(log, quiet), command=again()):
            typer.echo(line)
