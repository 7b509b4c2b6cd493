"""Batches of texts of like length: each window reads what it would have read, cheaper, and again the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training_smoke.pack_parts import codes, thirty, words
from training_smoke.by_length import ByLength
from training_smoke.errors import TrainingError
from training_smoke.order import Draw, Order, Shape
from training_smoke.packs import Pack
from training_smoke.resident import ResidentLoader

SIZES = np.array([40, 25, 35])
LENGTHS = np.random.default_rng(1).integers(1, 50, SIZES.sum())
STEPS, WINDOW, BATCH = 14, 4, 6


def grouped(rank: int = 0, world: int = 1, steps: int = STEPS, seed: int = 3) -> ByLength:
    def costs(draw: Draw) -> np.ndarray:
        found: np.ndarray = LENGTHS[draw.sample]
        return found

    return ByLength(Order((Shape(SIZES),), seed=seed, batch=BATCH), costs, WINDOW, steps, rank, world)


def read(order: ByLength | Order, steps: range) -> list[tuple[int, int, int]]:
    draws = [order.draw(step) for step in steps]
    return sorted((int(t), int(p), int(s)) for d in draws for t, p, s in zip(d.turn, d.pack, d.sample, strict=True))


@pytest.mark.parametrize("window", [range(0, 4), range(4, 8), range(12, 14)])
def test_a_window_reads_the_same_samples(window: range) -> None:
    """The last one is cut by the horizon."""
    assert read(grouped(), window) == read(grouped().order, window)


def test_texts_of_a_batch_are_of_like_length() -> None:
    def padding(order: ByLength | Order) -> float:
        found = [LENGTHS[order.draw(step).sample] for step in range(12)]
        return float(np.mean([lengths.max() - lengths.mean() for lengths in found]))

    assert padding(grouped()) < 0.35 * padding(grouped().order)


def test_it_is_a_function_of_the_step() -> None:
    first, again = grouped(), grouped()
    forward = [first.draw(step).turn.tolist() for step in range(STEPS)]
    backward = [again.draw(step).turn.tolist() for step in reversed(range(STEPS))][::-1]
    assert forward == backward
    assert forward != [grouped(seed=4).draw(step).turn.tolist() for step in range(STEPS)]


def test_neither_steps_nor_rows_stand_by_length() -> None:
    means = [LENGTHS[grouped().draw(step).sample].mean() for step in range(12)]
    windows = [means[i : i + WINDOW] for i in range(0, 12, WINDOW)]
    assert any(w != sorted(w) and w != sorted(w, reverse=True) for w in windows)
    rows = [LENGTHS[grouped().draw(step).sample].tolist() for step in range(12)]
    assert any(row != sorted(row) for row in rows)


def test_ranks_share_the_batch() -> None:
    for step in range(STEPS):
        whole = grouped().draw(step).turn.tolist()
        parts = [grouped(rank, 3).draw(step).turn.tolist() for rank in range(3)]
        assert [turn for part in parts for turn in part] == whole


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(TrainingError, match="1 step or more"):
        ByLength(Order((Shape(SIZES),), batch=BATCH), lambda draw: draw.turn, 0, STEPS)


# ---------------------------------------------------------------- the loader


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack.open(thirty(tmp_path_factory.mktemp("pack")))


def letters(tokens: Tensor) -> Tensor:
    return (tokens != 0).sum(dim=1)


def test_pictures_and_texts_stay_together(pack: Pack, tmp_path: Path) -> None:
    """The loader's batches, put in another order: the same rows, groups found over each new batch."""
    course = {"packs": pack, "batch": 5, "size": 8, "seed": 2, "steps": 8, "tokenize": codes, "folder": tmp_path}
    plain, sorted_, resumed = (
        list(ResidentLoader(**course, groups=True, **more))  # type: ignore[arg-type]
        for more in (
            {},
            {"lengths": letters, "group_steps": 4},
            {"lengths": letters, "group_steps": 4, "start_step": 3},
        )
    )

    def rows(batches: list) -> list[tuple[str, str, int]]:  # type: ignore[type-arg]
        return sorted(
            (uid, text, int(image.sum()))
            for b in batches
            for uid, text, image in zip(b.uids, words(b.tokens), b.images, strict=True)
        )

    assert rows(plain[:4]) == rows(sorted_[:4])
    assert rows(plain) == rows(sorted_)
    assert [b.uids for b in plain] != [b.uids for b in sorted_]
    for ours, again in zip(sorted_[3:], resumed, strict=True):
        assert (ours.step, ours.uids) == (again.step, again.uids)
        assert torch.equal(ours.images, again.images)
        assert torch.equal(ours.tokens, again.tokens)
    for batch in sorted_:
        assert batch.groups is not None
        same_uid = [[a == b for b in batch.uids] for a in batch.uids]
        assert (torch.tensor(same_uid) <= (batch.groups[:, None] == batch.groups)).all()


def test_without_lengths_samples_are_only_shuffled(pack: Pack, tmp_path: Path) -> None:
    loader = ResidentLoader(
        packs=pack,
        batch=5,
        size=8,
        seed=2,
        steps=4,
        tokenize=codes,
        folder=tmp_path,
        lengths=lambda _: None,
        group_steps=2,
    )
    assert sorted(uid for b in loader for uid in b.uids) == sorted(
        uid
        for b in ResidentLoader(packs=pack, batch=5, size=8, seed=2, steps=4, tokenize=codes, folder=tmp_path)
        for uid in b.uids
    )
