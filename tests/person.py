"""Somebody with a folder, who writes recipes, runs them, and reads what is said."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.errors import UserError
from curate.recipe import load_recipe
from curate.run.job import Job
from curate.run.progress import Progress

KEEP_ALL = "  - image_size: {min_side: 1}\n"


@dataclass
class Person:
    """Somebody with a folder, who writes recipes and runs them."""

    folder: Path

    @property
    def pool(self) -> str:
        return str(self.folder / "pool")

    def recipe(self, source: str, filters: str = KEEP_ALL, rest: str = "") -> str:
        path = self.folder / "r.yaml"
        path.write_text(f"recipe: mine\npool: {self.pool}\nsource: {source}\nfilters:\n{filters}{rest}")
        return str(path)

    def run(self, source: str, filters: str = KEEP_ALL, rest: str = "", pack: bool = False) -> tuple[Any, list[str]]:
        """(outcome, lines said); packs into the pool."""
        said = io.StringIO()
        job = Job(load_recipe(self.recipe(source, filters, rest)), "inline")
        with Progress(None, "a test", said) as progress:
            outcome = job.run(progress)
            if pack:
                job.pack(progress, outcome.pick)
        return outcome, said.getvalue().splitlines()

    def error(self, source: str, filters: str = KEEP_ALL, rest: str = "") -> str:
        with pytest.raises(UserError) as caught:
            self.run(source, filters, rest)
        return str(caught.value)

    def sql(self, query: str) -> list[dict[str, Any]]:
        return list(curate.open(self.pool).sql(query).to_arrow().to_pylist())

    def files(self) -> set[str]:
        """Everything in the folder but the pool."""
        found = (p.relative_to(self.folder) for p in self.folder.rglob("*") if p.is_file())
        return {str(p) for p in found if p.parts[0] not in ("pool", "r.yaml")}
