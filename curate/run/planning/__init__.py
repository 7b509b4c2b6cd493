"""`curate plan`: what a run would do, what is there already, why the rest is not, and what it costs.

    plan = make_plan(load_recipe("recipe.yaml"))
    [p.step.name for p in plan.steps if p.open], plan.totals.gpu_hours

Nothing is run and nothing is written into the pool, which need not even be there.
"""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING

from curate.errors import UserError
from curate.run.planning.as_json import as_object
from curate.run.planning.make import make_plan
from curate.run.planning.plan import Plan
from curate.run.planning.show import as_lines

if TYPE_CHECKING:
    from curate.recipe import Recipe

__all__ = ["Plan", "make_plan", "print_plan"]


def print_plan(
    recipe: Recipe,
    *,
    as_json: bool,
    executor: str | None = None,
    workers: int | None = None,
    rows: float | None = None,
    sample: int = 0,
) -> None:
    """Print what a run would do; see `make_plan`.

    Args:
        rows: also what so many rows of input would cost.

    Raises:
        UserError: no finite number of rows; and see `make_plan`.
    """
    if rows is not None and not math.isfinite(rows):
        raise UserError(f"--rows {rows:g}: it is a number such as 12.8e9")
    plan = make_plan(recipe, executor=executor, workers=workers, sample=sample)
    text = json.dumps(as_object(plan, rows), indent=1) if as_json else "\n".join(as_lines(plan, rows))
    sys.stdout.write(text + "\n")
