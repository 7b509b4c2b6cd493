"""Commands for documents and conversations: `curate import-documents | export-documents | import-llava | ...`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from curate.cli_parts import LogOption, PoolArg, QuietOption, again, interruptible
from curate.errors import UserError

FORMATS = ("mmc4", "obelics")
FormatOption = Annotated[str | None, typer.Option("--format", help="mmc4 or obelics.")]


def import_documents(
    pool: PoolArg,
    paths: Annotated[list[str], typer.Argument(help="MMC4's .jsonl, .jsonl.gz, .jsonl.zip, or OBELICS' .parquet.")],
    format: FormatOption = None,
    text: Annotated[
        str, typer.Option(help="Text of the pictures' samples: none; matched: MMC4's sentence; alt: OBELICS' alt text.")
    ] = "none",
    name: Annotated[str | None, typer.Option(help="Of the documents; default: the first file's.")] = None,
    images: Annotated[
        str | None, typer.Option(help="A folder that has the pictures already, under the documents' names of them.")
    ] = None,
    quiet: QuietOption = False,
    log: LogOption = "text",
) -> None:
    """Take interleaved documents into a pool: a table of them, and the list of their pictures. Downloads nothing."""
    from curate.interchange.interleaved_take import import_documents as take
    from curate.run.progress import Telling

    rule: Any = text
    with interruptible():
        for line in take(
            paths, pool, form=_format(format), rule=rule, name=name, images=images, telling=Telling(log, quiet),
            command=again(),
        ):  # fmt: skip
            typer.echo(line)


def export_documents(
    pool: PoolArg,
    folder: Annotated[str, typer.Argument(help="Where they go: a folder, s3://bucket/prefix, gs://bucket/prefix.")],
    recipe: Annotated[str, typer.Option(help="The recipe whose pick says which pictures stay.")],
    documents: Annotated[str | None, typer.Option(help="Which ones, where the pool has several.")] = None,
    format: FormatOption = None,
    by: Annotated[
        str, typer.Option(help="A picture stays if its url was kept; or, sha256: any picture of the same bytes.")
    ] = "url",
    least: Annotated[int, typer.Option(min=0, help="Pictures of a document that stays.")] = 1,
    most: Annotated[int | None, typer.Option(min=0, help="The same, at most.")] = None,
    assign: Annotated[
        str | None,
        typer.Option(
            help="Assign pictures to sentences anew: stored (by the similarities of MMC4), or a column of image "
            "vectors of a CLIP, such as clip_image."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda: where --assign makes vectors of sentences.")] = "cpu",
    quiet: QuietOption = False,
    log: LogOption = "text",
) -> None:
    """Write a pool's documents with the pictures that a recipe has kept, as MMC4 or OBELICS. Run again, it goes on."""
    from curate.interchange.interleaved_give import Wanted
    from curate.interchange.interleaved_give import export_documents as give
    from curate.run.progress import Telling

    if by not in ("url", "sha256") or device not in ("cpu", "cuda"):
        raise UserError("--by is url or sha256, --device is cpu or cuda")
    join: Any = by
    with interruptible():
        wanted = Wanted(_format(format), join, least, most, assign)
        for line in give(
            pool, folder, recipe=recipe, documents=documents, wanted=wanted, device=device,
            telling=Telling(log, quiet), command=again(),
        ):  # fmt: skip
            typer.echo(line)


def import_llava(
    pool: PoolArg,
    path: Annotated[str, typer.Argument(help="LLaVA's JSON array, or JSON lines of the same entries.")],
    images: Annotated[str, typer.Option(help="The folder that its `image` is relative to.")],
    name: Annotated[str | None, typer.Option(help="Of the list; default: the file's.")] = None,
) -> None:
    """Take LLaVA's conversations into a pool: the list of pictures with their turns, which a recipe ingests."""
    from curate.interchange.llava import import_llava as take

    with interruptible():
        for line in take(path, pool, images=images, name=name):
            typer.echo(line)


def export_llava(
    pack: Annotated[str, typer.Argument(help="A pack: POOL/packs/RECIPE@HASH.")],
    folder: Annotated[str, typer.Argument(help="Where llava.json and images/ go.")],
    every: Annotated[
        bool, typer.Option("--every", help="An entry for each text of a sample, not the likeliest.")
    ] = False,
    images: Annotated[bool, typer.Option(help="Write the pictures.")] = True,
) -> None:
    """Write a pack as LLaVA's trainers read it: one JSON of conversations, and the pictures as files."""
    from curate.interchange.llava import export_llava as give

    with interruptible():
        for line in give(pack, folder, every=every, images=images):
            typer.echo(line)


def _format(name: str | None) -> Any:
    if name is not None and name not in FORMATS:
        raise UserError(f"--format {name}: it is {' or '.join(FORMATS)}")
    return name
