"""The documents' code runs: the example of docs/writing.md end to end, recipes through the loader."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import jpeg

from curate.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "docs/recipes.md"])
def test_recipes_of_the_documents_load(name: str, tmp_path: Path) -> None:
    found = blocks(name, "yaml")
    assert found
    for text in found:
        (tmp_path / "r.yaml").write_text(text)
        assert load_recipe(str(tmp_path / "r.yaml")).name == "mine"


def test_the_example_of_ones_own_stage_and_filter_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, notebook, row_filter = blocks("docs/writing.md", "python")
    (recipe,) = blocks("docs/writing.md", "yaml")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "edges.py").write_text(stage)
    (tmp_path / "mine" / "edges_filter.py").write_text(row_filter)
    (tmp_path / "recipe.yaml").write_text(recipe)
    photos = pa.table({"image": pa.array([jpeg(i) for i in range(20)]), "text": [f"noise {i}" for i in range(20)]})
    pq.write_table(photos, tmp_path / "photos.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    exec(compile(notebook, "docs/writing.md", "exec"), {})
    assert "edge_share" in capsys.readouterr().out

    from curate.run.main import run_recipe

    outcome = run_recipe(
        load_recipe("recipe.yaml"), "inline", None, pack=False, report=tmp_path / "report.html", command="test"
    )
    assert outcome.rows == 20
    assert outcome.kept + sum(outcome.dropped.values()) == 20
    assert (tmp_path / "report.html").stat().st_size > 1000
    for module in [m for m in sys.modules if m.startswith("mine")]:
        del sys.modules[module]
