"""The section on duplicates: for each keep-one filter its groups, how far apart near samples are, and the pairs at its
bound, with pictures.

html = duplicates_section(found, pictures, most=None)
"""

from __future__ import annotations

from collections.abc import Iterable

from curate.ask.report import figures
from curate.ask.report.figures import Pictures
from curate.ask.report.found import Found, Group, InPool, NearPairs
from curate.ask.report.html import bar, number, section, table, text
from curate.ask.report.plots import histogram

SIZES = ((1, "1"), (2, "2"), (3, "3"), (4, "4"), (9, "5 to 9"), (99, "10 to 99"), (999, "100 to 999"))
KEY = (
    '<ul class="key"><li><i class="keep"></i>pairs that both stay</li>'
    '<li><i class="lose"></i>pairs of which one goes</li></ul>'
)


def duplicates_section(found: Found, pictures: Pictures, most: int | None) -> str:
    """Args: most: samples shown of a group; None: all that were gathered."""
    sizes = {s.step: s.sizes for s in found.group_sizes}
    pairs = {p.step: p for p in found.near_pairs}
    in_pool = {p.step: p for p in found.in_pool}
    parts = []
    for step in (s.id for s in found.pick.steps):
        groups = [g for g in found.groups if g.step == step]
        drawn = _tables(sizes.get(step, ()), in_pool.get(step))
        drawn += _near(pairs[step], pictures, beside(found, step)) if step in pairs else ""
        drawn += _groups(groups, pictures, most, beside(found, step))
        if drawn:
            parts.append(f"<h3>{text(step)}</h3>{drawn}")
    return section("duplicates", "Duplicates", *parts) if parts else ""


def beside(found: Found, step: str) -> str:
    """What the sample is that a dropped one names."""
    return found.filters[step].beside if step in found.filters else "stays"


# ---------------------------------------------------------------- numbers


def _tables(sizes: Iterable[tuple[int, int]], pool: InPool | None) -> str:
    """How many groups have how many members: as they were dropped, and as they hang together in the whole pool."""
    blocks = [_sizes("Groups of what was dropped and the one that stays", "samples in a group", sizes)]
    said = ""
    if pool is not None:
        blocks.append(_sizes("Groups that hang together in the whole pool", "samples in a group", pool.sizes))
        blocks.append(_distances(pool))
        said = f"<p class='soft'>{_in_words(pool)}</p>"
    filled = [b for b in blocks if b]
    return said + (f'<div class="columns">{"".join(filled)}</div>' if filled else "")


def _in_words(pool: InPool) -> str:
    said = f"In the whole pool, whoever was asked about: {number(pool.groups)} groups, the largest of "
    said += f"{number(pool.largest)}; {number(pool.pairs)} near pairs."
    if pool.most_equal > 1:
        said += f" The commonest hash or vector has {number(pool.most_equal)} samples."
    return said


def _sizes(title: str, head: str, sizes: Iterable[tuple[int, int]]) -> str:
    counted: dict[str, int] = {}
    for size, groups in sizes:
        label = next((label for most, label in SIZES if size <= most), "1,000 and more")
        counted[label] = counted.get(label, 0) + groups
    return _counted(title, head, "groups", counted.items())


def _distances(pool: InPool) -> str:
    rows = [(f"{value:,}", pairs) for value, pairs in pool.distances or ()]
    return _counted("Near pairs in the whole pool", "distance", "pairs", rows)


def _counted(title: str, head: str, what: str, rows: Iterable[tuple[str, int]]) -> str:
    """A table of counts with bars; nothing where there is none."""
    shown = list(rows)
    if not shown:
        return ""
    most = max(n for _, n in shown)
    cells = [[text(label) + bar([(n, "lose")], most, f"{n} {what} of {label}"), number(n)] for label, n in shown]
    return f"<div><h4>{text(title)}</h4>{table([(head, False), (what, True)], cells, title)}</div>"


# ---------------------------------------------------------------- pairs and groups


def _near(found: NearPairs, pictures: Pictures, named: str) -> str:
    """How far apart near samples are, and those nearest to the bound on both sides of it."""
    parts = []
    if found.spread is not None:
        parts.append(f'{KEY}<div class="plots">{histogram(found.spread)}</div>')
    if found.looked_at:
        parts.append(f"<p class='soft'>{_who(found)}</p>")
    if found.dropped:
        shown = figures.dropped_pairs(found.dropped, pictures, named)
        parts.append(f"<h4>Farthest apart of what was dropped</h4>{shown}")
    if found.kept:
        parts.append(f"<h4>Nearest to the bound of what both stayed</h4>{figures.kept_pairs(found.kept, pictures)}")
    elif found.looked_at:
        parts.append("<p class='soft'>No two samples that both stayed are near to the bound.</p>")
    return "".join(parts)


def _who(found: NearPairs) -> str:
    """Which samples the pairs are of."""
    said = f"Pairs of different hashes or vectors among {number(found.looked_at)} samples"
    if not found.drawn:
        return f"{said}: all that this filter compares."
    return (
        f"{said}, drawn from those that this filter compares so that near ones come together; pairs farther apart are "
        "rarer here than in the pool."
    )


def _groups(groups: Iterable[Group], pictures: Pictures, most: int | None, named: str) -> str:
    shown = ""
    for g in groups:
        kind = "group" if g.size == 2 else "group wide"
        title = f"{number(g.size)} alike"
        drawn = figures.group(g.lost[:most], g.keeper, g.size, pictures, named)
        shown += f"<div class='{kind}'><h4>{title}</h4>{drawn}</div>"
    return f'<h4>The largest groups</h4><div class="groups">{shown}</div>' if shown else ""
