"""docs/filters.md names every stage and filter that a recipe may name, and every file that a recipe asks for."""

from __future__ import annotations

import re
from pathlib import Path

from curate.catalog import FILTERS, STAGES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "filters.md").read_text()


def first_cells(heading: str) -> set[str]:
    """Names in the first column of the table below a heading."""
    section = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_stage_and_filter_has_a_row() -> None:
    assert first_cells("Stages") == STAGES.keys()
    assert first_cells("Filters") == FILTERS.keys()


def test_every_file_that_a_recipe_asks_for_is_explained() -> None:
    asked = {
        name.rstrip("/")
        for path in (ROOT / "recipes").glob("*.yaml")
        for name in re.findall(r"given/([\w.-]+)", path.read_text())
    }
    assert {name.rstrip("/") for name in first_cells("What you give")} == asked
