"""`curate diff A B`: which samples B keeps that A does not and the other way round, by filter, with pictures.

    opened, a, b = two_sides("demo", "strict.yaml", pool="pool", overrides=[])
    found = compare(opened, a, b)
    found.only_a, found.only_b, found.jaccard

Nothing is run: both must be picks that are there. Samples that were removed from the pool count nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from curate.ask.diff.numbers import Diff, compare
from curate.ask.diff.say import as_lines, as_object
from curate.ask.diff.sides import two_sides
from curate.errors import UserError

__all__ = ["Diff", "compare", "print_diff", "two_sides"]

SAMPLES = 24  # on each contact sheet


def print_diff(
    a: str, b: str, *, pool: str | None, overrides: Sequence[str], out: Path | None, page: bool, as_json: bool
) -> None:
    """Print the comparison, and write its page.

    Args:
        a, b: recipes, picks in full, a .npy subset or a .txt of uids. overrides: of B.
        out: the page; without it ``<A>-<B>-diff.html``, and with `as_json` none.

    Raises:
        UserError: see `two_sides` and `compare`; `out` without a page.
    """
    if out is not None and not page:
        raise UserError("--no-page and --out contradict each other; leave one of them out")
    opened, first, second = two_sides(a, b, pool=pool, overrides=overrides)
    same = first.pick is not None and first.pick == second.pick
    wanted = page and (out is not None or not (as_json or same))
    found = compare(opened, first, second, samples=SAMPLES if wanted else 0)
    print(json.dumps(as_object(found), indent=1, default=str) if as_json else "\n".join(as_lines(found)))
    if wanted:
        from curate.ask.diff.page import write_page

        written = write_page(opened, found, out or Path(f"{first.slug}-{second.slug}-diff.html"))
        if not as_json:
            print(f"\npage: {written}")
