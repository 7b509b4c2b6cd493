"""A comparison of recipes for a person: a page, lines for the terminal, an object for JSON.

    write_page(comparison, pool, Path("comparison.html"))
    print("\\n".join(say(comparison)))
    json.dumps(as_object(comparison))

All three draw on the same sentences (`verdict`) and the same numbers; none computes a statistic of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from curate.ask.judge.say import as_object, say
from curate.ask.judge.verdict import Verdict, verdict

if TYPE_CHECKING:
    from curate.pool.pool import Pool
    from curate.run.compare.found import Comparison

__all__ = ["Verdict", "as_object", "say", "verdict", "write_page"]


def write_page(comparison: Comparison, pool: Pool, out: Path) -> Path:
    """Write the page and return its path. The same findings over the same pool give the same bytes.

    Raises:
        UserError: a pick is not finished, or a file of the pool that the page shows is missing or is of other rows.
    """
    from curate.ask.judge.page import write

    return write(comparison, pool, out)
