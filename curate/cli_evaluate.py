"""`curate evaluate`: what one model is good for, on the evaluation sets that people have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from curate.cli_parts import JsonOption, QuietOption, interruptible


def evaluate(
    model: Annotated[str, typer.Argument(help="filter.pt, towers.pt, a run's folder, or NAME:WEIGHTS of open_clip.")],
    sets: Annotated[list[str], typer.Argument(help="Sets in CLIP_benchmark's layout, or folders of such.")],
    against: Annotated[
        str | None, typer.Option(help="Another model: differences, with intervals over the test items.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also linear probes and nearest neighbours, on sets that have a train/ too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap over items, and of what probes hold out.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: a GPU where there is one.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Results as CLIP_benchmark's JSON lines; a set that has one is not redone."),
    ] = None,
    pictures: Annotated[
        int | None, typer.Option(min=4, help="Captioned, matched, or classified by likelihood at most; default: 500.")
    ] = None,
    beams: Annotated[
        int | None, typer.Option(min=1, help="Of the search for captions; 1 is greedy; default: 3.")
    ] = None,
    clipscore: Annotated[
        str | None, typer.Option(help="Another model with vectors: CLIPScore of the captions by it.")
    ] = None,
    questions: Annotated[int | None, typer.Option(min=4, help="Answered at most; default: 1,000.")] = None,
    pairs: Annotated[
        int | None,
        typer.Option(min=4, help="Of a picture and a prompt, where classes are told by likelihood; default: 20,000."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Zero-shot classification, retrieval, DataComp's tasks, probes, captions, matching, answers: what a model scores,
    and how sure that is."""
    from curate.ask.judge.alone import evaluation_as_object, say_evaluation
    from curate.run.compare.alone import evaluate_model
    from curate.run.compare.alone_found import How

    def tell(name: str) -> None:
        if not quiet:
            typer.echo(f"evaluating on {name}", err=True)

    with interruptible():
        how = How(probe, seed, device, out, pictures, beams, clipscore, questions, pairs)
        found = evaluate_model(model, sets, against, how, tell)
        typer.echo(json.dumps(evaluation_as_object(found), indent=1) if as_json else "\n".join(say_evaluation(found)))
