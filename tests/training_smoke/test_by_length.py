"""Batches of texts of like length: each window reads what it would have read, cheaper, and again the same."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training_smoke.pack_parts import codes, packed, pictures, put, thirty, words
from tests.training_smoke.test_loader import same
from training_smoke.by_length import Ahead, ByLength, Kept
from training_smoke.errors import TrainingError
from training_smoke.loader import Batch, Loader
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


# ---------------------------------------------------------------- the loader that decodes as it goes


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """48 samples in 6 tars, their texts of 1 to 40 letters."""
    samples = [pictures(1, i, text="x" * (1 + i * 7 % 40))[0] for i in range(48)]
    return Pack.open(packed(tmp_path_factory.mktemp("uneven"), samples, samples=8))


def streamed(packs: Any, **changes: Any) -> Loader:
    """Two epochs of `uneven`, put together by length over four steps of six."""
    settings = {"batch": 6, "size": 8, "seed": 2, "steps": 16, "tokenize": codes, "workers": 2}
    return Loader(packs=packs, **settings | {"lengths": letters, "group_steps": 4} | changes)


def wasted(batches: list[Batch]) -> float:
    """The share of places that are padding, each batch being as wide as its longest text."""
    lengths = [letters(b.tokens) for b in batches]
    return 1 - sum(int(n.sum()) for n in lengths) / sum(len(n) * int(n.max()) for n in lengths)


def test_streamed_texts_are_put_together_by_length_each_sample_once_in_an_epoch(uneven: Pack) -> None:
    found, plain = list(streamed(uneven)), list(streamed(uneven, group_steps=1))
    assert wasted(found) < 0.5 * wasted(plain)
    for epoch in (found[:8], found[8:]):
        assert len({uid for batch in epoch for uid in batch.uids}) == sum(len(b.uids) for b in epoch) == 48


def test_streamed_batches_are_the_resident_ones(pack: Pack, uneven: Pack, tmp_path: Path) -> None:
    """Of a mixture, for a rank, with groups, from within a window that the horizon cuts."""
    more = {"rank": 1, "world": 2, "groups": True, "start_step": 5, "steps": 11, "group_steps": 3}
    ours = streamed({pack: 1, uneven: 2}, **more)
    theirs = ResidentLoader(
        packs={pack: 1, uneven: 2}, batch=6, size=8, seed=2, tokenize=codes, folder=tmp_path, lengths=letters, **more
    )
    assert [same(*pair) for pair in zip(ours, theirs, strict=True)] == [True] * 6


def test_a_streamed_run_goes_on_from_any_step_as_if_nothing_had_been(uneven: Pack) -> None:
    whole = list(streamed(uneven, groups=True))
    for start in (1, 3, 4, 9, 15, 16):
        again = list(streamed(uneven, groups=True, start_step=start))
        assert [same(*pair) for pair in zip(again, whole[start:], strict=True)] == [True] * (16 - start)


def test_ranks_share_what_was_put_together(uneven: Pack) -> None:
    ranks = [streamed(uneven, groups=True, rank=rank, world=2) for rank in range(2)]
    for batch, *parts in zip(streamed(uneven, groups=True), *ranks, strict=True):
        assert [uid for part in parts for uid in part.uids] == batch.uids
        for name in ("images", "tokens", "groups"):
            assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(batch, name))


def test_a_remote_pack_is_put_together_alike(uneven: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://grouped-{tmp_path.name}"
    put(Path(uneven.url), url)
    remote = Pack.open(url, tmp_path / "cache")
    here, there = streamed(uneven, window=10), streamed(remote, window=10)
    assert [same(*pair) for pair in zip(there, here, strict=True)] == [True] * 16
    monkeypatch.setenv("CURATE_CACHE_GB", str(0.9 * uneven.bytes / 1e9))
    streamed(remote, window=10, group_steps=1)
    with pytest.raises(TrainingError, match=r"a window of 58 samples .* smaller window or fewer group_steps"):
        streamed(remote, window=10)


def test_texts_are_measured_once_and_tokenised_by_one_thread_at_a_time(
    uneven: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    plain, busy, before = uneven.texts, threading.Lock(), threading.active_count()
    monkeypatch.setattr(uneven, "texts", lambda i: [read.append(i), plain(i)][1])

    def alone(texts: list[str]) -> Tensor:
        assert busy.acquire(blocking=False)
        time.sleep(0.002)
        busy.release()
        return codes(texts)

    assert len(list(streamed(uneven, tokenize=alone, groups=True))) == 16
    assert len(read) == 16 * 6
    assert threading.active_count() == before


def test_a_text_that_cannot_be_measured_ends_the_run(uneven: Pack) -> None:
    def refuse(texts: list[str]) -> Tensor:
        raise RuntimeError("no such word")

    with pytest.raises(RuntimeError, match="no such word"):
        list(streamed(uneven, tokenize=refuse))


def test_the_next_window_is_measured_while_this_one_is_read() -> None:
    """Of a window of four, taken up at its second step: all of it and of the next at once what was missed."""
    asked: list[int] = []
    order = Order((Shape(SIZES),), seed=3, batch=BATCH)
    by_length = ByLength(order, lambda draw: np.array([asked.append(draw.step)]), 4, STEPS)
    with ThreadPoolExecutor(1) as thread:
        ahead = Ahead(by_length, 5, thread)
        for step in range(5, STEPS):
            ahead.near(step)
            thread.submit(lambda: None).result()
            assert asked == list(range(4, min(step + 5, STEPS)))


def test_what_is_read_a_window_later_is_near_too() -> None:
    order = Order((Shape(np.full(20, 10)),), seed=3, batch=10, window=20)
    near = ByLength(order, lambda draw: draw.turn, 6, 20).near(3)
    assert {*order.near(3), *order.near(9)} == {*near}
    assert len(near) == len({*near}) > len(order.near(3))


def test_costs_are_held_while_they_may_be_asked_for() -> None:
    asked: list[int] = []
    kept = Kept(lambda draw: np.array([asked.append(draw.step), draw.step]), 3)
    draws = [Order((Shape(SIZES),), batch=BATCH).draw(step) for step in range(5)]
    with ThreadPoolExecutor(4) as threads:
        assert {int(cost[1]) for cost in threads.map(kept, [draws[0]] * 8)} == {0}
    for draw in draws:
        assert kept(draw)[1] == kept(draw)[1] == draw.step
    assert asked == [0, 1, 2, 3, 4]
    kept(draws[2]), kept(draws[0])
    assert asked == [0, 1, 2, 3, 4, 0]
