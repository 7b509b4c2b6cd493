"""Command that learns how to combine scores: `curate train-mixer`, for the stage `linear_mixer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_mixer(
    samples: Annotated[Path, typer.Argument(help="Parquet, a row a sample: scores and labels (`curate sql --out`).")],
    column: Annotated[list[str], typer.Option(help="A score; may be repeated.")],
    good: Annotated[str, typer.Option(help="The column that says which samples are good: true and false, or 0 and 1.")],
    out: Annotated[Path, typer.Option(help="The weights: JSON.")],
    penalty: Annotated[float, typer.Option(help="Of large weights; the larger, the smaller they are.")] = 1.0,
) -> None:
    """Learn a linear mixer of scores from samples called good or bad; `linear_mixer: {weights: OUT}` uses it."""
    import pyarrow.parquet as pq

    from curate.errors import UserError
    from stages.mixer_learning import learn

    if not samples.is_file():
        raise UserError(f"{samples}: no such file")
    there = pq.read_schema(samples).names
    missing = [name for name in (*column, good) if name not in there]
    if missing:
        raise UserError(f"{samples}: no column {missing[0]!r}; it has {', '.join(there)}")
    try:
        mixer = learn(pq.read_table(samples, columns=[*column, good]), column, good, penalty)
    except ValueError as e:
        raise UserError(f"{samples}: {e}") from e
    mixer.save(out)
    for name, part in mixer.columns.items():
        typer.echo(f"{name:<24} {part.weight:+.4f}")
    told = mixer.learned
    typer.echo(f"{told['samples']:,} samples, {told['good']:,} good, AUROC {told['auroc']} on themselves\nmixer: {out}")
