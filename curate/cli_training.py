"""Commands that train, and hand on what was trained: `curate train-filter`, `curate export-model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli_parts import QuietOption, again, interruptible, recipe_of
from curate.errors import UserError

if TYPE_CHECKING:
    from training_smoke.average import Average
    from training_smoke.config import Config
    from training_smoke.filter_network import FineTune
    from training_smoke.packs import Pack

PackArg = Annotated[
    str, typer.Argument(metavar="PACK_OR_RECIPE", help="Clean pairs: the folder of a pack, or a recipe, which is run.")
]


def train_filter(
    pack: PackArg,
    out: Annotated[Path, typer.Option(help="The folder: filter.pt, its card, and the training's own folders.")],
    scale: Annotated[str | None, typer.Option(help="Model, batch and samples seen, by name; default tiny.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="clip, siglip, or meru: CLIP in hyperbolic space, for `hype`; default clip.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A config.json in place of --scale and --objective.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Samples seen, in place of the scale's.")] = None,
    fine_tune: Annotated[
        str | None, typer.Option("--fine-tune", help="Still cleaner pairs to end with: a pack or a recipe.")
    ] = None,
    fine_tune_samples: Annotated[
        int | None, typer.Option(min=1, help="Samples seen in the fine-tune; default a tenth of the training's.")
    ] = None,
    fine_tune_rate: Annotated[
        float, typer.Option(min=0, help="Its learning rate, as a multiple of the training's.")
    ] = 0.1,
    average: Annotated[
        list[str] | None,
        typer.Option(
            help="Weights averaged: ema:0.999 over steps, last:5 of 20 points of the training, wise:0.5 of fine-tuned "
            "and not. Give it twice for both kinds."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and order both.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Train a data filtering network on clean pairs: `clip_score: {weights: OUT/filter.pt}` scores a pool with it.

    The same command goes on where it was stopped; weights trained on a CPU are then the same, to the bit.
    """
    with interruptible():
        from training_smoke.errors import TrainingError
        from training_smoke.filter_network import Plan
        from training_smoke.filter_network import train_filter as train

        try:
            chosen = _config(scale, objective, config, samples, seed)
            mean, wise = _averages(average or [])
            clean = {pack_of(pack, quiet): 1.0}
            tuned = _fine_tune(fine_tune, fine_tune_samples, fine_tune_rate, chosen, quiet)
            path = train(out, Plan(chosen, clean, tuned, mean, wise), quiet=quiet)
        except TrainingError as e:
            raise UserError(str(e)) from e
    typer.echo(f"filter: {path}\ncard: {path.with_name('README.md')}")


def export_model(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A file (towers.pt, filter.pt), or the folder of a training run.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must be new or empty.")],
) -> None:
    """Write a trained model as open_clip or transformers loads it, tokenizer included, with no code of curate."""
    with interruptible():
        from training_smoke.errors import TrainingError
        from training_smoke.export import export_model as export

        try:
            found = export(model, out)
        except TrainingError as e:
            raise UserError(str(e)) from e
    typer.echo(f"model: {found}")


def _config(
    scale: str | None, objective: str | None, path: Path | None, samples: int | None, seed: int | None
) -> Config:
    """What is said on the command line, over the scale or file."""
    from training_smoke.config import SCALES, Config
    from training_smoke.families import PAIRS

    for option, said in (("--scale", scale), ("--objective", objective)):
        if path is not None and said is not None:
            raise UserError(f"{option} and --config: give one of them")
    if path is None and (scale or "tiny") not in SCALES:
        raise UserError(f"--scale {scale}: it is one of {', '.join(SCALES)}")
    if objective is not None and objective not in PAIRS:
        raise UserError(f"--objective {objective}: it is one of {', '.join(PAIRS)}; others have no two towers")
    found = SCALES[scale or "tiny"].but(objective=objective or "clip") if path is None else Config.load(path)
    if samples is not None:
        found = found.but(samples=max(1, samples // found.batch) * found.batch)
    return found if seed is None else found.but(init_seed=seed, order_seed=seed)


def _averages(said: list[str]) -> tuple[Average | None, float | None]:
    """(mean over steps, share of the fine-tuned weights)."""
    from training_smoke.average import Average

    wise = [s for s in said if s.startswith("wise:")]
    means = [s for s in said if s not in wise]
    if len(wise) > 1 or len(means) > 1:
        raise UserError(f"--average {' --average '.join(said)}: one mean over steps and one wise at most")
    try:
        share = float(wise[0].removeprefix("wise:")) if wise else None
    except ValueError as e:
        raise UserError(f"--average {wise[0]}: it is wise:S with S between 0 and 1, as wise:0.5") from e
    return Average.parse(means[0]) if means else None, share


def _fine_tune(pack: str | None, samples: int | None, rate: float, config: Config, quiet: bool) -> FineTune | None:
    from training_smoke.filter_network import FineTune

    if pack is None:
        if samples is not None:
            raise UserError("--fine-tune-samples: say on which pairs, with --fine-tune PACK_OR_RECIPE")
        return None
    return FineTune({pack_of(pack, quiet): 1.0}, samples or config.samples // 10, rate)


def pack_of(name: str, quiet: bool) -> Pack:
    """The pack of this folder or URL; of a recipe, run and packed.

    Raises:
        UserError: there is neither.
    """
    from training_smoke.packs import Pack

    if "://" in name or (Path(name) / "manifest.json").is_file():
        return Pack.open(_from_anywhere(name))
    if Path(name).is_dir():
        raise UserError(f"{name} is a folder without manifest.json: no pack (they lie in POOL/packs), and no recipe")
    from curate.run.job import Job
    from curate.run.progress import Progress, Telling

    recipe = recipe_of(name, None, None)
    job = Job(recipe)
    with Progress(None, again(), telling=Telling("text", quiet)) as progress:
        try:
            manifest = job.pack(progress, job.run(progress).pick)
        finally:
            job.choice.close()
    return Pack.open(_from_anywhere(f"{recipe.pool}/{manifest['folder']}"))


def _from_anywhere(url: str) -> str:
    """The run's folder names its packs: the same command from another folder is then the same run."""
    return url if "://" in url else str(Path(url).absolute())
