"""CLIP scores of texts that were written: those of the web's text where it is the same, lists for lists."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.run.prints import Prints
from stages.base import IMAGE, Batch, Column, Need
from stages.clip import ClipScore
from tests.stages.clip_parts import TEXTS, Weights, batch, make_weights, picture, scored
from tests.stages.text_lists import MANY, ONE, many, one


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("clip"))


def images(count: int, broken: tuple[int, ...] = ()) -> list[bytes]:
    return [b"no picture" if i in broken else picture(i, 20 + 9 * i) for i in range(count)]


def asked(stage: ClipScore, rows: Batch) -> pa.Table:
    """The score as a pass over a shard makes it, after the vectors that it reads."""
    if not stage.look:
        embedding = stage.embedding()
        table = embedding.run(rows)
        rows.add({Column(embedding, n): table.column(n).combine_chunks() for n in table.column_names})
    found = stage.run(rows)
    assert found.schema == stage.writes()
    return found


@pytest.mark.parametrize("look", [False, True])
def test_a_caption_that_is_the_webs_text_has_its_score(weights: Weights, look: bool) -> None:
    _, expected = scored(ClipScore(weights=weights.ours, batch=4), batch())
    stage = ClipScore(weights=weights.ours, batch=4, text=ONE, look=look)
    rows = one(TEXTS, images(len(TEXTS), broken=(3,)), web=TEXTS[::-1])
    found = asked(stage, rows)
    assert found.column_names == ["clip_told_score", "error"]
    assert found.column("clip_told_score").to_pylist() == expected
    assert [e is None for e in found.column("error").to_pylist()] == [not (look and i == 3) for i in range(7)]


def test_lists_have_lists(weights: Weights) -> None:
    rows = [["a dog", None, "a cat " * 30], None, [], ["a dog", "a dog"]]
    stage = ClipScore(weights=weights.ours, batch=2, name="dfn", text=MANY)
    assert stage.writes().field("dfn_told_score").type == pa.list_(pa.float32())
    found = asked(stage, many(rows, images(4))).column("dfn_told_score").to_pylist()
    assert [None if f is None else len(f) for f in found] == [3, None, 0, 2]
    for i, j, text in ((0, 0, "a dog"), (0, 2, "a cat " * 30), (3, 1, "a dog")):
        (alone,) = scored(
            ClipScore(weights=weights.ours, name="dfn"), Batch.of(pa.table({"text": [text]}), [images(4)[i]])
        )[1]
        assert found[i][j] == pytest.approx(alone, abs=2.1e-4)
    assert found[0][1] is None
    assert found[3][0] == found[3][1]


def test_equal_texts_are_computed_once(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.clip_model import Clip

    counts: list[int] = []
    text_vectors = Clip.text_vectors
    monkeypatch.setattr(
        Clip, "text_vectors", lambda self, tokens, n: counts.append(len(tokens)) or text_vectors(self, tokens, n)
    )
    stage = ClipScore(weights=weights.ours, text=MANY, look=True)
    asked(stage, many([["a", "b", "a"], ["b", None], ["a"]], images(3)))
    assert counts == [2]


def test_nothing_to_score(weights: Weights) -> None:
    stage = ClipScore(weights=weights.ours, text=MANY, look=True)
    assert asked(stage, many([], [])).num_rows == 0
    assert asked(stage, many([None, []], images(2, (0, 1)))).column("clip_told_score").to_pylist() == [None, []]


def test_vectors_that_are_no_numbers_have_no_score(tmp_path: Path) -> None:
    import torch

    from training_smoke.config import Towers
    from training_smoke.towers import build
    from training_smoke.towers_file import save_towers

    tiny = Towers("tiny-conv", image_size=16, context=8)
    towers = build(tiny, 3)
    with torch.no_grad():
        towers.text_projection.weight.fill_(float("nan"))
    save_towers(tmp_path / "bad.pt", towers, tiny, {})
    found = asked(ClipScore(weights=str(tmp_path / "bad.pt"), text=MANY, look=True), many([["a"], []], images(2)))
    assert found.column(0).to_pylist() == [[None], []]
    assert found.column("error").to_pylist() == ["clip: the model's vector of the text is not finite", None]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=3)), max_size=5))
def test_the_company_of_a_text_does_not_change_its_score(weights: Weights, rows: list[Any]) -> None:
    rows = [row and [t and t.encode("utf8", "ignore").decode() for t in row] for row in rows]
    stage = ClipScore(weights=weights.ours, batch=3, text=MANY, look=True)
    together = asked(stage, many(rows, images(len(rows)))).column(0).to_pylist()
    for i, (row, found) in enumerate(zip(rows, together, strict=True)):
        (alone,) = asked(stage, many([row], [images(len(rows))[i]])).column(0).to_pylist()
        assert (found is None) == (row is None)
        if row is not None:
            assert [f is None for f in found] == [t is None for t in row]
            pairs = [(f, a) for f, a in zip(found, alone, strict=True) if f is not None]
            np.testing.assert_allclose([f for f, _ in pairs], [a for _, a in pairs], atol=2.1e-4)


# ---------------------------------------------------------------------------------------------- what names the column


def test_the_webs_score_is_what_it_was(weights: Weights) -> None:
    stage = ClipScore(weights=weights.ours, name="dfn", batch=8, cpus=2)
    made = stage.embedding()
    assert stage.identity() == {"name": "clip_score", "version": 1, "parameters": {"name": "dfn"}}
    assert stage.reads() == (Column(made, "dfn_image"), Column(made, "dfn_text"))
    assert stage.need() == Need()
    stage.open()
    assert stage._loaded is None  # reading vectors takes no model
    assert set(made.identity()["parameters"]) == {"weights", "model", "name", "batch", "precision"}


def test_fingerprint_of_a_written_texts_score(weights: Weights, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(Path(weights.ours).read_bytes())

    def hashed(**more: Any) -> str:
        return Prints().base(ClipScore(**{"weights": weights.ours, "text": MANY, **more}))

    assert hashed(weights=str(copy)) == hashed(device="cuda") == hashed(cpus=2) == hashed()
    others = [hashed(**m) for m in ({"text": ONE}, {"look": True}, {"batch": 8}, {"name": "dfn"}, {"text": "text"})]
    assert len({hashed(), *others}) == 6


def test_what_is_read_and_needed(weights: Weights) -> None:
    stage = ClipScore(weights=weights.ours, text=ONE)
    assert stage.reads() == (Column(stage.embedding(), "clip_image"), ONE)
    assert ClipScore(weights=weights.ours, text=ONE, look=True).reads() == (IMAGE, ONE)
    assert stage.need().memory_gb > 1
    assert pickle.loads(pickle.dumps(stage)) == stage
