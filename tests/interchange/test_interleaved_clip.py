"""Pictures assigned to sentences by the vectors that a pool has of them, and those that its CLIP makes of texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.errors import UserError
from stages.clip_model import load
from stages.decode import to_array
from tests.interchange.interleaved_parts import DOCUMENTS, given, picture, pictures, read_zip, run, taken
from tests.stages.clip_parts import make_weights


def test_assigned_by_the_clip_of_a_column(tmp_path: Path) -> None:
    """The similarities are the cosines that the model itself gives, and the places those that they ask for."""
    weights = make_weights(tmp_path).ours  # skips where there is no torch
    clip = f'{{weights: "{weights}", batch: 4}}'
    made_of = f"columns:\n  - clip_embedding: {clip}\n  - clip_score: {clip}\n"
    pictures(tmp_path / "files", range(6))
    run(tmp_path, taken(tmp_path, DOCUMENTS), "  - {id: seen, where: 'width > 0'}\n", more=made_of)
    given(tmp_path, assign="clip_image")
    first = read_zip(tmp_path / "out")[0]
    model = load(None, str(weights))
    texts = model.text_vectors(model.tokens(first["text_list"]), 32)
    images = model.image_vectors(model.squares([to_array(picture(n), side=None) for n in range(3)]), 32)
    assert np.allclose(first["similarity_matrix"], images @ texts.T, atol=2e-3)
    where = [i["matched_text_index"] for i in first["image_info"]]
    assert sorted(where) == [0, 1, 2]
    assert [i["matched_sim"] for i in first["image_info"]] == [
        row[at] for row, at in zip(first["similarity_matrix"], where, strict=True)
    ]
    with pytest.raises(UserError, match="has no CLIP that writes it"):
        given(tmp_path, "score", assign="clip_picture")
    given(tmp_path, "score", assign="clip_score")  # of the same vectors
    assert read_zip(tmp_path / "score") == read_zip(tmp_path / "out")
