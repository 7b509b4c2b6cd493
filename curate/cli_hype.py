"""Command that draws what HYPE measures by: `curate hype-reference`, for the stage `hype`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli_parts import QuietOption, interruptible
from curate.cli_training import PackArg, pack_of
from curate.errors import UserError


def hype_reference(
    pack: PackArg,
    weights: Annotated[Path, typer.Option(help="Towers of `curate train-filter --objective meru`: filter.pt.")],
    out: Annotated[Path, typer.Option(help="The vectors: .npz.")],
    count: Annotated[int, typer.Option(min=1, help="Pairs; all, where the pack has fewer.")] = 4096,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, or cuda for a GPU.")] = "cpu",
    quiet: QuietOption = False,
) -> None:
    """Draw pairs of a pack and keep their vectors: `hype: {weights: WEIGHTS, reference: OUT}` measures by them."""
    with interruptible():
        from stages.hype_reference import make_reference
        from stages.hyperbolic_weights import space
        from training_smoke.errors import TrainingError

        try:
            space(str(weights))  # refuses other weights before a recipe is run for its pack
            found = make_reference(str(weights), pack_of(pack, quiet), out, count=count, seed=seed, device=device)
        except (TrainingError, ValueError) as e:
            raise UserError(str(e)) from e
    typer.echo(f"reference: {out}, {found:,} pairs")
