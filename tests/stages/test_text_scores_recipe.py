"""Scores of written texts in a recipe: computed for those that have the texts, read by filters under plain names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch", reason="torch is not installed: scores by models are not tested")
pytest.importorskip("transformers", reason="transformers is not installed: image_text_match is not tested")

from stages.caption_scores import overlap
from tests.person import Person
from tests.stages.clip_parts import make_weights, picture
from tests.training_smoke.families.blip_cases import SETTINGS, TOWERS, made, moved
from training_smoke.config import Config
from training_smoke.towers_file import save_model

ROWS = 12


@pytest.fixture
def person(tmp_path: Path) -> Person:
    texts = [None if i == 4 else f"picture number {i}" for i in range(ROWS)]
    images = pa.array([picture(i, 20 + 9 * i) for i in range(ROWS)], pa.binary())
    pq.write_table(pa.table({"image": images, "text": texts, "n": range(ROWS)}), tmp_path / "rows.parquet")
    return Person(tmp_path)


def test_the_best_of_many_captions_that_match(person: Person, tmp_path: Path) -> None:
    clip = make_weights(tmp_path).ours
    save_model(tmp_path / "blip.pt", moved(made(), 0.1), Config(objective="blip", towers=TOWERS, settings=SETTINGS), {})
    columns = (
        "columns:\n  - tests.stages.text_lists:Teller\n"
        f"  - clip_score: {{weights: {clip}, name: dfn, batch: 4}}\n"
        f"  - clip_score: {{weights: {clip}, name: dfn, batch: 4, text: told}}\n"
        "  - best_caption: {text: told, score: dfn_told_score, name: best}\n"
        "  - caption_scores: {text: best}\n"
        f"  - image_text_match: {{weights: {tmp_path}/blip.pt, also: [best], batch: 4}}\n"
    )
    filters = (
        '  - {id: first, where: "n < 8", on_missing: drop}\n'
        '  - {id: scored, where: "best_itm >= 0 AND best_words > 0 AND itm >= 0", on_missing: drop}\n'
    )
    outcome, _ = person.run(
        f"{{path: {person.folder}/rows.parquet, url: null}}\ningest: {{resize: none}}", filters, columns
    )
    rows = {r["n"]: r for r in person.sql("SELECT * FROM samples")}
    assert outcome.kept == 7
    for n, row in rows.items():
        if n >= 8 or n == 4:  # not asked, or without a text
            assert row["best"] is row["best_itm"] is row["best_words"] is row["itm"] is None
            continue
        first, web, loop = (t["text"] for t in row["told"])
        scores = row["dfn_told_score"]
        assert scores[1] == pytest.approx(row["dfn_score"], abs=1.1e-4)  # the same text by the same model
        assert row["best_score"] == max(scores[:2])  # the third repeats itself
        assert row["best"] == (first, web)[scores.index(row["best_score"])] != loop
        assert row["best_words"] == len(row["best"].split())
        assert row["best_overlap"] == pytest.approx(overlap(row["best"].split(), web.split()))
        assert 0 <= row["best_itm"] <= 1
        if row["best"] == web:
            assert row["best_itm"] == pytest.approx(row["itm"], abs=2e-5)
