"""A proposed batch: measured, near the fastest, and said so that it can be put into a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages import clip_batch
from stages.clip_batch import Rate, main, propose
from stages.clip_model import Clip
from tests.stages.clip_parts import Weights, make_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("clip"))


def test_every_size_is_measured(weights: Weights) -> None:
    found = propose(weights.ours, precisions=("fp32", "bf16"), batches=(2, 4), seconds=0.01)
    assert [(r.precision, r.batch) for r in found.measured] == [("fp32", 2), ("fp32", 4), ("bf16", 2), ("bf16", 4)]
    assert found.chosen in found.measured
    assert all(r.images_per_s > 0 and r.texts_per_s > 0 for r in found.measured)
    assert f"in the recipe: batch: {found.batch}, precision: {found.precision}" in "\n".join(found.lines())


def test_the_smallest_near_the_fastest_is_chosen(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {2: 50.0, 4: 98.0, 8: 100.0, 16: 99.0}

    def rate(clip: Clip, precision: clip_batch.Precision, batch: int, seconds: float, cpus: int) -> Rate | None:
        return Rate(precision, batch, speeds[batch], 1e9) if batch in speeds else None

    monkeypatch.setattr(clip_batch, "_rate", rate)
    found = propose(weights.ours, precisions=("fp32",), batches=(2, 4, 8, 16, 32, 64))
    assert found.batch == 4
    assert len(found.measured) == 4  # nothing is tried beyond what memory holds
    with pytest.raises(ValueError, match="not even 32 pictures fit"):
        propose(weights.ours, precisions=("fp32",), batches=(32,))


def test_on_the_command_line(
    weights: Weights, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(clip_batch.BATCHES, "cpu", (2,))
    main([weights.ours, "--seconds", "0.01"])
    assert "in the recipe: batch: 2, precision: " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: clip: no weights at"):
        main([str(tmp_path / "none.pt")])
