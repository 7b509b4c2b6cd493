"""What keeps a comparison from being taken further than it goes: seeds, controls, overlap, missing sets, compute."""

from __future__ import annotations

from collections.abc import Iterator

from curate.ask.judge.seen import unseen
from curate.ask.judge.words import listed, outcome, repeats, uncorrected
from curate.run.compare.found import Comparison

FEW_SEEDS = 3  # below it a t interval is so wide that little can show
DEAR = 0.1  # of a training: scoring that costs less is not worth a sentence
MANY_REPEATS = 10  # from here on what is seen so often may be learnt by heart


def cautions(comparison: Comparison) -> Iterator[str]:
    """Sentences, the gravest first."""
    if comparison.a_a is not None and outcome(comparison.a_a.comparison) in ("better", "worse"):
        yield (
            "The A/A control differs: one time in twenty that is chance, otherwise the measurement is at fault. Trust "
            "no small difference here before it has come out equal with more seeds."
        )
    yield from _runs(comparison)
    yield from unseen(comparison)
    if 1 < len(comparison.seeds) < FEW_SEEDS:
        yield f"{len(comparison.seeds)} seeds: intervals are very wide; three or more are better."
    yield from _corrected(comparison)
    yield from _seen_before(comparison)
    if comparison.missing:
        yield f"Not evaluated: {listed(sorted(comparison.missing))}. Scores are over the sets that were there alone."
    often = [f"{e.name} ({repeats(e)} times)" for e in comparison.recipes if e.repeats >= MANY_REPEATS]
    if often:
        yield f"Each sample is seen often by {listed(often)}: at more compute a small set falls behind."
    yield from _scoring(comparison)
    seen = max((e.seen for e in comparison.entries), default=0)
    yield (
        f"This holds for {seen:,} samples seen a run (scale {comparison.scale}). Which filter is best depends on the "
        "compute: the more of it, the more a small set repeats itself."
    )


def _runs(comparison: Comparison) -> Iterator[str]:
    """What is unequal or missing among the runs themselves."""
    lost = [f"{e.name} in {len(e.diverged)} of {len(comparison.seeds)} seeds" for e in comparison.entries if e.diverged]
    if lost:
        yield (
            f"Training diverged for {listed(lost)}: those runs have no scores, and differences are over the seeds that "
            "both sides have. That is a result too."
        )
    if comparison.mixed:
        yield (
            f"Runs were made with different {listed(list(comparison.mixed))} (an upgrade, or another machine, between "
            "them): a difference may be of that. Delete judge/ in the pool and compare again."
        )
    batch, masked = comparison.config.get("batch", 0), comparison.config.get("mask_duplicates", False)
    small = [e.name for e in comparison.entries if e.kept < batch and not masked]
    if small:
        yield (
            f"Packs smaller than a batch of {batch:,} ({listed(small)}): a sample stands in a batch several times, and "
            "is a wrong answer to itself. `parameters: {mask_duplicates: true}` heeds that, or take a smaller batch."
        )


def _scoring(comparison: Comparison) -> Iterator[str]:
    """Equal samples seen are not equal cost, where filters had to look at the pool first."""
    dear = [
        f"{e.name} {e.scoring_samples / e.seen:.0%}".replace("%", " %")
        for e in comparison.recipes
        if e.scoring_samples and e.scoring_samples >= DEAR * e.seen
    ]
    if dear:
        yield (f"Scoring the pool, once, comes on top of the samples seen; as a share of one training: {listed(dear)}.")


def _corrected(comparison: Comparison) -> Iterator[str]:
    taken = [f"{d.a} against {d.b}" for d in comparison.differences if uncorrected(d.comparison)]
    if taken:
        yield (
            f"{len(taken)} of {len(comparison.differences)} comparisons have an interval without zero, but do not "
            f"stand after Holm's correction for so many: {'; '.join(taken)}. They count as noise."
        )


def _seen_before(comparison: Comparison) -> Iterator[str]:
    found = [f"{s.name} ({s.in_pool:,} of {s.n:,})" for s in comparison.sets if s.in_pool]
    if found:
        yield f"Pictures of these sets are in the pool too, and a recipe may keep or drop them: {listed(found)}."
