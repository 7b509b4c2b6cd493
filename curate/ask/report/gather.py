"""Gather what a report tells about one pick: numbers, tables, and the samples that it shows.

found = gather(pool, "picks/demo@0123456789ab")

The same pick of the same pool gives the same answer, in whatever order shards were made; only timings, which tell of
runs, may differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from curate.ask.funnel import funnel
from curate.ask.pictures import Emitted, Shown, look_up
from curate.ask.report.candidates import Candidate, Place, score
from curate.ask.report.compared import beside, find_compared, in_the_pool, keep_one_steps
from curate.ask.report.contamination import contamination
from curate.ask.report.downloads import downloads
from curate.ask.report.emitted import emitted
from curate.ask.report.found import FilterFound, Found, Group
from curate.ask.report.groups import GROUPS, MEMBERS, Members, find_samples, largest_groups
from curate.ask.report.histograms import Axis
from curate.ask.report.margins import Asked, find_steps
from curate.ask.report.pairs import find_pairs, in_pairs, keepers_of, places_of
from curate.ask.report.shards import Ground, Sight, walk
from curate.ask.report.survey import OfStep, Survey, axes, bounded, survey
from curate.ask.report.tables import tables
from curate.ask.report.timings import timings
from curate.ask.report.uid_lists import uid_lists
from curate.ask.sql import Session
from curate.ask.views import Views
from curate.pool.pool import Pool
from curate.recipe_models import WEB
from curate.run.executors import interruptible

SHEETS = 33  # full contact sheets' worth of pictures in all: with more filters, sheets are smaller
FEWEST = 4  # samples on a sheet, however many filters there are


def gather(pool: Pool, pick_folder: str, *, samples: int = 24) -> Found:
    """All that a report tells about a finished pick.

    Args:
        pick_folder: ``picks/<recipe>@<hash>``.
        samples: pictures on each contact sheet; fewer where there are so many filters that the page would burst.

    Raises:
        UserError: the pick is not finished, or its files do not fit the pool.
        KeyboardInterrupt: Ctrl-C, also where DuckDB makes another error of it.
    """
    with interruptible():
        return _gather(pool, pick_folder, samples)


def _gather(pool: Pool, pick_folder: str, samples: int) -> Found:
    pick = funnel(pool, pick_folder)
    about = pool.about(pick_folder)
    session = Session(Views(pool, pick_folder))
    ground = bounded(Ground(pool, pick_folder, find_steps(pool, about), sorted(about["shards"])))
    lines = axes(ground)
    seen = survey(ground, lines, sheet_size(samples, len(ground.steps)))
    groups, sizes = largest_groups(session, ground)
    near = find_pairs(ground, find_compared(ground))
    said = _said(ground, {s.number: _shown(of) for s, of in zip(ground.steps, seen.steps, strict=True)})
    stays = {v.dup_of for of_step in said.values() for v in of_step.values() if v.dup_of is not None}
    places = find_samples(ground, stays | {g.keeper for g in groups} | keepers_of(near), groups)
    album = _album(ground, about, seen, groups, {*places.values(), *places_of(near)})
    return Found(
        pick=pick,
        about=about,
        filters={
            s.id: replace(
                _filter(s, lines[s.number], seen.steps[s.number], said[s.number], album), beside=beside(pool, s)
            )
            for s in ground.steps
        },
        keepers={uid: album[place] for uid, place in places.items()},
        groups=[_group(g, places, album) for g in groups],
        group_sizes=sizes,
        downloads=downloads(session),
        counts=tables(session),
        timings=timings(pool),
        uid_lists=uid_lists(session, pick_folder, [s.id for s in pick.steps]),
        final=[album[c.place] for c in seen.final.found],
        near_pairs=[in_pairs(of_step, places, album) for of_step in near],
        contamination=contamination(ground),
        in_pool=list(filter(None, (in_the_pool(pool, step) for step in keep_one_steps(ground)))),
    )


def sheet_size(samples: int, filters: int) -> int:
    """Samples on each sheet of a filter: lost, those that stayed for them, kept, borderline."""
    left = SHEETS * samples - samples - GROUPS * (MEMBERS + 1)
    return min(samples, max(left // max(4 * filters, 1), FEWEST))


@dataclass(frozen=True)
class Said:
    """What a filter said of a sample."""

    reason: str | None
    dup_of: bytes | None


def _said(ground: Ground, wanted: Mapping[int, set[Place]]) -> dict[int, dict[Place, Said]]:
    """By number of the filter, its verdicts on these samples."""
    found: dict[int, dict[Place, Said]] = {number: {} for number in wanted}

    def look(sight: Sight) -> dict[int, dict[Place, Said]]:
        rows = {n: sorted(row for shard, row in places if shard == sight.shard) for n, places in wanted.items()}
        return {n: _said_of(sight, ground.steps[n], r) for n, r in rows.items() if r}

    for of_shard in walk(ground, look, sorted({shard for places in wanted.values() for shard, _ in places})):
        for number, of_step in of_shard.items():
            found[number] |= of_step
    return found


def _said_of(sight: Sight, step: Asked, rows: Sequence[int]) -> dict[Place, Said]:
    verdicts = sight.verdict(step, ["reason", "dup_of"]).take(rows).to_pylist()
    return {(sight.shard, row): Said(v["reason"], v.get("dup_of")) for row, v in zip(rows, verdicts, strict=True)}


def _shown(of_step: OfStep) -> set[Place]:
    return {c.place for c in (*of_step.lost.found, *of_step.kept.found, *of_step.borderline())}


def _album(
    ground: Ground, about: Mapping[str, Any], seen: Survey, groups: Sequence[Members], more: Iterable[Place]
) -> dict[Place, Shown]:
    """Everything that is shown, each sample looked up once, with the texts that it has in the pick."""
    places = {c.place for c in seen.final.found}.union(more, *(_shown(of_step) for of_step in seen.steps))
    places |= {c.place for g in groups for c in g.lost.found}
    ordered = sorted(places)
    texts = emitted(ground, about, ordered)
    album = dict(zip(ordered, look_up(ground.pool, ordered), strict=True))
    return {place: _with_texts(sample, texts.get(place, ())) for place, sample in album.items()}


def _with_texts(sample: Shown, texts: tuple[Emitted, ...]) -> Shown:
    """With its texts in the pick. A single web text, once, is the caption that stands there anyway."""
    plain = [(t.source, t.copies) for t in texts] == [(WEB, 1)]
    return sample if plain else replace(sample, texts=texts)


def _filter(
    step: Asked, lines: Sequence[Axis | None], of_step: OfStep, said: Mapping[Place, Said], album: Mapping[Place, Shown]
) -> FilterFound:
    def shown(candidates: Iterable[Candidate]) -> list[Shown]:
        return [_with_score(step, c, said[c.place], album[c.place]) for c in candidates]

    return FilterFound(
        of_step.histograms(step.margins, lines),
        shown(of_step.lost.found),
        shown(of_step.kept.found),
        shown(of_step.borderline()),
    )


def _with_score(step: Asked, candidate: Candidate, said: Said, sample: Shown) -> Shown:
    words = score(step.margins, candidate.values, lost=said.reason is not None)
    return replace(sample, reason=said.reason, dup_of=said.dup_of, score=words)


def _group(group: Members, places: Mapping[bytes, Place], album: Mapping[Place, Shown]) -> Group:
    """Its members are as a sheet shows them: dropped, and for whom."""
    lost = [replace(album[c.place], dup_of=group.keeper) for c in group.lost.found]
    keeper = album[places[group.keeper]] if group.keeper in places else None
    return Group(group.step.id, group.size, keeper, tuple(lost))
