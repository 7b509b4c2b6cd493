"""`curate capfilt`: a captioner and a filter from one BLIP, and the pairs that they make of a web pool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli_parts import ExecutorOption, QuietOption, WorkersOption, again, interruptible
from curate.errors import UserError


def capfilt(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A BLIP: towers.pt, a run's folder, a folder of `curate export-model` or of transformers, a hub name.",
        ),
    ],
    clean: Annotated[
        str,
        typer.Argument(metavar="CLEAN", help="Clean pairs: the folder of a pack, or a recipe, which is run."),
    ],
    web: Annotated[
        str,
        typer.Argument(
            metavar="WEB",
            help="Pairs of the web: a recipe without captions whose filters look at one sample at a time, or the "
            "folder of a pack.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder: captioner.pt, filter.pt, capfilt.yaml, summary.json, pool.")],
    pool: Annotated[
        str | None,
        typer.Option(
            help="The pool that captions are written into, in place of OUT/pool; the clean pairs become a list of it."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of fine-tuning over the clean pairs; default 5 and 6, as BLIP's on COCO.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Of fine-tuning; default 256, of a tiny BLIP 64.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Learning rate of fine-tuning; default 1e-5, of a tiny BLIP 3e-4.")
    ] = None,
    p: Annotated[
        float, typer.Option("--p", min=0.01, max=1, help="Of nucleus sampling, by which captions are drawn.")
    ] = 0.9,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="A text is kept whose probability to match lies above.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Of fine-tuning and of captions.")] = 0,
    run: Annotated[bool, typer.Option(help="Run the recipe, too; without, models and recipe are made.")] = True,
    report: Annotated[bool, typer.Option(help="Write the report page, OUT/report.html.")] = True,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    quiet: QuietOption = False,
) -> None:
    """Caption web pictures, drop texts of either kind that do not match, and pack them with the clean pairs (BLIP).

    The same command goes on where it was stopped.
    """
    with interruptible():
        from curate.cli_training import pack_of
        from curate.run.capfilt.main import Asked, prepare
        from curate.run.capfilt.main import capfilt as whole
        from curate.run.capfilt.recipe import Web
        from curate.run.capfilt.start import Start
        from curate.run.capfilt.summary import lines
        from curate.run.progress import Telling
        from training_smoke.errors import TrainingError

        telling = Telling("text", quiet)
        try:
            start, pairs = Start.of(model, batch, rate), Web.of(web)
            asked = Asked(start, pairs, pack_of(clean, quiet), out, pool, epochs, p, threshold, seed)
            if not run:
                typer.echo(f"recipe: {prepare(asked, quiet=quiet)}")
                return
            page = out / "report.html" if report else None
            found = whole(asked, executor, workers, report=page, command=again(), telling=telling)
        except TrainingError as e:
            raise UserError(str(e)) from e
    typer.echo("\n".join(lines(found)))
    typer.echo(f"recipe: {out / 'capfilt.yaml'}\nsummary: {out / 'summary.json'}")
